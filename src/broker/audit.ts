import { hex, sha256 } from '../core/bytes.ts';

/** One release or one advance, as the log keeps it. Ids and digests are hex. */
export type AuditEntry = ReleaseEntry | AdvanceEntry;

interface CommonEntry {
  /** ISO 8601, by the broker's clock. */
  time: string;
  broker: string;
  owner: string;
  sealId: string;
  epoch: number;
  headerDigest: string;
}

export interface ReleaseEntry extends CommonEntry {
  event: 'release';
  share: number;
  tee: string;
  simulated: boolean;
  measurement: unknown;
  nonce: string;
  evidence: string;
}

export interface AdvanceEntry extends CommonEntry {
  event: 'advance';
  /** The epoch in force before. */
  before: number;
}

/** Where entries go. When `append` returns, the entry is kept; when it throws, nothing may be released. */
export interface AuditSink {
  append(entry: AuditEntry): void;
}

/** What the first line follows. */
export const GENESIS: Link = { index: 0, head: '0'.repeat(64) };

/** Where a log ends: how many lines it has, hex SHA-256 of the last one. */
export interface Link {
  index: number;
  head: string;
}

/** The line, without its line feed, that continues a log with this entry. */
export const nextLine = ({ index, head }: Link, entry: AuditEntry): string =>
  JSON.stringify({ index, previous: head, ...entry });

/** The end of a log after `line`, which has to follow from `link`; null if it does not. */
export function follow(link: Link, line: string): Link | null {
  try {
    const entry = JSON.parse(line);
    if (entry.index !== link.index || entry.previous !== link.head) return null;
    return { index: link.index + 1, head: hex(sha256(Buffer.from(line))) };
  } catch {
    return null;
  }
}

/** Lines that a log in memory keeps; older ones are forgotten. */
const MOST_LINES = 10_000;

/**
 * An append-only log of JSON lines; each line carries its number and the SHA-256 of the line before it, so nothing in the
 * middle can be changed or taken out. It does not prove that nothing was cut off at the end. This one is in memory.
 */
export class AuditLog implements AuditSink {
  readonly #lines: string[] = [];
  #end = GENESIS;

  append(entry: AuditEntry): void {
    const line = nextLine(this.#end, entry);
    this.#lines.push(line);
    if (this.#lines.length > MOST_LINES) this.#lines.shift();
    this.#end = { index: this.#end.index + 1, head: hex(sha256(Buffer.from(line))) };
  }

  /** The last lines, without line feeds. */
  lines(): string[] {
    return [...this.#lines];
  }

  /** Hex SHA-256 of the last line. */
  get head(): string {
    return this.#end.head;
  }
}

/** The number of the first line that does not follow from the one before it, or -1. */
export function findBrokenLink(lines: string[]): number {
  let link: Link | null = GENESIS;
  for (const [index, line] of lines.entries()) {
    link = follow(link, line);
    if (link === null) return index;
  }
  return -1;
}
