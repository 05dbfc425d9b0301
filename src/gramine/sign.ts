import { usageError } from '../core/errors.ts';
import type { SgxMeasurement } from '../core/measurement.ts';
import { type EnclaveArea, type MeasureOptions, measureEnclave } from './measure.ts';
import { sgxSettings } from './settings.ts';
import type { SgxSigner } from './signer.ts';
import { signedBytes } from './sigstruct.ts';
import { completeSigstruct, unsignedSigstruct } from './sigstruct-write.ts';

export interface SignManifestOptions extends MeasureOptions {
  /** The bytes of NAME.manifest.sgx, which are measured. */
  manifest: Uint8Array;
  /** The same, parsed. */
  table: Record<string, unknown>;
  libpal: Uint8Array;
  signer: SgxSigner;
  /** YYYY-MM-DD, see `signingDate`. */
  date: string;
}

/** Measures an enclave and signs it: the bytes of NAME.sig. Throws what `sgxSettings`, `measureEnclave` and the signer throw. */
export async function signManifest(
  options: SignManifestOptions,
): Promise<{ sigstruct: Buffer; measurement: SgxMeasurement; areas: EnclaveArea[] }> {
  const { manifest, table, libpal, signer, date } = options;
  const settings = sgxSettings(table);
  const { mrenclave, areas } = await measureEnclave(manifest, libpal, settings, options);
  const sigstruct = unsignedSigstruct(settings, mrenclave, requireDate(date));
  completeSigstruct(sigstruct, signer.modulus, await signer.sign(signedBytes(sigstruct)));
  const { isvprodid, isvsvn } = settings;
  return { sigstruct, measurement: { tee: 'sgx', mrenclave, mrsigner: signer.mrsigner, isvprodid, isvsvn }, areas };
}

/**
 * The date of a signature: as given, else of SOURCE_DATE_EPOCH, else today (UTC), which makes two signatures of one enclave
 * differ tomorrow. Throws `ERR_USAGE`.
 */
export function signingDate(
  given: string | undefined,
  epoch: string | undefined = process.env.SOURCE_DATE_EPOCH,
  now: Date = new Date(),
): { date: string; from: 'given' | 'SOURCE_DATE_EPOCH' | 'today' } {
  if (given !== undefined) return { date: requireDate(given), from: 'given' };
  if (epoch === undefined || epoch === '') return { date: now.toISOString().slice(0, 10), from: 'today' };
  const seconds = /^\d{1,12}$/.test(epoch) ? Number(epoch) : Number.NaN;
  const date = new Date(seconds * 1000);
  if (!(date.getUTCFullYear() <= 9999)) {
    throw usageError('ERR_USAGE', `SOURCE_DATE_EPOCH: expected seconds since 1970, found "${epoch}"`);
  }
  return { date: date.toISOString().slice(0, 10), from: 'SOURCE_DATE_EPOCH' };
}

/** A day that there is, or 0000-00-00, which says nothing. */
function requireDate(date: string): string {
  if (date === '0000-00-00') return date;
  const day = /^\d{4}-\d{2}-\d{2}$/.test(date) ? new Date(`${date}T00:00:00Z`) : new Date(Number.NaN);
  if (!Number.isNaN(day.getTime()) && day.toISOString().startsWith(date)) return date;
  throw usageError('ERR_USAGE', `expected a date such as 2025-01-31 (or 0000-00-00), found "${date}"`);
}
