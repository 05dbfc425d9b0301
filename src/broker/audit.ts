import { hex, sha256 } from '../core/bytes.ts';

/** One release, as the log keeps it. Ids and digests are hex. */
export interface AuditEntry {
  event: 'release';
  /** ISO 8601, by the broker's clock. */
  time: string;
  broker: string;
  owner: string;
  sealId: string;
  epoch: number;
  headerDigest: string;
  share: number;
  tee: string;
  simulated: boolean;
  measurement: unknown;
  nonce: string;
  evidence: string;
}

const GENESIS = '0'.repeat(64);

/**
 * An append-only log of JSON lines; each line carries its number and the SHA-256 of the line before it, so nothing in the
 * middle can be changed or taken out. It does not prove that nothing was cut off at the end.
 */
export class AuditLog {
  readonly #lines: string[] = [];
  #head = GENESIS;

  append(entry: AuditEntry): void {
    const line = JSON.stringify({ index: this.#lines.length, previous: this.#head, ...entry });
    this.#lines.push(line);
    this.#head = hash(line);
  }

  /** The lines, without line feeds. */
  lines(): string[] {
    return [...this.#lines];
  }

  /** Hex SHA-256 of the last line. */
  get head(): string {
    return this.#head;
  }
}

/** The number of the first line that does not follow from the one before it, or -1. */
export function findBrokenLink(lines: string[]): number {
  let previous = GENESIS;
  for (const [index, line] of lines.entries()) {
    try {
      const entry = JSON.parse(line);
      if (entry.index !== index || entry.previous !== previous) return index;
    } catch {
      return index;
    }
    previous = hash(line);
  }
  return -1;
}

const hash = (line: string): string => hex(sha256(Buffer.from(line)));
