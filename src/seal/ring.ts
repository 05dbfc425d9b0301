import { MAX_STEP } from './steps.ts';

/**
 * What the threads of a seal or unseal share: a ring of plaintext slots of one segment each, and counters. Segments are handed out in
 * payload order (`next`); a thread fills the slot of its segment and marks it ready; the hashing thread takes slots in order and counts
 * them in `done`, which frees them. SHA-256 of a file is sequential, so only one thread hashes, and it does segments while it waits.
 * Where nothing is hashed there are no slots, and `done` counts in any order.
 *
 * A ring may be fed: somebody else puts ciphertext into the slots in order, counting in `filled`, and threads decrypt it where it lies.
 */
export interface Ring {
  slots: SharedArrayBuffer | null;
  control: SharedArrayBuffer;
}

/** Slots of a segment and what may lie around it (steps.ts): how far encryption may run ahead of hashing. Few, so that what one thread has read another finds in the cache. */
const SLOTS = 8;
const SLOT_BYTES = MAX_STEP;
/** Positions in `control`, then one ready mark for each slot. */
const NEXT = 0;
const DONE = 1;
const STOP = 2;
const FILLED = 3;
const READY = 4;
const ALL = 0x7fff_ffff;
/** A missed wake-up costs this much, not a hang. */
const WAIT_MS = 50;

export function newRing(hashing: boolean, fed = false): Ring {
  const control = new SharedArrayBuffer(4 * (READY + SLOTS));
  if (!fed) new Int32Array(control)[FILLED] = ALL;
  return { slots: hashing ? new SharedArrayBuffer(SLOTS * SLOT_BYTES) : null, control };
}

/** One thread's handle on a ring for `total` segments. */
export class RingView {
  readonly hashing: boolean;
  readonly #slots: Uint8Array;
  readonly #control: Int32Array;
  readonly #total: number;

  constructor(ring: Ring, total: number) {
    this.hashing = ring.slots !== null;
    this.#slots = new Uint8Array(ring.slots ?? new ArrayBuffer(0));
    this.#control = new Int32Array(ring.control);
    this.#total = total;
  }

  /** Segments done with so far. */
  get done(): number {
    return Atomics.load(this.#control, DONE);
  }

  get finished(): boolean {
    return this.done === this.#total;
  }

  get stopped(): boolean {
    return Atomics.load(this.#control, STOP) !== 0;
  }

  /** Makes every thread return at its next step. */
  stop(): void {
    Atomics.store(this.#control, STOP, 1);
    for (let i = 0; i < this.#control.length; i++) Atomics.notify(this.#control, i);
  }

  /** The memory of `segment`: its plaintext, once it is ready. */
  slot(segment: number, length: number): Uint8Array {
    const from = (segment % SLOTS) * SLOT_BYTES;
    return this.#slots.subarray(from, from + length);
  }

  /** The next segment to do, if its slot is free and fed; null if not, or if there is none. */
  take(): number | null {
    for (;;) {
      const next = Atomics.load(this.#control, NEXT);
      if (next >= Math.min(this.#total, Atomics.load(this.#control, FILLED))) return null;
      if (this.hashing && next - this.done >= SLOTS) return null;
      if (Atomics.compareExchange(this.#control, NEXT, next, next + 1) === next) return next;
    }
  }

  /** As take(), but waits for a slot; null only when there is nothing left to do. */
  takeOrWait(): number | null {
    while (!this.stopped) {
      const { done } = this;
      const filled = Atomics.load(this.#control, FILLED);
      const segment = this.take();
      if (segment !== null) return segment;
      const next = Atomics.load(this.#control, NEXT);
      if (next >= this.#total) return null;
      if (next < filled) Atomics.wait(this.#control, DONE, done, WAIT_MS);
      else Atomics.wait(this.#control, FILLED, filled, WAIT_MS);
    }
    return null;
  }

  /** For who feeds: true when the slot of `segment` is free, false when the work was stopped. Does not block the thread. */
  async waitFree(segment: number): Promise<boolean> {
    while (!this.stopped) {
      const { done } = this;
      if (segment - done < SLOTS) return true;
      await Atomics.waitAsync(this.#control, DONE, done, WAIT_MS).value;
    }
    return false;
  }

  /** For who feeds, in order. */
  markFilled(): void {
    Atomics.add(this.#control, FILLED, 1);
    Atomics.notify(this.#control, FILLED);
  }

  markReady(segment: number): void {
    const at = READY + (segment % SLOTS);
    Atomics.store(this.#control, at, segment + 1);
    Atomics.notify(this.#control, at);
  }

  isReady(segment: number): boolean {
    return Atomics.load(this.#control, READY + (segment % SLOTS)) === segment + 1;
  }

  waitReady(segment: number): void {
    const at = READY + (segment % SLOTS);
    const mark = Atomics.load(this.#control, at);
    if (mark !== segment + 1) Atomics.wait(this.#control, at, mark, WAIT_MS);
  }

  /** The hashing thread, or any where nothing is hashed. */
  markDone(): void {
    Atomics.add(this.#control, DONE, 1);
    Atomics.notify(this.#control, DONE);
  }
}
