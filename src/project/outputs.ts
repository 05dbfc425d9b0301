import { existsSync, lstatSync, renameSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { Staging } from '../core/staging.ts';

/**
 * Makes finished outputs appear in `out`: the directory at once where there is none, else file by file in the order
 * given, without giving way to anything in between. Other files in `out` are left alone.
 */
export async function publish(staging: Staging, out: string, names: string[]): Promise<void> {
  try {
    if (!existsSync(out)) return await rename(staging.path, out);
    const paths = names.map((name) => join(out, name));
    const blocked = paths.find((path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory());
    if (blocked !== undefined) {
      throw usageError('ERR_OUTPUT_KIND', `expected to write the file ${blocked}, found a directory of that name`);
    }
    for (const name of names) renameSync(join(staging.path, name), join(out, name));
  } catch (error) {
    throw ioError(error, `cannot write to ${out}`);
  }
}
