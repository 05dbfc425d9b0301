import { closeSync, constants, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { hex, sha256 } from '../core/bytes.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { type AuditEntry, type AuditSink, follow, GENESIS, type Link, nextLine } from './audit.ts';

const CHUNK = 1 << 20;
/** Longer than any line of ours. */
const MOST_LINE = 64 << 10;
const LINE_FEED = 0x0a;

/**
 * An audit log in a file (0600), see AuditLog. An entry is on the disk when `append` returns. Processes that share it must share their
 * state too: its transactions are what keeps them from writing at the same time.
 */
export class AuditFile implements AuditSink {
  readonly #path: string;
  readonly #fd: number;
  #end: Link;
  #size: number;
  /** Whether half a line, which a crash had left at the end, was taken away: what it was about has not been released. */
  readonly repaired: boolean;

  /**
   * Reads the whole log. Throws `ERR_BROKER_AUDIT` (exit 3) if a line does not follow from the one before it or is another broker's;
   * `ERR_FILE_KIND` (exit 2); `ERR_FILE_PERMISSION`, `ERR_IO` (exit 1).
   */
  constructor(path: string, brokerKeyId: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND, 0o600);
    } catch (error) {
      throw ioError(error, `cannot write the audit log ${path}`);
    }
    try {
      if (!fstatSync(this.#fd).isFile())
        throw usageError('ERR_FILE_KIND', `the audit log ${path} is not a regular file`);
      const { end, size, broker } = this.#read();
      if (broker !== undefined && broker !== brokerKeyId) {
        throw negativeError(
          'ERR_BROKER_AUDIT',
          `${path} is the audit log of another broker: expected ${brokerKeyId}, found ${broker}`,
        );
      }
      this.repaired = size < fstatSync(this.#fd).size;
      if (this.repaired) ftruncateSync(this.#fd, size);
      [this.#end, this.#size] = [end, size];
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  append(entry: AuditEntry): void {
    this.#catchUp();
    const line = nextLine(this.#end, entry);
    const bytes = Buffer.from(`${line}\n`);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
      fdatasyncSync(this.#fd);
    } catch (error) {
      ftruncateSync(this.#fd, this.#size);
      throw ioError(error, `cannot write the audit log ${this.#path}`);
    }
    this.#end = { index: this.#end.index + 1, head: hex(sha256(bytes.subarray(0, -1))) };
    this.#size += bytes.length;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Every line in order; `size` is where the last whole line ends. */
  #read(): { end: Link; size: number; broker?: string } {
    let [end, size, last, rest] = [GENESIS, 0, '', Buffer.alloc(0)];
    const chunk = Buffer.alloc(CHUNK);
    for (let at = 0; ; ) {
      const length = readSync(this.#fd, chunk, 0, CHUNK, at);
      if (length === 0) break;
      at += length;
      rest = Buffer.concat([rest, chunk.subarray(0, length)]);
      for (let feed = rest.indexOf(LINE_FEED); feed >= 0; feed = rest.indexOf(LINE_FEED)) {
        last = rest.subarray(0, feed).toString('utf8');
        const next = follow(end, last);
        if (next === null) throw broken(this.#path, end.index);
        end = next;
        size += feed + 1;
        rest = rest.subarray(feed + 1);
      }
      if (rest.length > MOST_LINE) throw broken(this.#path, end.index);
    }
    return { end, size, ...(last === '' ? {} : { broker: String(JSON.parse(last).broker) }) };
  }

  /** What another process has written since. */
  #catchUp(): void {
    const { size } = fstatSync(this.#fd);
    if (size === this.#size) return;
    if (size < this.#size) throw broken(this.#path, this.#end.index);
    const added = Buffer.alloc(size - this.#size);
    for (let done = 0; done < added.length; ) {
      const length = readSync(this.#fd, added, done, added.length - done, this.#size + done);
      if (length === 0) throw broken(this.#path, this.#end.index);
      done += length;
    }
    const lines = added.toString('utf8').split('\n');
    if (lines.pop() !== '') throw broken(this.#path, this.#end.index + lines.length);
    for (const line of lines) {
      const next = follow(this.#end, line);
      if (next === null) throw broken(this.#path, this.#end.index);
      this.#end = next;
    }
    this.#size = size;
  }
}

const broken = (path: string, index: number) =>
  negativeError(
    'ERR_BROKER_AUDIT',
    `the audit log ${path} was changed: expected line ${index + 1} to follow from the one before it`,
    { hint: 'keep it as evidence, find out who wrote to it, and start another one' },
  );
