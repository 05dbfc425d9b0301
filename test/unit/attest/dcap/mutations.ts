import { verifyDcap } from '../../../../src/attest/dcap/verify.ts';
import { allPass } from '../../../../src/core/check.ts';
import { AtomaError } from '../../../../src/core/errors.ts';
import { type Case, NOW } from './vectors.ts';

/** How a verifier takes hostile bytes; anything that is neither a verdict nor a documented error is thrown on. */
export function outcome({ quote, endorsements, at }: Case): 'accepted' | 'refused' | 'malformed' {
  try {
    const { checks } = verifyDcap(quote, { allowSimulated: [], now: NOW, at, endorsements });
    return allPass(checks) ? 'accepted' : 'refused';
  } catch (error) {
    if (error instanceof AtomaError && error.exitCode === 2) return 'malformed';
    throw error;
  }
}

/** A copy with one bit changed. */
export function flipped(bytes: Uint8Array, offset: number, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[offset] = (copy[offset] ?? 0) ^ (1 << bit);
  return copy;
}

/** Offsets at which a change of one bit of `given.quote` is accepted; `bits` are those that are tried at an offset. */
export function acceptedFlips(given: Case, from: number, to: number, bits: (offset: number) => number[]): string[] {
  const accepted: string[] = [];
  for (let offset = from; offset < to; offset++) {
    for (const bit of bits(offset)) {
      if (outcome({ ...given, quote: flipped(given.quote, offset, bit) }) === 'accepted')
        accepted.push(`${offset}.${bit}`);
    }
  }
  return accepted;
}
