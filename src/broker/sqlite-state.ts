import type { DatabaseSync } from 'node:sqlite';
import { hex, sha256 } from '../core/bytes.ts';
import { type AuditEntry, type AuditSink, GENESIS, nextLine } from './audit.ts';
import { openStateDatabase } from './sqlite-file.ts';
import { type Advance, type BrokerState, MOST_EPOCHS, MOST_NONCES, type NonceStatus, type Release } from './state.ts';

export interface SqliteOptions {
  /** Key id (16 bytes) of the broker whose state it is. */
  brokerKeyId: Uint8Array;
  /** Default: a table of the same file. */
  audit?: AuditSink | undefined;
  mostNonces?: number;
  mostEpochs?: number;
}

/** Opens the state in `path`. Throws as openStateDatabase. */
export async function openSqliteState(path: string, options: SqliteOptions): Promise<SqliteState> {
  return new SqliteState(await openStateDatabase(path, options.brokerKeyId), options);
}

/**
 * State in a SQLite file (0600) that survives restarts; several processes of one broker may share it. What was committed is on the disk.
 * Issued nonces alone may be lost with the power: their use is refused then.
 */
export class SqliteState implements BrokerState {
  readonly #database: DatabaseSync;
  readonly #sink: AuditSink;
  readonly #mostNonces: number;
  readonly #mostEpochs: number;
  readonly #sql: ReturnType<typeof statements>;

  constructor(database: DatabaseSync, { audit, mostNonces = MOST_NONCES, mostEpochs = MOST_EPOCHS }: SqliteOptions) {
    this.#database = database;
    this.#sql = statements(database);
    this.#sink = audit ?? { append: (entry) => this.#append(entry) };
    this.#mostNonces = mostNonces;
    this.#mostEpochs = mostEpochs;
  }

  async issue(nonce: Uint8Array, expires: number, now: number): Promise<void> {
    // Nothing hangs on a nonce that was lost: no sync to the disk for every challenge of a stranger.
    this.#database.exec('PRAGMA synchronous = NORMAL');
    try {
      this.#transaction(() => {
        this.#sql.expire.run(now);
        const { lastInsertRowid } = this.#sql.issue.run(nonce, expires);
        this.#sql.forget.run(Number(lastInsertRowid) - this.#mostNonces);
      });
    } finally {
      this.#database.exec('PRAGMA synchronous = FULL');
    }
  }

  async nonceStatus(nonce: Uint8Array, now: number): Promise<NonceStatus> {
    return this.#status(nonce, now);
  }

  async epoch(owner: Uint8Array, sealId: Uint8Array): Promise<number> {
    return this.#epoch({ owner, sealId });
  }

  async commit(release: Release, now: number): Promise<'done' | 'nonce' | 'epoch' | 'full'> {
    return this.#transaction(() => {
      const { nonce, epoch, entry } = release;
      if (this.#status(nonce, now) !== 'fresh') return 'nonce';
      const previous = this.#epoch(release);
      if (epoch < previous) return 'epoch';
      if (this.#isFull(previous, epoch)) return 'full';
      this.#sql.use.run(nonce);
      this.#raise(release);
      this.#sink.append(entry);
      return 'done';
    });
  }

  async advance(advance: Advance): Promise<{ previous: number; epoch: number } | 'full'> {
    return this.#transaction(() => {
      const { epoch, entry } = advance;
      const previous = this.#epoch(advance);
      if (epoch <= previous) return { previous, epoch: previous };
      if (this.#isFull(previous, epoch)) return 'full';
      this.#raise(advance);
      this.#sink.append({ ...entry, before: previous });
      return { previous, epoch };
    });
  }

  close(): void {
    this.#database.close();
  }

  /** Nothing of it stays where something throws. IMMEDIATE: what is read holds until what follows from it is written. */
  #transaction<T>(run: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const result = run();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  #status(nonce: Uint8Array, now: number): NonceStatus {
    const row = this.#sql.nonce.get(nonce);
    if (row === undefined) return 'unknown';
    if (row.used !== 0) return 'used';
    return Number(row.expires) < now ? 'expired' : 'fresh';
  }

  #epoch({ owner, sealId }: { owner: Uint8Array; sealId: Uint8Array }): number {
    return Number(this.#sql.epoch.get(owner, sealId)?.epoch ?? 0);
  }

  #isFull(previous: number, epoch: number): boolean {
    return epoch > 1 && previous === 0 && Number(this.#sql.epochs.get()?.n) >= this.#mostEpochs;
  }

  #raise({ owner, sealId, epoch }: { owner: Uint8Array; sealId: Uint8Array; epoch: number }): void {
    if (epoch > 1) this.#sql.raise.run(owner, sealId, epoch);
  }

  #append(entry: AuditEntry): void {
    const last = this.#sql.last.get();
    const link =
      last === undefined
        ? GENESIS
        : { index: Number(last.line_index) + 1, head: hex(sha256(Buffer.from(String(last.line)))) };
    this.#sql.append.run(link.index, nextLine(link, entry));
  }
}

const statements = (database: DatabaseSync) => ({
  nonce: database.prepare('SELECT expires, used FROM nonces WHERE nonce = ?'),
  issue: database.prepare('INSERT INTO nonces (nonce, expires, used) VALUES (?, ?, 0)'),
  expire: database.prepare('DELETE FROM nonces WHERE expires < ?'),
  forget: database.prepare('DELETE FROM nonces WHERE id <= ?'),
  use: database.prepare('UPDATE nonces SET used = 1 WHERE nonce = ?'),
  epoch: database.prepare('SELECT epoch FROM epochs WHERE owner = ? AND seal = ?'),
  epochs: database.prepare('SELECT count(*) AS n FROM epochs'),
  raise: database.prepare(
    'INSERT INTO epochs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET epoch = max(epoch, excluded.epoch)',
  ),
  last: database.prepare('SELECT line_index, line FROM audit ORDER BY line_index DESC LIMIT 1'),
  append: database.prepare('INSERT INTO audit VALUES (?, ?)'),
});
