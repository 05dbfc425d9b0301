import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';

/**
 * Bytes that can be read anywhere. Synchronous on purpose: an image has ten thousands of small files, and a thread pool's
 * round trip costs more than reading one.
 */
export interface View {
  readonly size: number;
  /** Fills `target` from `offset`. Throws `ERR_DIFF_CHANGED` (exit 2) where the bytes end before that. */
  read(target: Uint8Array, offset: number): void;
}

export interface OpenView extends View {
  readonly fd: number;
  close(): void;
}

/** Opens a regular file. Throws `ERR_FILE_NOT_FOUND`, `ERR_FILE_KIND` (exit 2). */
export function openView(path: string): OpenView {
  try {
    const fd = openSync(path, 'r');
    const stat = fstatSync(fd);
    if (stat.isFile()) return viewOf(fd, stat.size, path);
    closeSync(fd);
  } catch (error) {
    throw ioError(error, `cannot read ${path}`);
  }
  throw usageError('ERR_FILE_KIND', `${path} is not a regular file`);
}

/** A descriptor's bytes; `close` closes it. */
export function viewOf(fd: number, size: number, path: string): OpenView {
  let open = true;
  return {
    fd,
    size,
    read(target, offset) {
      for (let done = 0; done < target.length; ) {
        const count = readSync(fd, target, done, target.length - done, offset + done);
        if (count === 0) throw changed(path);
        done += count;
      }
    },
    close() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}

export const bytesView = (bytes: Uint8Array): View => ({
  size: bytes.length,
  read(target, offset) {
    if (offset + target.length > bytes.length) throw changed('bytes in memory');
    target.set(bytes.subarray(offset, offset + target.length));
  },
});

export const slice = (view: View, start: number, size: number): View => ({
  size,
  read: (target, offset) => view.read(target, start + offset),
});

/** At most `most` bytes from `offset` on: fewer where the view ends. */
export function readSome(view: View, offset: number, most: number): Buffer {
  const bytes = Buffer.alloc(Math.max(0, Math.min(most, view.size - offset)));
  if (bytes.length > 0) view.read(bytes, offset);
  return bytes;
}

/** Reads small neighbouring pieces with few system calls. */
export function windowed(view: View, windowBytes = 1 << 18): View {
  const memory = Buffer.alloc(Math.min(windowBytes, view.size));
  let start = 0;
  let length = 0;
  return {
    size: view.size,
    read(target, offset) {
      if (target.length > memory.length / 2) {
        view.read(target, offset);
        return;
      }
      if (offset < start || offset + target.length > start + length) {
        start = offset;
        length = Math.max(target.length, Math.min(memory.length, view.size - offset));
        view.read(memory.subarray(0, length), offset);
      }
      memory.copy(target, 0, offset - start, offset - start + target.length);
    },
  };
}

const CHUNK = 1 << 20;
const [CHUNK_A, CHUNK_B] = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)];
/** Finding the byte in a chunk that differs: smaller pieces first. */
const PIECE = 1 << 12;

/** Offset of the first byte that differs, the shorter one's end included; -1 where both are the same. */
export function firstDifference(a: View, b: View, from = 0): number {
  const common = Math.min(a.size, b.size);
  for (let at = from; at < common; at += CHUNK) {
    const length = Math.min(CHUNK, common - at);
    const [x, y] = readPair(a, b, at, length);
    if (!x.equals(y)) return at + firstIn(x, y);
  }
  return a.size === b.size ? -1 : common;
}

/** How many bytes differ in two views of one size. Gives others their turn. */
export async function countDifferences(a: View, b: View): Promise<number> {
  let count = 0;
  for (let at = 0; at < a.size; at += CHUNK) {
    const [x, y] = readPair(a, b, at, Math.min(CHUNK, a.size - at));
    if (at % (64 * CHUNK) === 0) await setImmediate();
    if (x.equals(y)) continue;
    for (let start = 0; start < x.length; start += PIECE) {
      const [p, q] = [x.subarray(start, start + PIECE), y.subarray(start, start + PIECE)];
      if (p.equals(q)) continue;
      for (let i = 0; i < p.length; i++) if (p[i] !== q[i]) count++;
    }
  }
  return count;
}

function readPair(a: View, b: View, at: number, length: number): [Buffer, Buffer] {
  const [x, y] = [CHUNK_A.subarray(0, length), CHUNK_B.subarray(0, length)];
  a.read(x, at);
  b.read(y, at);
  return [x, y];
}

function firstIn(x: Buffer, y: Buffer): number {
  for (let start = 0; ; start += PIECE) {
    if (x.subarray(start, start + PIECE).equals(y.subarray(start, start + PIECE))) continue;
    for (let i = start; ; i++) if (x[i] !== y[i]) return i;
  }
}

const changed = (what: string) => usageError('ERR_DIFF_CHANGED', `${what} changed while it was being read`);
