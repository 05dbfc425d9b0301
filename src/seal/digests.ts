import { createHash, type Hash } from 'node:crypto';
import type { Job } from './job.ts';
import { pieceAt } from './tables.ts';

/** Takes the payload in order, cuts it into files, digests those whose digest is wanted into `digests`. */
export function digester({ fileSizes, hash: wanted, pieces, digests }: Job): (bytes: Uint8Array) => void {
  let next = 0;
  let used = 0;
  let hash: Hash | null = null;
  let piece = pieceAt(pieces, 0);
  return (bytes) => {
    for (let at = 0; at < bytes.length; ) {
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
        digests.set(hash.digest(), piece.file * 32);
        hash = null;
      }
      piece = pieceAt(pieces, ++next);
      used = 0;
    }
  };
}
