import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { type AtomaError, negativeError, usageError } from '../core/errors.ts';
import { parseDigest } from './digest.ts';
import { malformed } from './json.ts';

export type Compression = 'none' | 'gzip' | 'zstd';

/** What a blob has to be. */
export interface BlobPin {
  digest?: string | undefined;
  size: number;
  /** What its first bytes have to say. */
  compression?: Compression;
}

const CHUNK = 1 << 20;
/** As many bytes as a decision about the compression needs. */
const MAGIC = 4;

/** gzip (RFC 1952, 2.3.1) and zstd (RFC 8878, 3.1.1) begin with numbers that no name of a tar's first entry does. */
export function sniffCompression(start: Uint8Array): Compression | 'xz' | 'bzip2' {
  const begins = (...bytes: number[]) => bytes.every((byte, i) => start[i] === byte);
  if (begins(0x1f, 0x8b)) return 'gzip';
  if (begins(0x28, 0xb5, 0x2f, 0xfd)) return 'zstd';
  if (begins(0xfd, 0x37, 0x7a, 0x58)) return 'xz';
  if (begins(0x42, 0x5a, 0x68)) return 'bzip2';
  return 'none';
}

/** Throws `ERR_OCI_UNSUPPORTED` (exit 2) for a compression that no media type of a layer stands for. */
export function layerCompression(start: Uint8Array, what: string): Compression {
  const found = sniffCompression(start);
  if (found !== 'xz' && found !== 'bzip2') return found;
  throw usageError('ERR_OCI_UNSUPPORTED', `${what} is compressed by ${found}; expected gzip, zstd or no compression`);
}

/**
 * The bytes of `source`, the last of them only when all are right. Throws `ERR_OCI_SIZE` for more or fewer,
 * `ERR_OCI_DIGEST` for others (exit 3), `ERR_OCI_MALFORMED` (exit 2) where the compression is not the promised one.
 */
export async function* verified(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  { digest, size, compression }: BlobPin,
  what: string,
): AsyncGenerator<Uint8Array> {
  const pin = digest === undefined ? null : parseDigest(digest);
  if (digest !== undefined && pin === null) throw malformed(what, 'not a digest');
  const hash = pin === null ? null : createHash(pin.algorithm);
  let done = 0;
  let held: Uint8Array | null = null;
  let judged = compression === undefined;
  for await (const chunk of source) {
    done += chunk.length;
    if (done > size) throw wrongSize(what, size, 'more');
    hash?.update(chunk);
    if (!judged) {
      // A promise about the compression that the bytes break is a damaged or a forged image: two readers could differ.
      held = held === null ? chunk : Buffer.concat([held, chunk]);
      if (held.length < MAGIC && done < size) continue;
      judgeCompression(held, compression, what);
      judged = true;
      continue;
    }
    if (held !== null) yield held;
    held = chunk;
  }
  if (done !== size) throw wrongSize(what, size, `${done}`);
  const found = hash?.digest('hex');
  if (found !== pin?.hex) throw wrongDigest(what, digest ?? '', `${pin?.algorithm}:${found}`);
  if (held !== null) yield held;
}

function judgeCompression(start: Uint8Array, promised: Compression | undefined, what: string): void {
  const found = sniffCompression(start);
  if (found !== promised)
    throw malformed(what, `its media type says compression "${promised}", its bytes say "${found}"`);
}

/** A stream of a generator's bytes; destroying it ends the generator. */
export const byteStream = (source: AsyncIterable<Uint8Array>): Readable =>
  Readable.from(source, { objectMode: false, highWaterMark: CHUNK });

/** Part of a file, by positional reads: any number of readers can share the handle. */
export async function* fileRange(handle: FileHandle, offset: number, size: number): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < size; ) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, size - done));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, offset + done);
    if (bytesRead === 0) return;
    done += bytesRead;
    yield chunk.subarray(0, bytesRead);
  }
}

/** A whole small document, compared with its pin. Throws `ERR_OCI_TOO_LARGE` (exit 2) and what `verified` throws. */
export async function readDocument(
  source: AsyncIterable<Uint8Array>,
  pin: { digest?: string | undefined; size?: number | undefined },
  limit: number,
  what: string,
): Promise<Buffer> {
  if ((pin.size ?? 0) > limit) throw tooLarge(what, limit);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    size += chunk.length;
    if (size > (pin.size ?? limit))
      throw pin.size === undefined ? tooLarge(what, limit) : wrongSize(what, pin.size, 'more');
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  for await (const _ of verified([bytes], { digest: pin.digest, size: pin.size ?? size }, what));
  return bytes;
}

export const wrongDigest = (what: string, expected: string, found: string): AtomaError =>
  negativeError('ERR_OCI_DIGEST', `${what} is another than expected: expected ${expected}, found ${found}`, {
    hint: 'it was replaced, damaged or tampered with: do not use it before you know which',
    details: { expected, found },
  });

export const wrongSize = (what: string, expected: number, found: string): AtomaError =>
  negativeError('ERR_OCI_SIZE', `${what} has another size than declared: expected ${expected} bytes, found ${found}`);

export const tooLarge = (what: string, limit: number): AtomaError =>
  usageError('ERR_OCI_TOO_LARGE', `${what} is larger than anything of its kind: expected at most ${limit} bytes`);
