import { hex } from '../core/bytes.ts';

/** A clock that is ahead makes receipts that stay fresh for longer. */
const SKEW_SECONDS = 60;
const MOST = 1 << 20;

/** Remembers which receipts a verifier has taken. `ReplaySet` does in memory; a database can in its place. */
export interface ReplayStore {
  /**
   * Takes note of a receipt that is otherwise good: `taken`, or why not: `seen` before, `old` (or from the future: it may
   * have been seen and forgotten), `full`. `iat` and `now` are unix seconds.
   */
  take(publicKey: Uint8Array, cti: Uint8Array, iat: number, now: number): 'taken' | 'seen' | 'old' | 'full';
}

/**
 * The receipts that a verifier has taken, so that none counts twice (AIR v1, "Layer 4", REPLAY). A receipt is named by its
 * signer's key and its cti: nobody can use up another signer's names. What is older than `maxAgeSeconds` is refused, so it
 * can be forgotten; nothing else ever is: where the set is full, it takes no more.
 */
export class ReplaySet implements ReplayStore {
  readonly maxAgeSeconds: number;
  readonly #most: number;
  /** Until when each may come again, in unix seconds. */
  readonly #seen = new Map<string, number>();
  #swept = 0;

  constructor(maxAgeSeconds: number, most = MOST) {
    this.maxAgeSeconds = maxAgeSeconds;
    this.#most = most;
  }

  get size(): number {
    return this.#seen.size;
  }

  take(publicKey: Uint8Array, cti: Uint8Array, iat: number, now: number): 'taken' | 'seen' | 'old' | 'full' {
    const name = `${hex(publicKey)}${hex(cti)}`;
    if (this.#seen.has(name)) return 'seen';
    const until = iat + this.maxAgeSeconds + SKEW_SECONDS;
    if (iat + this.maxAgeSeconds < now || iat > now + SKEW_SECONDS) return 'old';
    if (this.#seen.size >= this.#most) this.#forget(now);
    if (this.#seen.size >= this.#most) return 'full';
    this.#seen.set(name, until);
    return 'taken';
  }

  /** Once a second is enough: a full set must not cost a walk over it for every receipt. */
  #forget(now: number): void {
    if (now === this.#swept) return;
    this.#swept = now;
    for (const [name, until] of this.#seen) if (until < now) this.#seen.delete(name);
  }
}
