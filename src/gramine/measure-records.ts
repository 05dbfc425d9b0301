import { createHash, type Hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { OnProgress } from '../core/progress.ts';
import { PAGE, type PageRange, type PlannedArea } from './enclave-layout.ts';

export interface MeasureOptions {
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
}

/** ECREATE, EADD and EEXTEND each add one record of 64 bytes to MRENCLAVE, EEXTEND also 256 bytes of a page (Intel SDM, volume 3D). */
const RECORD = 64;
const CHUNK = 256;
const PAGE_RECORDS = RECORD + (PAGE / CHUNK) * (RECORD + CHUNK);
/** Sizes that stay in a core's cache: what is hashed is written just before. */
const MEASURED_BATCH = 16;
const ADDED_BATCH = 1024;
/** After so many bytes other work gets its turn: an interrupt, a progress bar. */
const TURN = 64 << 20;

/** Feeds one SHA-256 with the records of ranges. */
export class Meter {
  readonly hash: Hash = createHash('sha256');
  readonly #options: MeasureOptions;
  readonly #measured = new Batch(MEASURED_BATCH, PAGE_RECORDS);
  readonly #added = new Batch(ADDED_BATCH, RECORD);
  readonly #total: number;
  /** Stacks of one size all hold the same: zeros. */
  readonly #zeros = new Map<string, string>();
  /** The batch of measured pages holds nothing but zeros, beside its records. */
  #clear = true;
  #done = 0;
  #turn = 0;

  constructor(plan: PlannedArea[], options: MeasureOptions) {
    this.#options = options;
    const pages = (range: PageRange) => (range.size / PAGE) * (range.content === 'added' ? RECORD : PAGE_RECORDS);
    this.#total = plan.flatMap(({ ranges }) => ranges).reduce((sum, range) => sum + pages(range), 0);
    for (let page = 0; page < MEASURED_BATCH; page++) {
      for (let chunk = 0; chunk < PAGE / CHUNK; chunk++)
        this.#measured.bytes.write('EEXTEND', chunkAt(page, chunk), 'latin1');
    }
  }

  /** Returns the digest of the area's own content. */
  async measure({ address, ranges }: PlannedArea): Promise<string> {
    const [first] = ranges;
    const key = ranges.length === 1 && first?.content === 'zero' ? `${first.size} ${first.flags}` : '';
    const known = this.#zeros.get(key);
    const own = createHash('sha256');
    for (const range of ranges) {
      own.update(rangeHeader(range, address));
      if (range.content === 'added') await this.#add(range);
      else await this.#extend(range, range.content, known === undefined ? own : undefined);
    }
    const digest = known ?? own.digest('hex');
    if (key !== '') this.#zeros.set(key, digest);
    return digest;
  }

  async #add({ address, size, flags }: PageRange): Promise<void> {
    const { bytes, words } = this.#added;
    writeAdds(this.#added, RECORD, flags);
    for (let page = 0, end = size / PAGE; page < end; ) {
      const count = Math.min(ADDED_BATCH, end - page);
      for (let i = 0; i < count; i++) writeOffset(words, i * RECORD, address + (page + i) * PAGE);
      page += count;
      if (this.#hash(bytes, count * RECORD)) await this.#pause();
    }
  }

  async #extend(
    { address, size, flags }: PageRange,
    content: Exclude<PageRange['content'], 'added'>,
    own: Hash | undefined,
  ): Promise<void> {
    const { bytes, words } = this.#measured;
    writeAdds(this.#measured, PAGE_RECORDS, flags);
    const scratch = Buffer.alloc(PAGE);
    if (content !== 'zero') this.#clear = false;
    else if (!this.#clear) {
      for (let page = 0; page < MEASURED_BATCH; page++) scatter(scratch, bytes, page);
      this.#clear = true;
    }
    for (let page = 0, end = size / PAGE; page < end; ) {
      const count = Math.min(MEASURED_BATCH, end - page);
      for (let i = 0; i < count; i++) {
        const at = address + (page + i) * PAGE;
        writeOffset(words, i * PAGE_RECORDS, at);
        for (let chunk = 0; chunk < PAGE / CHUNK; chunk++) writeOffset(words, chunkAt(i, chunk), at + chunk * CHUNK);
        if (content !== 'zero') {
          scratch.fill(0);
          content(scratch, page + i);
          scatter(scratch, bytes, i);
        }
        own?.update(scratch);
      }
      page += count;
      if (this.#hash(bytes, count * PAGE_RECORDS)) await this.#pause();
    }
  }

  /** True when it is others' turn. */
  #hash(bytes: Buffer, length: number): boolean {
    this.hash.update(length === bytes.length ? bytes : bytes.subarray(0, length));
    this.#done += length;
    return this.#done - this.#turn >= TURN;
  }

  async #pause(): Promise<void> {
    this.#turn = this.#done;
    this.#options.onProgress?.({ phase: 'measuring the enclave', done: this.#done, total: this.#total });
    await setImmediate();
    this.#options.signal?.throwIfAborted();
  }
}

/** Records of several pages; `words` are the same bytes, little-endian as every machine that runs Node. */
class Batch {
  readonly bytes: Buffer;
  readonly words: Uint32Array;

  constructor(pages: number, pageBytes: number) {
    const memory = new ArrayBuffer(pages * pageBytes);
    this.bytes = Buffer.from(memory);
    this.words = new Uint32Array(memory);
  }
}

const chunkAt = (page: number, chunk: number): number => page * PAGE_RECORDS + RECORD + chunk * (RECORD + CHUNK);

/** Every page begins with its EADD: all of it but the offset. */
function writeAdds({ bytes }: Batch, pageBytes: number, flags: number): void {
  for (let at = 0; at < bytes.length; at += pageBytes) {
    bytes.write('EADD\0\0\0\0', at, 'latin1');
    bytes.writeBigUInt64LE(BigInt(flags), at + 16);
  }
}

/** The offset of a record: 64 bits at its byte 8. */
function writeOffset(words: Uint32Array, record: number, offset: number): void {
  const word = (record + 8) >>> 2;
  words[word] = offset;
  words[word + 1] = offset / 0x1_0000_0000;
}

function scatter(content: Buffer, bytes: Buffer, page: number): void {
  for (let chunk = 0; chunk < PAGE / CHUNK; chunk++) {
    content.copy(bytes, chunkAt(page, chunk) + RECORD, chunk * CHUNK, (chunk + 1) * CHUNK);
  }
}

/** What ECREATE adds: the first record. */
export function createRecord(enclaveSize: bigint): Buffer {
  const record = Buffer.alloc(RECORD);
  record.write('ECREATE', 'latin1');
  record.writeUInt32LE(4, 8); // pages of an SSA frame
  record.writeBigUInt64LE(enclaveSize, 12);
  return record;
}

function rangeHeader({ address, size, flags }: PageRange, base: number): Buffer {
  const header = Buffer.alloc(24);
  [address - base, size, flags].forEach((value, index) => {
    header.writeBigUInt64LE(BigInt(value), index * 8);
  });
  return header;
}
