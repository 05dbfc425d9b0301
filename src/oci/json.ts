import type * as z from 'zod';
import { type AtomaError, usageError } from '../core/errors.ts';

/** What a hostile text becomes before it is shown: no control characters, not endless. */
export const shown = (value: unknown): string => JSON.stringify(String(value)).slice(1, -1).slice(0, 200);

export const malformed = (what: string, why: string, cause?: unknown): AtomaError =>
  usageError('ERR_OCI_MALFORMED', `${what} cannot be read: ${why}`, cause === undefined ? {} : { cause });

export const unsupported = (what: string, why: string, hint?: string): AtomaError =>
  usageError('ERR_OCI_UNSUPPORTED', `${what} ${why}`, hint === undefined ? {} : { hint });

/**
 * Reads a JSON document of a known shape. The bytes are bounded by whoever fetched them. `what` is for people: "the
 * manifest of app:1". Throws `ERR_OCI_MALFORMED` (exit 2), which names the first wrong field and not its content.
 */
export function readJson<T>(bytes: Uint8Array, schema: z.ZodType<T>, what: string): T {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw malformed(what, 'it is not JSON', error);
  }
  const result = schema.safeParse(parsed);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const at = issue?.path.map(String).join('.') ?? '';
  throw malformed(what, `${at === '' ? '' : `${shown(at)}: `}${issue?.message ?? 'it has another form'}`);
}
