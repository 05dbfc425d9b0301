import { digester } from './digests.ts';
import { type Ring, RingView } from './ring.ts';
import { Segments, segmentTotal } from './segments.ts';
import type { FileTable, PieceTable } from './tables.ts';

// What one thread of a seal, unseal or verification does. Synchronous: it runs on worker threads, or on the caller's for a small model.

export interface JobPart {
  aad: Uint8Array;
  key: Uint8Array;
  /** The FLOE header. When opening a file it is read from there instead; when sealing the caller writes it. */
  header?: Uint8Array;
  /** Of plaintext. */
  length: number;
  /** Where the part is, or comes to be, in the sealed file. */
  offset: number;
  /** When sealing: where it lies in the older sealed file, to be copied as it is. */
  from?: number;
}

/** Everything a thread needs; goes to workers as it is. */
export interface Job {
  /**
   * `seal` encrypts files (or copies parts of `oldFd`, authenticating them) into `fd`; `open` decrypts `fd` into files; `compare` decrypts
   * `fd` and marks in `changed` each part that is not what the files hold; `stream` decrypts what the ring is fed into files.
   */
  direction: 'seal' | 'open' | 'compare' | 'stream';
  /** The sealed file, -1 for `stream`. All threads use positions. */
  fd: number;
  oldFd?: number;
  /** Null: open without writing anything, to verify. */
  files: FileTable | null;
  fileSizes: Float64Array;
  /** By file: 1 where its SHA-256 is wanted. None wanted is much faster: SHA-256 takes three times as long as the encryption. */
  hash: Uint8Array;
  /** By file, 32 bytes: the digests that are wanted come here. Shared. */
  digests: Uint8Array;
  parts: JobPart[];
  pieces: PieceTable;
  /** One Int32 for each part; for `compare`. */
  changed?: SharedArrayBuffer;
  ring: Ring;
}

/** Encrypts or decrypts segments until none is left. */
export function runWorker(job: Job): void {
  drive(job, (ring, segments) => {
    for (let n = ring.takeOrWait(); n !== null; n = ring.takeOrWait()) segments.run(n);
  });
}

/** Hashes in order, and does segments while none is ready. Returns false if another thread stopped the work. */
export function runHasher(job: Job): boolean {
  return drive(job, (ring, segments) => {
    if (ring.hashing) return hashInOrder(ring, segments, digester(job));
    for (let n = ring.take(); n !== null && !ring.stopped; n = ring.take()) segments.run(n);
    return !ring.stopped;
  });
}

function hashInOrder(ring: RingView, segments: Segments, update: (bytes: Uint8Array) => void): boolean {
  for (let next = 0; !ring.finished; ) {
    if (ring.stopped) return false;
    if (ring.isReady(next)) {
      update(ring.slot(next, segments.locate(next).length));
      ring.markDone();
      next++;
      continue;
    }
    const own = ring.take();
    if (own !== null) segments.run(own);
    else ring.waitReady(next);
  }
  return true;
}

/** If this thread fails, all stop. */
function drive<T>(job: Job, work: (ring: RingView, segments: Segments) => T): T {
  const ring = new RingView(job.ring, segmentTotal(job));
  const segments = new Segments(job, ring);
  try {
    return work(ring, segments);
  } catch (error) {
    ring.stop();
    throw error;
  } finally {
    segments.close();
  }
}
