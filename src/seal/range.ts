import { usageError } from '../core/errors.ts';
import {
  decryptSegment,
  FLOE,
  FLOE_HEADER_LENGTH,
  SEGMENT_OVERHEAD,
  segmentCount,
  segmentPlain,
  startDecryption,
} from './floe.ts';
import type { SealIndex } from './index-part.ts';
import type { ParsedHeader } from './layout.ts';
import { partOffsets } from './open.ts';
import { partAad } from './secrets.ts';
import type { ByteSource } from './source.ts';

/** What a range is read from: an open sealed model and its decrypted index, which holds the parts' keys. */
export interface OpenSealed {
  source: ByteSource;
  parsed: ParsedHeader;
  index: SealIndex;
}

/**
 * `length` bytes of a file from `offset`, in pieces of at most 1 MiB, decrypting only the segments that they touch. Each piece is
 * authentic: what the owner sealed, in its place. The file's digest is not compared; that takes the whole file. Throws `ERR_SEAL_RANGE`
 * (exit 2) for bytes that are not there, `ERR_SEAL_TAMPERED` (exit 3).
 */
export async function* readRange(
  { source, parsed, index }: OpenSealed,
  path: string,
  offset: number,
  length: number,
): AsyncGenerator<Buffer> {
  const file = index.files.find((candidate) => candidate.path === path);
  if (!file) throw usageError('ERR_SEAL_RANGE', `there is no file ${JSON.stringify(path)} in the sealed model`);
  if (
    !Number.isSafeInteger(offset) ||
    !Number.isSafeInteger(length) ||
    offset < 0 ||
    length < 0 ||
    offset + length > file.size
  ) {
    throw usageError(
      'ERR_SEAL_RANGE',
      `expected a range within the ${file.size} bytes of ${JSON.stringify(path)}, found ${length} bytes from ${offset}`,
    );
  }
  const offsets = partOffsets(parsed);
  let begins = 0;
  for (const extent of file.extents) {
    const from = Math.max(offset, begins) - begins;
    const to = Math.min(offset + length, begins + extent.length) - begins;
    begins += extent.length;
    const part = index.parts[extent.part];
    const at = offsets[extent.part];
    if (to <= from || !part || at === undefined) continue;
    yield* readPart(source, part, at, extent.offset + from, extent.offset + to);
  }
}

/** Bytes `from` to `to` (exclusive) of a part's plaintext; the part begins at `at` of the source. */
async function* readPart(
  source: ByteSource,
  { id, key, length }: SealIndex['parts'][number],
  at: number,
  from: number,
  to: number,
): AsyncGenerator<Buffer> {
  const full = segmentPlain();
  const state = startDecryption(key, partAad(id, length), await source.read(at, FLOE_HEADER_LENGTH));
  const last = segmentCount(length) - 1;
  for (let position = Math.floor(from / full); position * full < to; position++) {
    const final = position === last;
    const size = SEGMENT_OVERHEAD + (final ? length - position * full : full);
    const sealed = await source.read(at + FLOE_HEADER_LENGTH + position * FLOE.segmentLength, size);
    const plaintext = decryptSegment(state, sealed, position, final);
    yield plaintext.subarray(Math.max(0, from - position * full), Math.min(plaintext.length, to - position * full));
  }
}
