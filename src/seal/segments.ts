import { isZero } from '../core/bytes.ts';
import { Disk, readAll, writeAll } from './disk.ts';
import { paddingError, truncated } from './errors.ts';
import {
  decryptSegmentInto,
  encryptSegmentInto,
  FLOE,
  FLOE_HEADER_LENGTH,
  type FloeState,
  floeLength,
  SEGMENT_OVERHEAD,
  segmentCount,
  segmentPlain,
  startDecryption,
} from './floe.ts';
import type { Job, JobPart } from './job.ts';
import { ALIGNMENT, pad } from './layout.ts';
import type { RingView } from './ring.ts';

const FULL = segmentPlain();

export const segmentTotal = (job: Pick<Job, 'parts'>): number =>
  job.parts.reduce((sum, part) => sum + segmentCount(part.length), 0);

/** One thread's view of the payload as segments. */
export class Segments {
  readonly #job: Job;
  readonly #ring: RingView;
  readonly #first: number[] = [];
  readonly #states: (FloeState | undefined)[] = [];
  readonly #disk: Disk | null;
  readonly #ciphertext = Buffer.allocUnsafeSlow(FLOE.segmentLength + 2 * ALIGNMENT);
  /** In place of a slot of the ring where nothing is hashed; to compare with, otherwise. */
  readonly #plaintext = Buffer.allocUnsafeSlow(FULL);
  readonly #changed: Int32Array | null;

  constructor(job: Job, ring: RingView) {
    this.#job = job;
    this.#ring = ring;
    this.#disk = job.files && new Disk(job.files, job.direction === 'seal' || job.direction === 'compare');
    this.#changed = job.changed ? new Int32Array(job.changed) : null;
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

  /** Does the n-th segment, and says so to the others. */
  run(n: number): void {
    const { part: number, position, length, final } = this.locate(n);
    const part = this.#job.parts[number];
    if (!part) throw new RangeError('no such part');
    const place: Place = { number, part, position, length, final };
    const plaintext = this.#ring.hashing ? this.#ring.slot(n, length) : this.#plaintext.subarray(0, length);
    if (this.#job.direction === 'stream') this.#openFed(n, place);
    else if (this.#job.direction === 'open') this.#open(place, plaintext);
    else if (this.#job.direction === 'compare') this.#compare(place, plaintext);
    else if (part.from === undefined) this.#seal(place, plaintext);
    else this.#copy(place, part.from, plaintext);
    if (this.#ring.hashing) this.#ring.markReady(n);
    else this.#ring.markDone();
  }

  close(): void {
    this.#disk?.close();
  }

  #seal(place: Place, plaintext: Uint8Array): void {
    const { number, part, position, final } = place;
    this.#disk?.transfer(this.#job.pieces, number, position * FULL, plaintext);
    const ciphertext = encryptSegmentInto(this.#ciphertext, this.#state(place), plaintext, position, final);
    writeAll(this.#job.fd, [ciphertext], segmentOffset(part.offset, position));
  }

  /** Byte for byte, but only what is authentic. */
  #copy(place: Place, from: number, plaintext: Uint8Array): void {
    const { part, position, length, final } = place;
    const ciphertext = this.#read(this.#job.oldFd ?? -1, segmentOffset(from, position), length + SEGMENT_OVERHEAD);
    decryptSegmentInto(plaintext, this.#state(place), ciphertext, position, final);
    writeAll(this.#job.fd, [ciphertext], segmentOffset(part.offset, position));
  }

  #open(place: Place, plaintext: Uint8Array): void {
    const { number, part, position, length, final } = place;
    const sealed = length + SEGMENT_OVERHEAD;
    const whole = floeLength(part.length);
    const bytes = this.#read(
      this.#job.fd,
      segmentOffset(part.offset, position),
      sealed + (final ? pad(whole) - whole : 0),
    );
    decryptSegmentInto(plaintext, this.#state(place), bytes.subarray(0, sealed), position, final);
    if (!isZero(bytes.subarray(sealed))) throw paddingError(`part ${number + 1}`);
    this.#disk?.transfer(this.#job.pieces, number, position * FULL, plaintext);
  }

  /** Where it lies; padding is checked by who feeds. */
  #openFed(n: number, place: Place): void {
    const { number, position, length, final } = place;
    const header = position === 0 ? FLOE_HEADER_LENGTH : 0;
    const slot = this.#ring.slot(n, header + length + SEGMENT_OVERHEAD);
    const size = decryptSegmentInto(slot, this.#state(place), slot.subarray(header), position, final);
    this.#disk?.transfer(this.#job.pieces, number, position * FULL, slot.subarray(0, size));
  }

  /** A part that is known to have changed is not looked at further. */
  #compare(place: Place, plaintext: Uint8Array): void {
    const { number, part, position, length, final } = place;
    if (!this.#changed || Atomics.load(this.#changed, number) !== 0) return;
    const ciphertext = this.#read(this.#job.fd, segmentOffset(part.offset, position), length + SEGMENT_OVERHEAD);
    decryptSegmentInto(plaintext, this.#state(place), ciphertext, position, final);
    const current = this.#ciphertext.subarray(0, length);
    this.#disk?.transfer(this.#job.pieces, number, position * FULL, current);
    if (Buffer.compare(current, plaintext) !== 0) Atomics.store(this.#changed, number, 1);
  }

  #read(fd: number, at: number, length: number): Buffer {
    const bytes = this.#ciphertext.subarray(0, length);
    readAll(fd, bytes, at, () => truncated(`a part ends before byte ${at + length}`));
    return bytes;
  }

  /** The same for both directions: the header fixes key, IV and associated data. */
  #state({ number, part: { aad, key, header, offset } }: Place): FloeState {
    const known = this.#states[number];
    if (known) return known;
    const bytes = header ?? Buffer.alloc(FLOE_HEADER_LENGTH);
    if (!header)
      readAll(this.#job.fd, bytes, offset, () => truncated(`a part ends before byte ${offset + bytes.length}`));
    const state = startDecryption(key, aad, bytes);
    this.#states[number] = state;
    return state;
  }
}

interface Place {
  number: number;
  part: JobPart;
  position: number;
  length: number;
  final: boolean;
}

const segmentOffset = (part: number, position: number): number =>
  part + FLOE_HEADER_LENGTH + position * FLOE.segmentLength;
