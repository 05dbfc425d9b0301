import { AtomaError } from '../../core/errors.ts';
import { type Certificate, parseCertificate } from '../certificate.ts';
import { type Crl, parseCrl } from '../crl.ts';
import type { Endorsements, SignedJson } from '../types.ts';
import { parseQeIdentity, type QeIdentity } from './qe-identity.ts';
import { parseTcbInfo, type TcbInfo } from './tcb-info.ts';

/** Signed JSON of Intel's, read; `signed` are the exact bytes under the signature. */
export interface Signed<T> {
  value: T;
  signed: SignedJson;
}

/** Endorsements, read but not verified. */
export interface Collateral {
  certificates: Certificate[];
  crls: Crl[];
  tcbInfos: Signed<TcbInfo>[];
  qeIdentities: Signed<QeIdentity>[];
  /** What could not be read, in words. Such collateral counts for nothing, and an operator wants to hear of it. */
  unreadable: string[];
}

/**
 * Reads everything once: the same bytes object gives the same result, so a verifier that stays up reads its collateral on
 * first use. Whoever hands endorsements in must not change their bytes afterwards.
 */
export function openCollateral({ certificates, crls, tcbInfos, qeIdentities }: Endorsements): Collateral {
  const unreadable: string[] = [];
  const good = <T, R>(items: T[], read: (item: T) => R | AtomaError): R[] =>
    items.flatMap((item) => {
      const result = read(item);
      if (!(result instanceof AtomaError)) return [result];
      unreadable.push(result.message);
      return [];
    });
  return {
    certificates: good(certificates, readCertificate),
    crls: good(crls, readCrl),
    tcbInfos: good(tcbInfos, readTcbInfo),
    qeIdentities: good(qeIdentities, readQeIdentity),
    unreadable,
  };
}

/** Remembers by the object: results, and errors of the input too. */
function once<K extends object, R>(read: (item: K) => R): (item: K) => R | AtomaError {
  const known = new WeakMap<K, R | AtomaError>();
  return (item) => {
    const before = known.get(item);
    if (before !== undefined) return before;
    let result: R | AtomaError;
    try {
      result = read(item);
    } catch (error) {
      if (!(error instanceof AtomaError)) throw error;
      result = error;
    }
    known.set(item, result);
    return result;
  };
}

export const readCertificate = once((der: Uint8Array) => parseCertificate(der, 'certificate of the endorsements'));
const readCrl = once((der: Uint8Array) => parseCrl(der, 'revocation list of the endorsements'));
const readTcbInfo = once((signed: SignedJson): Signed<TcbInfo> => ({ value: parseTcbInfo(signed.body), signed }));
const readQeIdentity = once(
  (signed: SignedJson): Signed<QeIdentity> => ({
    value: parseQeIdentity(signed.body),
    signed,
  }),
);

const REMEMBERED = 256;
const seen = new Map<string, Certificate>();

/**
 * A certificate out of a quote. Machines that attest again and again have the same ones, so the last 256 different ones
 * are read once; what is remembered is how the bytes read, never whether they hold. Throws `ERR_CERTIFICATE_MALFORMED`.
 */
export function readQuotedCertificate(der: Buffer): Certificate {
  const key = der.toString('base64');
  const certificate = seen.get(key) ?? parseCertificate(der, 'certificate of the quote');
  seen.delete(key);
  seen.set(key, certificate);
  const [oldest] = seen.keys();
  if (seen.size > REMEMBERED && oldest !== undefined) seen.delete(oldest);
  return certificate;
}
