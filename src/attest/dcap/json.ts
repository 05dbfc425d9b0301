import * as z from 'zod';
import { usageError } from '../../core/errors.ts';

/** Intel's names for how good a TCB is. TDRelaunchAdvised comes out of an evaluation, never out of a file. */
export const STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;

/** What an evaluation comes to. */
export type PlatformStatus = (typeof STATUSES)[number] | 'TDRelaunchAdvised' | 'TDRelaunchAdvisedConfigurationNeeded';

/** TCB infos have 4 to 20 KB. */
const MOST_BYTES = 1 << 20;

/** A JSON object from its bytes. Throws `ERR_COLLATERAL_MALFORMED` (exit 2). */
export function objectOf(body: Uint8Array, what: string): Record<string, unknown> {
  const fail = (why: string, cause?: unknown) => usageError('ERR_COLLATERAL_MALFORMED', `${what}: ${why}`, { cause });
  if (body.length > MOST_BYTES) throw fail(`expected at most ${MOST_BYTES} bytes, found ${body.length}`);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body));
  } catch (cause) {
    throw fail('not JSON', cause);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw fail('not a JSON object');
  return json as Record<string, unknown>;
}

/** Hex of either case, of that many bytes; comes out in lower case. */
export const bytes = (length: number) =>
  z
    .string()
    .regex(new RegExp(`^[0-9A-Fa-f]{${2 * length}}$`), `expected ${length} bytes in hex`)
    .transform((text) => text.toLowerCase());

/** ISO 8601 in the one form that Intel uses. */
export const date = z
  .string()
  .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'expected a time such as 2025-06-19T10:56:11Z')
  .transform((text, context) => {
    const time = new Date(text);
    if (!Number.isNaN(time.getTime()) && time.toISOString() === text.replace('Z', '.000Z')) return time;
    context.issues.push({ code: 'custom', message: 'no such time', input: text });
    return z.NEVER;
  });

export const svn8 = z.number().int().nonnegative().max(0xff);
export const svn16 = z.number().int().nonnegative().max(0xffff);
export const components = z.array(z.object({ svn: svn8 }).transform(({ svn }) => svn)).length(16);

/** ISO 8601 without the milliseconds that Intel never has. */
export const isoTime = (time: Date): string => time.toISOString().replace('.000Z', 'Z');

/** A rating of one ISVSVN, of a quoting enclave or of a TDX module. */
export interface IsvLevel<Status extends string> {
  isvSvn: number;
  status: Status;
  date: string;
  advisories: string[];
}

/** Intel's rows of such ratings, highest SVN first. */
export const isvLevels = <Status extends string>(
  rows: { tcb: { isvsvn: number }; tcbStatus: Status; tcbDate: Date; advisoryIDs: string[] }[],
): IsvLevel<Status>[] =>
  rows
    .map(({ tcb, tcbStatus: status, tcbDate, advisoryIDs: advisories }) => ({
      isvSvn: tcb.isvsvn,
      status,
      date: isoTime(tcbDate),
      advisories,
    }))
    .sort((a, b) => b.isvSvn - a.isvSvn);
