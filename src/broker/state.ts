import { hex } from '../core/bytes.ts';
import { type AuditEntry, AuditLog } from './audit.ts';

export type NonceStatus = 'fresh' | 'expired' | 'used' | 'unknown';

export interface Release {
  nonce: Uint8Array;
  /** Raw Ed25519 key of the owner; with the seal id it names what the epoch belongs to, so nobody can squat on an id. */
  owner: Uint8Array;
  sealId: Uint8Array;
  epoch: number;
  entry: AuditEntry;
}

/** What a broker remembers. Asynchronous because replicas will share a database. Times are unix seconds. */
export interface BrokerState {
  /** Remembers a nonce; where there are too many, the oldest is forgotten, and then refused as unknown. */
  issue(nonce: Uint8Array, expires: number, now: number): Promise<void>;
  nonceStatus(nonce: Uint8Array, now: number): Promise<NonceStatus>;
  /** The highest epoch released for this owner and seal, or 0. */
  epoch(owner: Uint8Array, sealId: Uint8Array): Promise<number>;
  /**
   * In one transaction: the audit entry is written and flushed, the nonce consumed, the epoch raised. Says what stood in the
   * way instead, in which case nothing changed.
   */
  commit(release: Release, now: number): Promise<'done' | 'nonce' | 'epoch'>;
}

/**
 * Outstanding and spent nonces together; about 10 MB. Forgetting the oldest means that a flood has to bring so many within one
 * honest client's round trip; refusing new ones would lock everybody out for a minute.
 */
const MOST_NONCES = 65536;

/** State of one process, gone with it: a broker that restarts knows no epochs but those that it sees again. */
export class MemoryState implements BrokerState {
  readonly audit = new AuditLog();
  readonly #nonces = new Map<string, { expires: number; used: boolean }>();
  readonly #epochs = new Map<string, number>();
  readonly #mostNonces: number;

  constructor(mostNonces = MOST_NONCES) {
    this.#mostNonces = mostNonces;
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
    return this.#epochs.get(epochKey(owner, sealId)) ?? 0;
  }

  async commit(release: Release, now: number): Promise<'done' | 'nonce' | 'epoch'> {
    const { nonce, owner, sealId, epoch, entry } = release;
    if (this.#status(nonce, now) !== 'fresh') return 'nonce';
    const key = epochKey(owner, sealId);
    if (epoch < (this.#epochs.get(key) ?? 0)) return 'epoch';
    this.audit.append(entry);
    const issued = this.#nonces.get(hex(nonce));
    if (issued !== undefined) issued.used = true;
    this.#epochs.set(key, epoch);
    return 'done';
  }

  #status(nonce: Uint8Array, now: number): NonceStatus {
    const entry = this.#nonces.get(hex(nonce));
    if (entry === undefined) return 'unknown';
    if (entry.used) return 'used';
    return entry.expires < now ? 'expired' : 'fresh';
  }
}

const epochKey = (owner: Uint8Array, sealId: Uint8Array): string => `${hex(owner)}:${hex(sealId)}`;
