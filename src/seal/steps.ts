import { isZero } from '../core/bytes.ts';
import { paddingError } from './errors.ts';
import { FLOE_HEADER_LENGTH, floeLength, SEGMENT_OVERHEAD, segmentCount, segmentPlain } from './floe.ts';
import type { ParsedHeader } from './header.ts';
import type { IndexPart } from './index-part.ts';
import { pad } from './layout.ts';

// The payload from its first byte to its last, as a stream has it.

/** What is read at once: a segment; before it its part's FLOE header if it is the first, behind it the part's padding if it is the last. */
export interface Step {
  part: number;
  position: number;
  final: boolean;
  /** Where it begins in the sealed file. */
  at: number;
  /** Bytes of each of the three. */
  header: number;
  segment: number;
  padding: number;
}

/** More bytes than any step has. */
export const MAX_STEP = segmentPlain() + 8192;

/** Where each part begins in the file, in order. */
export function partOffsets({ header, payloadOffset }: ParsedHeader): number[] {
  let at = payloadOffset + pad(header.index.length);
  return header.parts.map((part) => {
    const offset = at;
    at += pad(part.length);
    return offset;
  });
}

export function* steps(parsed: ParsedHeader, parts: Pick<IndexPart, 'length'>[]): Generator<Step> {
  const offsets = partOffsets(parsed);
  const full = segmentPlain();
  for (const [part, { length }] of parts.entries()) {
    const last = segmentCount(length) - 1;
    const whole = floeLength(length);
    let at = offsets[part] ?? 0;
    for (let position = 0; position <= last; position++) {
      const final = position === last;
      const header = position === 0 ? FLOE_HEADER_LENGTH : 0;
      const segment = SEGMENT_OVERHEAD + (final ? length - position * full : full);
      const padding = final ? pad(whole) - whole : 0;
      yield { part, position, final, at, header, segment, padding };
      at += header + segment + padding;
    }
  }
}

export const stepLength = ({ header, segment, padding }: Step): number => header + segment + padding;

/** The segment in the bytes of a step. */
export const segmentOf = (bytes: Uint8Array, { header, segment }: Step): Uint8Array =>
  bytes.subarray(header, header + segment);

/** Of the bytes of a step. Throws `ERR_SEAL_PADDING` (exit 2). */
export function checkPadding(bytes: Uint8Array, { part, header, segment }: Step): void {
  if (!isZero(bytes.subarray(header + segment))) throw paddingError(`part ${part + 1}`);
}
