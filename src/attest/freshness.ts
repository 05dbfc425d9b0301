import { type Check, fail, pass } from '../core/check.ts';
import type { VerifyEvidenceOptions } from './types.ts';

/** Clocks of honest machines differ by less. */
const SKEW_SECONDS = 300;

/**
 * Judges when evidence was made: never in the future; at most `maxAgeSeconds` ago where the caller wants it recent. Time
 * in the simulated TEE is the host's.
 */
export function freshness(timestamp: Date, { now, at, maxAgeSeconds }: VerifyEvidenceOptions): Check {
  const clock = maxAgeSeconds === undefined && at !== undefined ? at : now;
  const age = (clock.getTime() - timestamp.getTime()) / 1000;
  const actual = timestamp.toISOString();
  if (age < -SKEW_SECONDS) {
    return fail('evidence.time', { expected: `not after ${clock.toISOString()}`, actual });
  }
  if (maxAgeSeconds !== undefined && age > maxAgeSeconds) {
    return fail('evidence.time', { expected: `at most ${maxAgeSeconds} s before ${clock.toISOString()}`, actual });
  }
  return pass('evidence.time', actual);
}
