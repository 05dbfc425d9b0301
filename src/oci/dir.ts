import { lstat, readdir, readlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { linkFlaw } from '../image/cpio-format.ts';
import { changed, examineFile } from './dir-read.ts';
import type { FlattenOptions } from './flatten.ts';
import { encodeListing, listingDigest } from './flatten-listing.ts';
import { compareBytewise, type FlatImage, type ImageEntry, NOTHING_LEFT_OUT, notesOf } from './flatten-types.ts';
import { shown } from './json.ts';
import { Budget } from './layer-index.ts';
import { pathFlaw } from './layer-names.ts';

/** Files that are read at the same time. */
const AT_ONCE = 4;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

interface Found {
  entry: ImageEntry;
  /** Of directories, when they were listed. */
  mtime?: bigint;
}

/**
 * Lists a directory as a root file system, as git would: root owns everything, files are 0755 if their owner may execute
 * them and 0644 otherwise, directories 0755, symlinks are kept verbatim and never followed, several names of one file
 * are several files. Unlike git it keeps empty directories. Devices, FIFOs and sockets are left out and counted.
 *
 * `digest` ("sha256:HEX") stands for names, types, modes and contents; it is what a lock pins. The contents stay where they are
 * and are compared with their digests when they are read (`imageTree`).
 *
 * Throws `ERR_ROOTFS_CHANGED`, `ERR_ROOTFS_ENTRY` (a name or link that a ramdisk cannot hold), `ERR_LAYER_TOO_LARGE`,
 * `ERR_FILE_*`; an AbortError when `signal` says so.
 */
export async function flattenDirectory(
  path: string,
  { onProgress, signal, limits }: FlattenOptions = {},
): Promise<FlatImage & { digest: string }> {
  const budget = new Budget(limits);
  const found: Found[] = [];
  const special = { count: 0 };
  const top = await directoryTime(path, '');
  await walk(path, '', found, special, budget, signal);
  found.sort((a, b) => compareBytewise(a.entry.path, b.entry.path));
  const files = found.map(({ entry }) => entry).filter(({ type }) => type === 'file');
  let next = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    for (let entry = files[next++]; entry !== undefined; entry = files[next++]) {
      signal?.throwIfAborted();
      const { size, mode, sha256 } = await examineFile(path, entry.path);
      budget.spend('bytes', size, path);
      Object.assign(entry, { size, mode: (mode & 0o100) === 0 ? 0o644 : 0o755, sha256 });
      done++;
      onProgress?.({ phase: 'reading the root file system', done, total: files.length, unit: 'items' });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  for (const { entry, mtime } of [...found, { entry: { path: '' }, mtime: top }]) {
    if (mtime !== undefined && (await directoryTime(path, entry.path)) !== mtime) throw changed(join(path, entry.path));
  }
  const leftOut = { ...NOTHING_LEFT_OUT, special: special.count };
  const entries = found.map(({ entry }) => entry);
  const flat: FlatImage = { entries, diffIds: [], leftOut, notes: notesOf(leftOut), directory: path };
  return { ...flat, digest: `sha256:${listingDigest(encodeListing(flat, null))}` };
}

/** One regular file, as `flattenDirectory` would list it in its directory. Throws `ERR_ROOTFS_CHANGED`, `ERR_FILE_*`. */
export async function listFile(path: string): Promise<FlatImage> {
  const [directory, name] = [dirname(path), basename(path)];
  const { size, mode, sha256 } = await examineFile(directory, name);
  const bits = (mode & 0o100) === 0 ? 0o644 : 0o755;
  const entry: ImageEntry = { path: name, type: 'file', mode: bits, uid: 0, gid: 0, size, sha256 };
  return { entries: [entry], diffIds: [], leftOut: NOTHING_LEFT_OUT, notes: [], directory };
}

async function walk(
  root: string,
  at: string,
  found: Found[],
  special: { count: number },
  budget: Budget,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  for (const item of await list(join(root, at))) {
    const path = at === '' ? nameOf(item.name, at) : `${at}/${nameOf(item.name, at)}`;
    const flaw = pathFlaw(path.split('/'));
    if (flaw !== null) throw badItem(path, flaw);
    budget.spend('entries', 1, root);
    budget.spend('names', path.length, root);
    const common = { path, uid: 0, gid: 0, size: 0 };
    if (item.isDirectory()) {
      found.push({ entry: { ...common, type: 'dir', mode: 0o755 }, mtime: await directoryTime(root, path) });
      await walk(root, path, found, special, budget, signal);
    } else if (item.isSymbolicLink()) {
      found.push({ entry: { ...common, type: 'symlink', mode: 0o777, target: await linkTarget(root, path) } });
    } else if (item.isFile()) found.push({ entry: { ...common, type: 'file', mode: 0o644 } });
    else special.count++;
  }
}

/** Names as bytes: what is not UTF-8 must be seen and not repaired. */
const list = (path: string) =>
  readdir(path, { withFileTypes: true, encoding: 'buffer' }).catch((error) => {
    throw ioError(error, `cannot read the directory ${path}`);
  });

async function directoryTime(root: string, path: string): Promise<bigint> {
  const stat = await lstat(join(root, path), { bigint: true }).catch((error) => {
    throw path === '' ? ioError(error, `cannot read the directory ${root}`) : changed(path);
  });
  if (stat.isDirectory()) return stat.mtimeNs;
  if (path !== '') throw changed(path);
  throw usageError('ERR_FILE_KIND', `the root file system ${root} is not a directory`);
}

async function linkTarget(root: string, path: string): Promise<string> {
  const bytes = await readlink(join(root, path), { encoding: 'buffer' }).catch(() => {
    throw changed(path);
  });
  const flaw = linkFlaw(bytes);
  if (flaw !== null) throw badItem(path, `has a bad link target: ${flaw}`);
  return textOf(bytes, path, 'has a link target');
}

const nameOf = (name: Buffer, at: string): string => textOf(name, `${at}/${name.toString('latin1')}`, 'has a name');

function textOf(bytes: Buffer, path: string, what: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw badItem(path, `${what} that is not UTF-8, which a ramdisk of ours cannot hold`);
  }
}

const badItem = (path: string, why: string) => usageError('ERR_ROOTFS_ENTRY', `"${shown(path)}" ${why}`);
