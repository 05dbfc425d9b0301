import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { usageError } from '../core/errors.ts';
import { fileIdentity } from './identity.ts';
import type { ModelFile } from './model.ts';

// What one thread of digest-files.ts does: whole files, one after the other. Synchronous.

/** Shared by the threads; `order` is the files from large to small, `sums` takes 32 bytes for each file. */
export interface DigestJob {
  files: Pick<ModelFile, 'absolute' | 'identity'>[];
  order: Uint32Array;
  sums: SharedArrayBuffer;
  /** BigInt64: next in `order`, bytes read, 1 to stop. */
  control: SharedArrayBuffer;
}
export const NEXT = 0;
export const BYTES = 1;
export const STOP = 2;
const CHUNK = 1 << 20;

/** Returns false if another thread stopped the work. Throws `ERR_MODEL_CHANGED` (exit 2). */
export function runDigests({ files, order, sums, control: shared }: DigestJob): boolean {
  const control = new BigInt64Array(shared);
  const into = new Uint8Array(sums);
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  try {
    for (;;) {
      const at = order[Number(Atomics.add(control, NEXT, 1n))];
      const file = at === undefined ? undefined : files[at];
      if (at === undefined || file === undefined) return true;
      const digest = digestOne(file, buffer, control);
      if (digest === null) return false;
      into.set(digest, at * 32);
    }
  } catch (error) {
    Atomics.store(control, STOP, 1n);
    throw error;
  }
}

function digestOne(
  { absolute, identity }: DigestJob['files'][number],
  buffer: Buffer,
  control: BigInt64Array,
): Buffer | null {
  const fd = openUnchanged(absolute, identity);
  try {
    const hash = createHash('sha256');
    for (;;) {
      if (Atomics.load(control, STOP) !== 0n) return null;
      const count = readSync(fd, buffer, 0, buffer.length, null);
      if (count === 0) break;
      hash.update(buffer.subarray(0, count));
      Atomics.add(control, BYTES, BigInt(count));
    }
    if (fileIdentity(fstatSync(fd, { bigint: true })) !== identity) throw modelChanged(absolute);
    return hash.digest();
  } finally {
    closeSync(fd);
  }
}

function openUnchanged(path: string, identity: string): number {
  let fd: number;
  try {
    // O_NONBLOCK: a FIFO that has taken the file's place would be waited for without end.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code === 'ENOENT' || code === 'ELOOP' ? modelChanged(path) : error;
  }
  if (fileIdentity(fstatSync(fd, { bigint: true })) === identity) return fd;
  closeSync(fd);
  throw modelChanged(path);
}

const modelChanged = (path: string) =>
  usageError('ERR_MODEL_CHANGED', `the model file ${path} changed while it was being read`, {
    hint: 'run it again when nothing writes to the model',
  });
