import { AtomaError } from '../../core/errors.ts';
import { type Certificate, parseCertificate } from '../certificate.ts';
import { type Crl, parseCrl } from '../crl.ts';
import type { Endorsements, SignedJson } from '../types.ts';
import { verifyP256 } from './ecdsa.ts';
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
    certificates: good(certificates.filter(mayBeIntels), readCertificate),
    crls: good(crls, readCrl),
    tcbInfos: good(tcbInfos, readTcbInfo),
    qeIdentities: good(qeIdentities, readQeIdentity),
    unreadable,
  };
}

/** Every name that counts here has it; a directory may hold the certificates of a whole rack of AMD's machines too. */
const mayBeIntels = (der: Uint8Array): boolean => Buffer.from(der.buffer, der.byteOffset, der.length).includes('SGX');

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

const judged = new WeakMap<SignedJson, Map<string, boolean>>();

/** Whether a certificate's key signed the JSON. That never changes, so it is found out once for the same object. */
export function isJsonSignedBy(signed: SignedJson, { fingerprint, x509 }: Certificate): boolean {
  const known = judged.get(signed) ?? new Map<string, boolean>();
  judged.set(signed, known);
  const result = known.get(fingerprint) ?? verifyP256(x509.publicKey, signed.body, signed.signature);
  known.set(fingerprint, result);
  return result;
}
