import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  futimesSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { IMAGE_ROOT } from '../core/layout.ts';
import type { TreeEntry } from '../image/cpio.ts';
import { SENTINEL_PATH } from '../image/ramdisks.ts';

/** What ramdisk 1 of a Nitro image holds, with paths that start at the image's root; nothing unpacks it, so it has no sentinel. */
export function imageRoot(ramdisk: TreeEntry[]): TreeEntry[] {
  const prefix = `${IMAGE_ROOT}/`;
  const inside = ramdisk.filter(({ path }) => path.startsWith(prefix) && path !== SENTINEL_PATH);
  const strip = (path: string) => path.slice(prefix.length);
  return ordered(
    inside.map((entry) => ({
      ...entry,
      path: strip(entry.path),
      ...(entry.type === 'link' ? { target: strip(entry.target ?? '') } : {}),
    })),
  );
}

/** Bytewise by path, so that directories come before what they hold, and files before their other names. */
export const ordered = (entries: TreeEntry[]): TreeEntry[] =>
  entries
    .map((entry) => ({ entry, name: Buffer.from(entry.path) }))
    .sort((a, b) => Buffer.compare(a.name, b.name))
    .map(({ entry }) => entry);

/**
 * Writes entries (ordered, parents included) below `target`, a directory that holds nothing yet. Modes and times are the
 * entries' and `mtime`'s (seconds since the epoch), whatever the umask; owners are whoever builds. Nothing is
 * written over or through what is there: every name is made anew.
 *
 * Throws `ERR_CPIO_PARENT` (exit 2) for an entry below anything but a directory, `ERR_CPIO_CONTENT` for a file that has another
 * length than it said, and what reading the contents throws.
 */
export async function writeTree(target: string, entries: TreeEntry[], mtime: number): Promise<void> {
  const directories = new Set(['']);
  const times: string[] = [];
  for (const entry of entries) {
    const parent = entry.path.split('/').slice(0, -1).join('/');
    if (!directories.has(parent)) {
      throw usageError(
        'ERR_CPIO_PARENT',
        `${entry.path}: expected its parent ${parent} to be a directory of the image`,
      );
    }
    const path = join(target, entry.path);
    if (entry.type === 'dir') {
      mkdirSync(path, 0o700);
      directories.add(entry.path);
      times.push(path);
      // Its owner has to be able to fill it, and to remove it one day.
      chmodSync(path, (entry.mode & 0o777) | 0o700);
    } else if (entry.type === 'file') {
      await writeEntry(path, entry, mtime);
    } else if (entry.type === 'symlink') {
      symlinkSync(entry.target ?? '', path);
      lutimesSync(path, mtime, mtime);
    } else {
      linkSync(join(target, entry.target ?? ''), path);
    }
  }
  // What is put into a directory changes its time.
  for (const path of times.reverse()) utimesSync(path, mtime, mtime);
}

async function writeEntry(path: string, entry: TreeEntry, mtime: number): Promise<void> {
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    for await (const chunk of content(entry)) {
      for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
    }
    fchmodSync(fd, entry.mode & 0o777);
    futimesSync(fd, mtime, mtime);
  } finally {
    closeSync(fd);
  }
}

/** A file's bytes, exactly `size` of them. */
export async function* content(entry: TreeEntry): AsyncGenerator<Uint8Array> {
  let found = 0;
  for await (const chunk of entry.open?.() ?? []) {
    found += chunk.length;
    if (found > entry.size) break;
    yield chunk;
  }
  if (found === entry.size) return;
  throw usageError('ERR_CPIO_CONTENT', `${entry.path}: expected ${entry.size} bytes of content, found another number`);
}
