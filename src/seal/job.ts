import { createHash, type Hash } from 'node:crypto';
import { isZero } from '../core/bytes.ts';
import { Disk, type JobFile, readAll, writeAll } from './disk.ts';
import { paddingError, truncated } from './errors.ts';
import {
  decryptSegment,
  encryptSegment,
  FLOE,
  FLOE_HEADER_LENGTH,
  type FloeState,
  floeLength,
  release,
  SEGMENT_OVERHEAD,
  segmentCount,
  segmentPlain,
  startDecryption,
  startEncryption,
} from './floe.ts';
import type { Piece } from './index-part.ts';
import { pad } from './layout.ts';
import { type Ring, RingView } from './ring.ts';

// What one thread of a seal, unseal or verification does. Synchronous: it runs on worker threads, or on the caller's for a small model.

/** Everything a thread needs; goes to workers as it is. */
export interface Job {
  direction: 'seal' | 'open';
  /** The sealed file: written when sealing, read when opening. All threads use positions. */
  fd: number;
  /** Null: open without writing anything, to verify. */
  files: JobFile[] | null;
  fileSizes: number[];
  /** `iv` is FLOE's, for sealing, where the caller writes the FLOE header; `offset` is in the sealed file; `length` of plaintext. */
  parts: { aad: Uint8Array; key: Uint8Array; iv?: Uint8Array; length: number; offset: number }[];
  pieces: Piece[];
  ring: Ring;
}

const FULL = segmentPlain();

export const segmentTotal = (job: Pick<Job, 'parts'>): number =>
  job.parts.reduce((sum, part) => sum + segmentCount(part.length), 0);

/** Encrypts or decrypts segments until none is left. */
export function runWorker(job: Job): void {
  const ring = new RingView(job.ring, segmentTotal(job));
  const segments = new Segments(job, ring);
  try {
    for (let n = ring.takeOrWait(); n !== null; n = ring.takeOrWait()) segments.run(n);
  } catch (error) {
    ring.stop();
    throw error;
  } finally {
    segments.close();
  }
}

/** Hashes in order, and does segments while none is ready. Returns SHA-256 by file, or null if another thread stopped the work. */
export function runHasher(job: Job): Buffer[] | null {
  const ring = new RingView(job.ring, segmentTotal(job));
  const segments = new Segments(job, ring);
  const digests = new Digests(job);
  try {
    for (let next = 0; !ring.finished; ) {
      if (ring.stopped) return null;
      if (ring.isReady(next)) {
        digests.update(ring.slot(next, segments.locate(next).length));
        ring.markHashed();
        next++;
        continue;
      }
      const own = ring.take();
      if (own !== null) segments.run(own);
      else ring.waitReady(next);
    }
    return digests.done;
  } catch (error) {
    ring.stop();
    throw error;
  } finally {
    segments.close();
  }
}

/** One thread's view of the payload as segments. */
class Segments {
  readonly #job: Job;
  readonly #ring: RingView;
  readonly #first: number[] = [];
  readonly #states: (FloeState | undefined)[] = [];
  readonly #disk: Disk | null;
  readonly #buffer: Buffer | null;

  constructor(job: Job, ring: RingView) {
    this.#job = job;
    this.#ring = ring;
    this.#disk = job.files && new Disk(job.files, job.direction === 'seal');
    this.#buffer = job.direction === 'open' ? Buffer.allocUnsafeSlow(FLOE.segmentLength + 2 * 4096) : null;
    let first = 0;
    for (const part of job.parts) {
      this.#first.push(first);
      first += segmentCount(part.length);
    }
  }

  /** Part, position in it and plaintext length of the n-th segment of the payload. */
  locate(n: number): { part: number; position: number; length: number; final: boolean } {
    let low = 0;
    for (let high = this.#first.length - 1; low < high; ) {
      const middle = (low + high + 1) >> 1;
      if ((this.#first[middle] ?? 0) <= n) low = middle;
      else high = middle - 1;
    }
    const position = n - (this.#first[low] ?? 0);
    const total = this.#job.parts[low]?.length ?? 0;
    const final = position === segmentCount(total) - 1;
    return { part: low, position, length: final ? total - position * FULL : FULL, final };
  }

  run(n: number): void {
    if (this.#job.direction === 'seal') this.#seal(n);
    else this.#open(n);
    this.#ring.markReady(n);
  }

  close(): void {
    this.#disk?.close();
  }

  #seal(n: number): void {
    const { part, position, length, final } = this.locate(n);
    const { aad, key, iv, offset } = this.#part(part);
    const slot = this.#ring.slot(n, length);
    this.#disk?.transfer(this.#job.pieces, part, position * FULL, slot);
    this.#states[part] ??= startEncryption(key, aad, FLOE, Buffer.from(iv ?? [])).state;
    const pieces = encryptSegment(this.#states[part], slot, position, final);
    writeAll(this.#job.fd, pieces, offset + FLOE_HEADER_LENGTH + position * FLOE.segmentLength);
    release(pieces[1]);
  }

  #open(n: number): void {
    const { part, position, length, final } = this.locate(n);
    const { aad, key, offset, length: total } = this.#part(part);
    const at = offset + FLOE_HEADER_LENGTH + position * FLOE.segmentLength;
    const sealed = length + SEGMENT_OVERHEAD;
    const ciphertext = floeLength(total);
    const padding = final ? pad(ciphertext) - ciphertext : 0;
    const bytes = (this.#buffer ?? Buffer.alloc(0)).subarray(0, sealed + padding);
    this.#states[part] ??= this.#start(aad, key, offset);
    readAll(this.#job.fd, bytes, at, () => truncated(`a part ends before byte ${at + bytes.length}`));
    const plaintext = decryptSegment(this.#states[part], bytes.subarray(0, sealed), position, final);
    if (!isZero(bytes.subarray(sealed))) throw paddingError(`part ${part + 1}`);
    this.#disk?.transfer(this.#job.pieces, part, position * FULL, plaintext);
    this.#ring.slot(n, length).set(plaintext);
    release(plaintext);
  }

  #start(aad: Uint8Array, key: Uint8Array, offset: number): FloeState {
    const header = Buffer.alloc(FLOE_HEADER_LENGTH);
    readAll(this.#job.fd, header, offset, () => truncated(`a part ends before byte ${offset + header.length}`));
    return startDecryption(key, aad, header);
  }

  #part(part: number) {
    const found = this.#job.parts[part];
    if (!found) throw new RangeError('no such part');
    return found;
  }
}

/** Cuts the payload, as it comes in order, into files and digests each. */
class Digests {
  readonly done: Buffer[];
  readonly #job: Job;
  #piece = 0;
  #used = 0;
  #hash: Hash | null = null;

  constructor(job: Job) {
    this.#job = job;
    this.done = job.fileSizes.map(() => createHash('sha256').digest()); // of nothing, for empty files
  }

  update(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const piece = this.#job.pieces[this.#piece];
      if (!piece) throw new RangeError('more payload than extents');
      this.#hash ??= createHash('sha256');
      const run = bytes.subarray(at, at + piece.length - this.#used);
      this.#hash.update(run);
      at += run.length;
      this.#used += run.length;
      if (this.#used < piece.length) return;
      if (piece.fileOffset + piece.length === this.#job.fileSizes[piece.file]) {
        this.done[piece.file] = this.#hash.digest();
        this.#hash = null;
      }
      this.#piece++;
      this.#used = 0;
    }
  }
}
