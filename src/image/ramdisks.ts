import { dirname } from 'node:path/posix';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { IMAGE_ROOT } from '../core/layout.ts';
import type { Cache } from './cache.ts';
import { requireUnder, type TreeEntry } from './cpio.ts';
import type { TreeFile } from './tree.ts';

/** Mount points of the application's root: what the init and the simulated TEE mount on (templates/nitro/init). */
const MOUNT_POINTS = ['dev', 'proc', 'run', 'sys', 'tmp'];

/**
 * Sorts after everything else in ramdisk 1 ("~" is the last printable character of ASCII): a kernel that runs out of
 * memory while it unpacks leaves it out, and the init looks for it.
 */
export const SENTINEL_PATH = `${IMAGE_ROOT}/~complete`;
const SENTINEL: OwnFile = { path: SENTINEL_PATH, mode: 0o644, content: Buffer.from('complete\n') };

/** A file that is not a package's. */
export interface OwnFile {
  path: string;
  mode: number;
  content: Buffer;
}

/** Ramdisk 0, measured in PCR1: the init and what it needs, nothing of the application. */
export const initRamdisk = (cache: Cache, files: TreeFile[], own: OwnFile[]): TreeEntry[] =>
  withParents([...packaged(cache, files, 'init', ''), ...own.map(ownEntry), directory('dev')]);

/**
 * Ramdisk 1, measured in PCR2: the application's root file system, all of it below IMAGE_ROOT. `command`: the tree of a
 * command, with paths of the whole ramdisk; a file of the base that is in it already is not put in again.
 */
export function rootRamdisk(cache: Cache, files: TreeFile[], own: OwnFile[], command: TreeEntry[] = []): TreeEntry[] {
  const there = new Set(command.map(({ path }) => path));
  const entries = withParents([
    ...command,
    ...packaged(cache, files, 'root', `${IMAGE_ROOT}/`).filter(({ path }) => !there.has(path)),
    ...own.map((file) => ownEntry({ ...file, path: `${IMAGE_ROOT}/${file.path}` })),
    ...MOUNT_POINTS.map((path) => directory(`${IMAGE_ROOT}/${path}`)),
    ownEntry(SENTINEL),
  ]);
  requireUnder(entries, IMAGE_ROOT);
  return entries;
}

/**
 * The base's libraries and Node under IMAGE_ROOT and once more under `other`, as hard links: the second tree costs no
 * memory. What is this toolkit's own (app/) stays out of it.
 */
export function sharedBase(cache: Cache, files: TreeFile[], other: string): TreeEntry[] {
  const shared = packaged(
    cache,
    files.filter(({ path }) => !path.startsWith('app/')),
    'root',
    '',
  );
  return shared.flatMap((entry) => {
    const [first, second] = [`${IMAGE_ROOT}/${entry.path}`, `${other}/${entry.path}`].sort((a, b) =>
      Buffer.compare(Buffer.from(a), Buffer.from(b)),
    ) as [string, string];
    const { mode } = entry;
    // A hard link comes after the file that it is.
    return [
      { ...entry, path: first },
      { path: second, type: 'link', target: first, mode, size: 0 },
    ];
  });
}

/** The kernel image among the kept files. Throws `ERR_LOCK_KERNEL` (exit 2). */
export function findKernel(files: TreeFile[]): TreeFile {
  const kernels = files.filter((file) => file.part === 'kernel');
  const [kernel] = kernels;
  if (kernel?.path === 'vmlinuz' && kernels.length === 1) return kernel;
  const found = kernels.map((file) => file.path).join(', ') || 'none';
  throw usageError('ERR_LOCK_KERNEL', `expected the lock to keep one kernel, "vmlinuz", found ${found}`);
}

const packaged = (cache: Cache, files: TreeFile[], part: TreeFile['part'], prefix: string): TreeEntry[] =>
  files
    .filter((file) => file.part === part)
    .map((file) => ({
      path: prefix + file.path,
      type: 'file',
      mode: Number.parseInt(file.mode, 8),
      size: file.size,
      sha256: file.sha256,
      open: () => cache.read(file),
    }));

export const ownEntry = ({ path, mode, content }: OwnFile): TreeEntry => ({
  path,
  type: 'file',
  mode,
  size: content.length,
  sha256: hex(sha256(content)),
  open: () => [content],
});

export const directory = (path: string): TreeEntry => ({ path, type: 'dir', mode: 0o755, size: 0 });

/** Adds the directories above each entry: nobody's umask, no package's idea of modes. */
function withParents(entries: TreeEntry[]): TreeEntry[] {
  const directories = new Map<string, TreeEntry>();
  for (const entry of entries) {
    for (let at = dirname(entry.path); at !== '.'; at = dirname(at)) directories.set(at, directory(at));
  }
  for (const entry of entries) if (entry.type === 'dir') directories.delete(entry.path);
  return [...entries, ...directories.values()];
}
