import { createHash } from 'node:crypto';
import { type BigIntStats, lstatSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import canonicalize from 'canonicalize';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { fileIdentity } from './identity.ts';
import { badPath, badPathSet, comparePaths } from './paths.ts';

/**
 * A file of a model: `path` is relative, `/`-separated, NFC; `absolute` is where it lies; `mode` has the permission bits; `identity` says
 * which file it was (identity.ts).
 */
export interface ModelFile {
  path: string;
  absolute: string;
  size: number;
  mode: number;
  identity: string;
}

/** More files than any model has; it bounds the index of a sealed model. */
export const MAX_FILES = 100_000;
/** Entries of a directory between two turns of the event loop. */
const BATCH = 512;

/**
 * The files of a model, a file or a directory, sorted by path. Links and anything that is neither file nor directory are refused: what
 * is sealed must be what was looked at. Throws `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_ENTRY`, `ERR_MODEL_EMPTY` (exit 2).
 */
export async function listModel(path: string): Promise<ModelFile[]> {
  try {
    return await list(path);
  } catch (error) {
    throw ioError(error, `cannot read the model ${path}`);
  }
}

async function list(path: string): Promise<ModelFile[]> {
  const root = resolve(path);
  let stat: BigIntStats;
  try {
    stat = await lstat(root, { bigint: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw usageError('ERR_MODEL_NOT_FOUND', `there is no model at ${path}`, { cause: error });
  }
  const files: ModelFile[] = [];
  if (stat.isFile()) files.push(entry(basename(root), root, stat));
  else if (stat.isDirectory()) await walk(root, '', files);
  else throw refuse(path, stat.isSymbolicLink() ? 'is a symbolic link' : 'is neither a file nor a directory');
  if (files.length === 0) throw usageError('ERR_MODEL_EMPTY', `the model ${path} has no files`);
  const problem = badPathSet(files.map((file) => file.path));
  if (problem) throw usageError('ERR_MODEL_ENTRY', `the model ${path} cannot be named portably: ${problem}`);
  return files.sort((a, b) => comparePaths(a.path, b.path));
}

async function walk(directory: string, prefix: string, files: ModelFile[]): Promise<void> {
  // As bytes: a name that is not UTF-8 would otherwise be read as another one.
  const names = await readdir(directory, { encoding: 'buffer' });
  for (const [i, bytes] of names.entries()) {
    // A promise for each of a hundred thousand files would take longer than the look, and three times the memory.
    if (i % BATCH === BATCH - 1) await setImmediate();
    const name = bytes.toString('utf8');
    const path = `${prefix}${name}`;
    if (!Buffer.from(name).equals(bytes)) throw refuse(path, 'is not named in UTF-8');
    const absolute = join(directory, name);
    const stat = lstatSync(absolute, { bigint: true });
    if (stat.isDirectory()) await walk(absolute, `${path}/`, files);
    else if (stat.isFile()) files.push(entry(path, absolute, stat));
    else throw refuse(path, stat.isSymbolicLink() ? 'is a symbolic link' : 'is not a regular file');
    if (files.length > MAX_FILES)
      throw usageError('ERR_MODEL_ENTRY', `expected at most ${MAX_FILES} files in a model, found more`);
  }
}

function entry(name: string, absolute: string, stat: BigIntStats): ModelFile {
  const path = name.normalize('NFC');
  const problem = badPath(path);
  if (problem) throw refuse(path, problem);
  return { path, absolute, size: Number(stat.size), mode: Number(stat.mode) & 0o777, identity: fileIdentity(stat) };
}

const refuse = (path: string, why: string) =>
  usageError(
    'ERR_MODEL_ENTRY',
    `the model entry ${JSON.stringify(path)} ${why}; expected regular files with portable names`,
  );

/**
 * The model digest, hex: SHA-256 of the RFC 8785 form of `predicate.resources` of OpenSSF Model Signing v1 (method "files", sorted by
 * name). sealed-model.md, "Model digest".
 */
export function modelDigest(resources: { name: string; sha256: string }[]): string {
  const sorted = [...resources].sort((a, b) => comparePaths(a.name, b.name));
  // The form of a list is the forms of its items between commas: one at a time, as there can be a hundred thousand.
  const hash = createHash('sha256').update('[');
  for (const [i, { name, sha256 }] of sorted.entries())
    hash.update(`${i > 0 ? ',' : ''}${canonicalize({ algorithm: 'sha256', digest: sha256, name })}`);
  return hash.update(']').digest('hex');
}
