import { createHash, type Hash } from 'node:crypto';
import { sha256 } from '../core/bytes.ts';
import type { Job } from './job.ts';

/** Takes the payload in order, cuts it into files and digests those whose digest is wanted. */
export interface Digests {
  /** By file; of a file that is not wanted, or has no bytes, the digest of nothing. */
  done: Buffer[];
  update(bytes: Uint8Array): void;
}

export function digester({ fileSizes, hash: wanted, pieces }: Pick<Job, 'fileSizes' | 'hash' | 'pieces'>): Digests {
  const done = fileSizes.map(() => sha256());
  let next = 0;
  let used = 0;
  let hash: Hash | null = null;
  const update = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; ) {
      const piece = pieces[next];
      if (!piece) throw new RangeError('more payload than extents');
      const run = bytes.subarray(at, at + piece.length - used);
      if (wanted[piece.file]) {
        hash ??= createHash('sha256');
        hash.update(run);
      }
      at += run.length;
      used += run.length;
      if (used < piece.length) return;
      if (hash && piece.fileOffset + piece.length === fileSizes[piece.file]) {
        done[piece.file] = hash.digest();
        hash = null;
      }
      next++;
      used = 0;
    }
  };
  return { done, update };
}
