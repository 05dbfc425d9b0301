import type { Check } from '../core/check.ts';
import { AtomaError, refusedError } from '../core/errors.ts';

// How a broker says no: which rule, what it expected and what it found. Users of other brokers get a bare "denied".

/** A refusal's JSON is read up to here. */
const LIMIT = 8192;

/** A refusal in the words that the other side shows. `rule` is the name of what refused. */
export const refusal = (code: `ERR_${string}`, rule: string, expected: string, found: string, cause?: unknown) =>
  refusedError(code, `the broker refused (${rule}): expected ${expected}, found ${found}`, {
    details: { rule, expected, found },
    cause,
  });

/** The JSON that refusals travel in. Errors that are not refusals say nothing about themselves. */
export function encodeRefusal(error: unknown): Buffer {
  const known = error instanceof AtomaError && error.exitCode === 4 && error.details !== undefined;
  const { rule, expected, found } = (known ? error.details : undefined) ?? {
    rule: 'internal',
    expected: 'no failure',
    found: 'an unexpected failure in the broker',
  };
  return Buffer.from(
    JSON.stringify({ error: { code: known ? error.code : 'ERR_BROKER_INTERNAL', rule, expected, found } }),
  );
}

/** The error that a refusal's JSON stands for; what a hostile broker may put there is cut and cleaned. Exit 4. */
export function decodeRefusal(status: number, body: Uint8Array): AtomaError {
  let fields: Record<string, unknown> = {};
  try {
    fields = JSON.parse(Buffer.from(body.subarray(0, LIMIT)).toString())?.error ?? {};
  } catch {}
  const text = (value: unknown) =>
    typeof value === 'string' ? value.replace(/[^\x20-\x7e]/g, '?').slice(0, 300) : 'unknown';
  const { code, rule, expected, found } = fields;
  return refusal(
    typeof code === 'string' && /^ERR_[A-Z0-9_]{1,40}$/.test(code) ? (code as `ERR_${string}`) : 'ERR_RELEASE_REFUSED',
    rule === undefined ? `HTTP ${status}` : text(rule),
    text(expected),
    text(found),
  );
}

/** Refuses with the first check that failed, which becomes the rule. */
export function refuseFirst(code: `ERR_${string}`, checks: Check[]): void {
  const failed = checks.find((check) => check.status === 'fail');
  if (failed === undefined) return;
  const debug = failed.id.endsWith('.debug');
  const { expected = 'it to hold', actual, detail } = failed;
  throw refusal(debug ? 'ERR_RELEASE_DEBUG' : code, failed.id, expected, actual ?? detail ?? 'that it does not');
}

/** Runs `run`; its errors become refusals (see asRefusal). */
export async function refuseErrors<T>(
  code: `ERR_${string}`,
  rule: string,
  expected: string,
  run: () => T | Promise<T>,
): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw asRefusal(error, code, rule, expected);
  }
}

/** Other modules' errors about the requester's bytes become refusals; a programming error stays what it is. */
export function asRefusal(error: unknown, code: `ERR_${string}`, rule: string, expected: string): unknown {
  if (!(error instanceof AtomaError) || error.exitCode === 4) return error;
  return refusal(code, rule, expected, error.message, error);
}
