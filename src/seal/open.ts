import { createHash, type Hash } from 'node:crypto';
import { equalBytes, hex, isZero, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import type { OnProgress } from '../core/progress.ts';
import { modelDigest } from '../model/model.ts';
import { paddingError, tampered, truncated, wrongDigest } from './errors.ts';
import { decryptSegmentInto, FLOE, FLOE_HEADER_LENGTH, type FloeState, floeLength, startDecryption } from './floe.ts';
import { headerLength, type ParsedHeader, PREFIX_LENGTH, pad, parseHeader, sealedSize } from './header.ts';
import { decodeIndex, type IndexFile, type SealIndex } from './index-part.ts';
import { checkContentKey, indexAad, indexKey, partAad } from './secrets.ts';
import { type ByteSource, readInto } from './source.ts';
import { checkPadding, MAX_STEP, type Step, segmentOf, stepLength, steps } from './steps.ts';

export { type ByteSource, fileSource } from './source.ts';
export { partOffsets } from './steps.ts';
export type { IndexFile, SealIndex };

/**
 * Where decrypted files go, in payload order, one at a time. A chunk is good until write() settles, then it is overwritten; what was made of
 * them is good only once extract() has returned.
 */
export interface ExtractSink {
  open(file: IndexFile): Promise<{ write(chunk: Uint8Array): Promise<void>; close(): Promise<void> }>;
}

/**
 * Reads and parses the header, and checks that the source is as long as it says. The signature is not verified. Throws as
 * parseHeader, `ERR_SEAL_TRUNCATED` or `ERR_SEAL_TRAILING` (exit 2).
 */
export async function readHeader(source: ByteSource): Promise<ParsedHeader> {
  const end = headerLength(await source.read(0, Math.min(PREFIX_LENGTH, source.size)));
  if (source.size < pad(end))
    throw truncated(`the header has ${pad(end)} bytes with its padding, found ${source.size}`);
  const parsed = parseHeader(await source.read(0, pad(end)));
  const size = sealedSize(parsed);
  if (source.size < size) throw truncated(`expected ${size} bytes, found ${source.size}`);
  if (source.size > size) {
    throw usageError('ERR_SEAL_TRAILING', `expected a sealed model of ${size} bytes, found ${source.size}`);
  }
  return parsed;
}

/** Checks the index against the digest in the header; needs no key. Throws `ERR_SEAL_TAMPERED` (exit 3), `ERR_SEAL_PADDING`. */
export async function readIndexBytes(source: ByteSource, { header, payloadOffset }: ParsedHeader): Promise<Uint8Array> {
  const { length, sha256: expected } = header.index;
  const region = await source.read(payloadOffset, pad(length));
  const bytes = region.subarray(0, length);
  if (!equalBytes(sha256(bytes), expected)) {
    throw tampered('its index has another digest than the header says');
  }
  if (!isZero(region.subarray(length))) throw paddingError('the index');
  return bytes;
}

/**
 * Decrypts the index with the content key (32 bytes). Throws `ERR_SEAL_KEY`, `ERR_SEAL_TAMPERED`, `ERR_SEAL_INDEX` (exit 3),
 * `ERR_SEAL_PADDING` (exit 2).
 */
export async function openIndex(source: ByteSource, parsed: ParsedHeader, ck: Uint8Array): Promise<SealIndex> {
  const { sealId } = parsed.header;
  checkContentKey(parsed.header, ck);
  const bytes = await readIndexBytes(source, parsed);
  const state = startDecryption(indexKey(ck, sealId), indexAad(sealId), bytes.subarray(0, FLOE_HEADER_LENGTH));
  const buffer = Buffer.allocUnsafeSlow(bytes.length);
  let length = 0;
  for (let at = FLOE_HEADER_LENGTH, n = 0; at < bytes.length; at += FLOE.segmentLength, n++) {
    const segment = bytes.subarray(at, at + FLOE.segmentLength);
    const final = at + FLOE.segmentLength >= bytes.length;
    length += decryptSegmentInto(buffer.subarray(length), state, segment, n, final);
  }
  const plain = new Uint8Array(buffer.buffer, 0, length);
  // One way to cut it: no empty segment after a full one.
  if (floeLength(plain.length) !== bytes.length) throw tampered('its index ends in an empty segment');
  return decodeIndex(plain, parsed.header);
}

/**
 * Decrypts everything into `sink`, in this thread, reading the source in order and one step ahead. Every segment is authenticated before it
 * is handed on, every file's digest is checked when it ends, all padding is checked. Returns the model digest (hex), computed from what was
 * decrypted. Throws `ERR_SEAL_TAMPERED`, `ERR_SEAL_DIGEST` (exit 3), `ERR_SEAL_PADDING`, `ERR_SEAL_TRUNCATED` (exit 2).
 */
export async function extract(
  source: ByteSource,
  parsed: ParsedHeader,
  index: SealIndex,
  ck: Uint8Array,
  sink: ExtractSink,
  onProgress?: OnProgress,
): Promise<{ digest: string }> {
  checkContentKey(parsed.header, ck);
  const total = index.files.reduce((sum, file) => sum + file.size, 0);
  const writer = new FileWriter(index, sink);
  let done = 0;
  let state: FloeState | undefined;
  for await (const { step, bytes } of readSteps(source, parsed, index)) {
    const part = index.parts[step.part];
    if (!part) throw new RangeError('no such part');
    if (step.position === 0) {
      state = startDecryption(part.key, partAad(part.id, part.length), bytes.subarray(0, FLOE_HEADER_LENGTH));
    }
    if (!state) throw new RangeError('a part without a beginning');
    const size = decryptSegmentInto(bytes, state, segmentOf(bytes, step), step.position, step.final);
    checkPadding(bytes, step);
    await writer.write(bytes.subarray(0, size));
    done += size;
    onProgress?.({ phase: 'opening the model', done, total });
  }
  await writer.finish();
  return { digest: digestOf(index) };
}

/** While one step is worked on, the next is being read. The bytes are the taker's until it asks for more. */
async function* readSteps(
  source: ByteSource,
  parsed: ParsedHeader,
  index: SealIndex,
): AsyncGenerator<{ step: Step; bytes: Buffer }> {
  const most = index.parts.reduce((size, { length }) => Math.min(MAX_STEP, Math.max(size, length + 8192)), 0);
  let [free, other] = [Buffer.allocUnsafeSlow(most), Buffer.allocUnsafeSlow(most)];
  const read = (step: Step) => {
    const bytes = free.subarray(0, stepLength(step));
    [free, other] = [other, free];
    const ready = readInto(source, step.at, bytes);
    // Asked about later; until then it is nobody's.
    ready.catch(() => {});
    return { step, bytes, ready };
  };
  let ahead: ReturnType<typeof read> | undefined;
  for (const step of steps(parsed, index.parts)) {
    const current = ahead;
    await current?.ready;
    ahead = read(step);
    if (current) yield current;
  }
  await ahead?.ready;
  if (ahead) yield ahead;
}

/** The model digest (hex) of files whose digests were checked. */
export const digestOf = (index: SealIndex): string =>
  modelDigest(index.files.map((f) => ({ name: f.path, sha256: hex(f.sha256) })));

/** Cuts the payload into files and checks each. */
class FileWriter {
  readonly #index: SealIndex;
  readonly #sink: ExtractSink;
  #piece = 0;
  #used = 0;
  #current: { hash: Hash; out: Awaited<ReturnType<ExtractSink['open']>> } | null = null;

  constructor(index: SealIndex, sink: ExtractSink) {
    this.#index = index;
    this.#sink = sink;
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      const piece = this.#index.pieces[this.#piece];
      const file = piece && this.#index.files[piece.file];
      if (!piece || !file) throw new RangeError('more payload than the index has extents for');
      this.#current ??= { hash: createHash('sha256'), out: await this.#sink.open(file) };
      const bytes = chunk.subarray(at, at + piece.length - this.#used);
      this.#current.hash.update(bytes);
      await this.#current.out.write(bytes);
      at += bytes.length;
      this.#used += bytes.length;
      if (this.#used < piece.length) return;
      if (piece.fileOffset + piece.length === file.size) {
        checkDigest(file, this.#current.hash.digest());
        await this.#current.out.close();
        this.#current = null;
      }
      this.#piece++;
      this.#used = 0;
    }
  }

  async finish(): Promise<void> {
    for (const file of this.#index.files.filter((f) => f.size === 0)) {
      checkDigest(file, sha256());
      await (await this.#sink.open(file)).close();
    }
  }
}

/** Throws `ERR_SEAL_DIGEST` (exit 3). */
export function checkDigest(file: IndexFile, actual: Uint8Array): void {
  if (!equalBytes(file.sha256, actual)) throw wrongDigest(file.path);
}
