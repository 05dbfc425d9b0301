/**
 * What the threads of a seal or unseal share: a ring of plaintext slots of one segment each, and counters. Segments are handed out in
 * payload order (`next`); a thread fills the slot of its segment and marks it ready; the hashing thread takes slots in order and counts
 * them in `done`, which frees them. SHA-256 of a file is sequential, so only one thread hashes, and it does segments while it waits.
 * Where nothing is hashed there are no slots, and `done` counts in any order.
 */
export interface Ring {
  slots: SharedArrayBuffer | null;
  control: SharedArrayBuffer;
}

/** Slots of 1 MiB: how far encryption may run ahead of hashing. Few, so that what one thread has read another finds in the cache. */
const SLOTS = 8;
const SLOT_BYTES = 1 << 20;
/** Positions in `control`, then one ready mark for each slot. */
const NEXT = 0;
const DONE = 1;
const STOP = 2;
const READY = 3;
/** A missed wake-up costs this much, not a hang. */
const WAIT_MS = 50;

export const newRing = (hashing: boolean): Ring => ({
  slots: hashing ? new SharedArrayBuffer(SLOTS * SLOT_BYTES) : null,
  control: new SharedArrayBuffer(4 * (READY + SLOTS)),
});

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

  /** The plaintext of `segment`. */
  slot(segment: number, length: number): Uint8Array {
    const from = (segment % SLOTS) * SLOT_BYTES;
    return this.#slots.subarray(from, from + length);
  }

  /** The next segment to do, if its slot is free; null if not, or if there is none. */
  take(): number | null {
    for (;;) {
      const next = Atomics.load(this.#control, NEXT);
      if (next >= this.#total || (this.hashing && next - this.done >= SLOTS)) return null;
      if (Atomics.compareExchange(this.#control, NEXT, next, next + 1) === next) return next;
    }
  }

  /** As take(), but waits for a slot; null only when there is nothing left to do. */
  takeOrWait(): number | null {
    while (!this.stopped) {
      const { done } = this;
      const segment = this.take();
      if (segment !== null) return segment;
      if (Atomics.load(this.#control, NEXT) >= this.#total) return null;
      Atomics.wait(this.#control, DONE, done, WAIT_MS);
    }
    return null;
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
