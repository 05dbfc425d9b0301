import { createHash, type Hash } from 'node:crypto';
import { equalBytes, hex, isZero, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import type { OnProgress } from '../core/progress.ts';
import { modelDigest } from '../model/model.ts';
import { paddingError, tampered, truncated, wrongDigest } from './errors.ts';
import {
  decryptSegment,
  decryptSegmentInto,
  FLOE,
  FLOE_HEADER_LENGTH,
  floeLength,
  SEGMENT_OVERHEAD,
  segmentCount,
  segmentPlain,
  startDecryption,
} from './floe.ts';
import { headerLength, type ParsedHeader, PREFIX_LENGTH, pad, parseHeader, sealedSize } from './header.ts';
import { decodeIndex, type IndexFile, type SealIndex } from './index-part.ts';
import { checkContentKey, indexAad, indexKey, partAad } from './secrets.ts';
import type { ByteSource } from './source.ts';

export { type ByteSource, fileSource } from './source.ts';
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

/** Where each part begins in the file, in order. */
export function partOffsets({ header, payloadOffset }: ParsedHeader): number[] {
  let at = payloadOffset + pad(header.index.length);
  return header.parts.map((part) => {
    const offset = at;
    at += pad(part.length);
    return offset;
  });
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
  const segments: Buffer[] = [];
  for (let at = FLOE_HEADER_LENGTH; at < bytes.length; at += FLOE.segmentLength) {
    const final = at + FLOE.segmentLength >= bytes.length;
    segments.push(decryptSegment(state, bytes.subarray(at, at + FLOE.segmentLength), segments.length, final));
  }
  const plain = Buffer.concat(segments);
  // One way to cut it: no empty segment after a full one.
  if (floeLength(plain.length) !== bytes.length) throw tampered('its index ends in an empty segment');
  return decodeIndex(new Uint8Array(plain), parsed.header);
}

/**
 * Decrypts everything into `sink`, in this thread, reading the source in order. Every segment is authenticated before it is handed
 * on, every file's digest is checked when it ends, all padding is checked. Returns the model digest (hex), computed from what was
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
  const offsets = partOffsets(parsed);
  const full = segmentPlain();
  const buffer = Buffer.allocUnsafeSlow(
    index.parts.reduce((most, { length }) => Math.min(full, Math.max(most, length)), 0),
  );
  let done = 0;
  for (const [i, part] of index.parts.entries()) {
    let at = offsets[i] ?? 0;
    const state = startDecryption(part.key, partAad(part.id, part.length), await source.read(at, FLOE_HEADER_LENGTH));
    at += FLOE_HEADER_LENGTH;
    const count = segmentCount(part.length);
    for (let position = 0; position < count; position++) {
      const final = position === count - 1;
      const length = SEGMENT_OVERHEAD + (final ? part.length - position * full : full);
      const size = decryptSegmentInto(buffer, state, await source.read(at, length), position, final);
      at += length;
      await writer.write(buffer.subarray(0, size));
      done += size;
      onProgress?.({ phase: 'opening the model', done, total });
    }
    const ciphertext = floeLength(part.length);
    if (!isZero(await source.read(at, pad(ciphertext) - ciphertext))) throw paddingError(`part ${i + 1}`);
  }
  await writer.finish();
  return { digest: modelDigest(index.files.map((f) => ({ name: f.path, sha256: hex(f.sha256) }))) };
}

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
