import { hex } from '../core/bytes.ts';
import type { AdvanceEntry, AuditSink, ReleaseEntry } from './audit.ts';
import { AuditLog } from './audit.ts';

export type NonceStatus = 'fresh' | 'expired' | 'used' | 'unknown';

/** What an epoch belongs to: with the owner's raw Ed25519 key beside the seal id, nobody can squat on an id. */
export interface SealName {
  owner: Uint8Array;
  sealId: Uint8Array;
}

export interface Release extends SealName {
  nonce: Uint8Array;
  epoch: number;
  entry: ReleaseEntry;
}

export interface Advance extends SealName {
  epoch: number;
  entry: Omit<AdvanceEntry, 'before'>;
}

/**
 * What a broker remembers. Asynchronous because replicas will share a database. Times are unix seconds. Epochs start at 1, so a seal of
 * which nothing is known is at 0 and costs no memory.
 */
export interface BrokerState {
  /** Remembers a nonce; where there are too many, the oldest is forgotten, and then refused as unknown. */
  issue(nonce: Uint8Array, expires: number, now: number): Promise<void>;
  nonceStatus(nonce: Uint8Array, now: number): Promise<NonceStatus>;
  /** The epoch in force for this owner and seal, or 0. */
  epoch(owner: Uint8Array, sealId: Uint8Array): Promise<number>;
  /**
   * In one transaction: the audit entry is written and flushed, the nonce consumed, the epoch raised. Says what stood in the
   * way instead, in which case nothing changed: `full` where no more seals can be remembered.
   */
  commit(release: Release, now: number): Promise<'done' | 'nonce' | 'epoch' | 'full'>;
  /** Raises the epoch in force, never lowers it; audited where it changes. Gives the epochs in force before and after. */
  advance(advance: Advance): Promise<{ previous: number; epoch: number } | 'full'>;
}

/**
 * Outstanding and spent nonces together; about 10 MB. Forgetting the oldest means that a flood has to bring so many within one
 * honest client's round trip; refusing new ones would lock everybody out for a minute.
 */
export const MOST_NONCES = 65_536;
/** Seals beyond their first epoch. Anybody can make up seals; forgetting one that is real would bring its old headers back. */
export const MOST_EPOCHS = 1_000_000;

/** State of one process, gone with it: a broker that restarts knows no epochs but those that it sees again. */
export class MemoryState implements BrokerState {
  readonly audit: AuditLog;
  readonly #sink: AuditSink;
  readonly #nonces = new Map<string, { expires: number; used: boolean }>();
  readonly #epochs = new Map<string, number>();
  readonly #mostNonces: number;
  readonly #mostEpochs: number;

  constructor({ mostNonces = MOST_NONCES, mostEpochs = MOST_EPOCHS, audit = undefined as AuditSink | undefined } = {}) {
    this.#mostNonces = mostNonces;
    this.#mostEpochs = mostEpochs;
    this.audit = new AuditLog();
    this.#sink = audit ?? this.audit;
  }

  async issue(nonce: Uint8Array, expires: number, now: number): Promise<void> {
    // Insertion order is order of expiry.
    for (const [key, entry] of this.#nonces) {
      if (entry.expires >= now && this.#nonces.size < this.#mostNonces) break;
      this.#nonces.delete(key);
    }
    this.#nonces.set(hex(nonce), { expires, used: false });
  }

  async nonceStatus(nonce: Uint8Array, now: number): Promise<NonceStatus> {
    return this.#status(nonce, now);
  }

  async epoch(owner: Uint8Array, sealId: Uint8Array): Promise<number> {
    return this.#epochs.get(epochKey({ owner, sealId })) ?? 0;
  }

  async commit(release: Release, now: number): Promise<'done' | 'nonce' | 'epoch' | 'full'> {
    const { nonce, epoch, entry } = release;
    if (this.#status(nonce, now) !== 'fresh') return 'nonce';
    const key = epochKey(release);
    if (epoch < (this.#epochs.get(key) ?? 0)) return 'epoch';
    if (this.#isFull(key, epoch)) return 'full';
    this.#sink.append(entry);
    const issued = this.#nonces.get(hex(nonce));
    if (issued !== undefined) issued.used = true;
    this.#raise(key, epoch);
    return 'done';
  }

  async advance({ epoch, entry, ...seal }: Advance): Promise<{ previous: number; epoch: number } | 'full'> {
    const key = epochKey(seal);
    const previous = this.#epochs.get(key) ?? 0;
    if (epoch <= previous) return { previous, epoch: previous };
    if (this.#isFull(key, epoch)) return 'full';
    this.#sink.append({ ...entry, before: previous });
    this.#raise(key, epoch);
    return { previous, epoch };
  }

  #isFull(key: string, epoch: number): boolean {
    return epoch > 1 && !this.#epochs.has(key) && this.#epochs.size >= this.#mostEpochs;
  }

  #raise(key: string, epoch: number): void {
    if (epoch > 1) this.#epochs.set(key, epoch);
  }

  #status(nonce: Uint8Array, now: number): NonceStatus {
    const entry = this.#nonces.get(hex(nonce));
    if (entry === undefined) return 'unknown';
    if (entry.used) return 'used';
    return entry.expires < now ? 'expired' : 'fresh';
  }
}

const epochKey = ({ owner, sealId }: SealName): string => `${hex(owner)}:${hex(sealId)}`;
