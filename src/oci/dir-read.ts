import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type AtomaError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { ImageEntry } from './flatten-types.ts';
import { shown } from './json.ts';

const CHUNK = 1 << 18;

export const changed = (path: string): AtomaError =>
  usageError('ERR_ROOTFS_CHANGED', `"${shown(path)}" changed while it was being read`, {
    hint: 'leave the directory alone until the command is done, then run it again',
  });

/** Opens a regular file, never through a link in its place and never waiting for a FIFO's other end. */
export async function openRegular(root: string, path: string): Promise<FileHandle> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(join(root, path), flags).catch((error) => {
    if (error.code === 'ELOOP' || error.code === 'ENOENT' || error.code === 'ENXIO') throw changed(path);
    throw ioError(error, `cannot read ${join(root, path)}`);
  });
  const stat = await handle.stat();
  if (stat.isFile()) return handle;
  await handle.close();
  throw changed(path);
}

/**
 * The content of a listed file of a directory; the last piece is held back until the digest is known to be right.
 * Throws `ERR_ROOTFS_CHANGED` (exit 2).
 */
export async function* openListed(root: string, { path, size, sha256 }: ImageEntry): AsyncGenerator<Uint8Array> {
  const handle = await openRegular(root, path);
  const hash = createHash('sha256');
  let left = size;
  try {
    while (left > 0) {
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK, left));
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, size - left);
      if (bytesRead === 0) throw changed(path);
      left -= bytesRead;
      const data = chunk.subarray(0, bytesRead);
      hash.update(data);
      if (left === 0 && hash.digest('hex') !== sha256) throw changed(path);
      yield data;
    }
  } finally {
    await handle.close();
  }
}

/** Size, mode and digest of a file as it is now. Throws `ERR_ROOTFS_CHANGED` if it is being written to. */
export async function examineFile(root: string, path: string): Promise<{ size: number; mode: number; sha256: string }> {
  const handle = await openRegular(root, path);
  try {
    const before = await handle.stat({ bigint: true });
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK, Number(before.size) + 1));
    let size = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, size);
      if (bytesRead === 0) break;
      size += bytesRead;
      if (size > before.size) throw changed(path);
      hash.update(buffer.subarray(0, bytesRead));
    }
    const after = await handle.stat({ bigint: true });
    const same = (['size', 'mode', 'mtimeNs', 'ctimeNs'] as const).every((key) => before[key] === after[key]);
    if (!same || BigInt(size) !== after.size) throw changed(path);
    return { size, mode: Number(after.mode), sha256: hash.digest('hex') };
  } finally {
    await handle.close();
  }
}
