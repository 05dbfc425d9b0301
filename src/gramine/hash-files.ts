import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { OPEN_FLAGS } from './trusted-files-path.ts';

/** What is hashed: `next` counts through `paths`, shared by all threads. */
export interface HashJob {
  paths: string[];
  next: SharedArrayBuffer;
}

export type HashResult = { index: number; bytes: number } & ({ sha256: string } | { failure: string });

/** Of a failure where the system gave no reason of its own. */
export const CHANGED = 'CHANGED';
export const NOT_A_FILE = 'NOT_A_FILE';

/** Large enough that calls cost nothing, small enough to stay in the second-level cache between read and hash. */
const CHUNK = 256 << 10;

/** Hashes files of the job until none is left. Synchronous: a thread of its own does nothing else. */
export function* hashFiles({ paths, next }: HashJob): Generator<HashResult> {
  const counter = new Int32Array(next);
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  for (let index = Atomics.add(counter, 0, 1); index < paths.length; index = Atomics.add(counter, 0, 1)) {
    yield { index, ...hashFile(paths[index] ?? '', buffer) };
  }
}

/** What has the same size and times before and after was, as far as a file system tells, not written to. */
function hashFile(path: string, buffer: Buffer): { bytes: number } & ({ sha256: string } | { failure: string }) {
  let bytes = 0;
  let fd: number | undefined;
  try {
    fd = openSync(path, OPEN_FLAGS);
    const before = fstatSync(fd, { bigint: true });
    if (!before.isFile()) return { bytes, failure: NOT_A_FILE };
    const hash = createHash('sha256');
    for (;;) {
      const length = readSync(fd, buffer, 0, CHUNK, null);
      if (length === 0) break;
      hash.update(length === CHUNK ? buffer : buffer.subarray(0, length));
      bytes += length;
    }
    const after = fstatSync(fd, { bigint: true });
    const same = before.size === after.size && before.mtimeNs === after.mtimeNs && before.ctimeNs === after.ctimeNs;
    if (!same || BigInt(bytes) !== after.size) return { bytes, failure: CHANGED };
    return { bytes, sha256: hash.digest('hex') };
  } catch (error) {
    return { bytes, failure: (error as NodeJS.ErrnoException).code ?? String(error) };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
