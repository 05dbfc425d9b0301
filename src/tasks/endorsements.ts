import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { mergeEndorsements, parseEndorsements } from '../attest/endorsements.ts';
import type { Endorsements } from '../attest/index.ts';
import { usageError } from '../core/errors.ts';
import { ioError, readSmallFile } from '../core/files.ts';

const MOST_BYTES = 4 << 20;
const MOST_FILES = 4096;

/**
 * Reads `--endorsements`: one file, or a directory of files (hidden ones are left out). A file that is none is an error, so
 * that a revocation list with a typing mistake is not passed over. Throws `ERR_ENDORSEMENTS_MALFORMED` or `ERR_FILE_*`.
 */
export async function readEndorsements(path: string): Promise<Endorsements> {
  const files = await list(path);
  if (files.length > MOST_FILES) {
    throw usageError(
      'ERR_ENDORSEMENTS_MALFORMED',
      `${path}: expected at most ${MOST_FILES} files, found ${files.length}`,
    );
  }
  const found: Endorsements[] = [];
  for (const file of files) found.push(parseEndorsements(await readSmallFile(file, 'endorsement', MOST_BYTES), file));
  return mergeEndorsements(found);
}

async function list(path: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const names = await readdir(path);
    return names
      .filter((name) => !name.startsWith('.'))
      .sort()
      .map((name) => join(path, name));
  } catch (error) {
    throw ioError(error, `cannot read the endorsements ${path}`);
  }
}
