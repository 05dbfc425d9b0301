import { equalBytes } from '../../core/bytes.ts';
import { AtomaError, missingError } from '../../core/errors.ts';
import { type Certificate, parseCertificate } from '../certificate.ts';
import { AMD_INTERMEDIATES } from '../roots/amd.ts';
import { fromPem } from '../roots/pinned.ts';
import type { Endorsements } from '../types.ts';
import { type EndorsementKey, isEndorsementKey, readEndorsementKey } from './endorsement-key.ts';
import type { SnpReport } from './report.ts';
import { readTcb } from './tcb.ts';

/** A directory of endorsements may hold those of a whole rack. */
const MOST_CERTIFICATES = 4096;
const INTERMEDIATES = AMD_INTERMEDIATES.flatMap((pem) => fromPem(pem));

/** Parses what is a certificate; the rest is another vendor's, or rubbish that proves nothing by being skipped. */
export function parseAll(list: Uint8Array[]): Certificate[] {
  return list.slice(0, MOST_CERTIFICATES).flatMap((der) => {
    try {
      return [parseCertificate(der, 'endorsement')];
    } catch (error) {
      if (error instanceof AtomaError) return [];
      throw error;
    }
  });
}

/**
 * Finds the key that AMD says signed a report: of the certificates given, the one that fits chip and TCB best, so that a
 * wrong one fails by name. Throws `ERR_ENDORSEMENTS_MISSING` (exit 5) where there is none at all.
 */
export function findKey(report: SnpReport, certificates: Certificate[]): EndorsementKey {
  const keys = certificates.filter(isEndorsementKey).flatMap((certificate) => {
    try {
      return [readEndorsementKey(certificate)];
    } catch (error) {
      if (error instanceof AtomaError) return [];
      throw error;
    }
  });
  const rank = (key: EndorsementKey): number =>
    (key.kind === report.signingKey ? 4 : 0) + (chipFits(report, key) ? 2 : 0) + (tcbFits(report, key) ? 1 : 0);
  const [best] = keys.sort((a, b) => rank(b) - rank(a));
  if (best !== undefined) return best;
  throw missingError(
    'ERR_ENDORSEMENTS_MISSING',
    `expected the ${report.signingKey} certificate that AMD issued, found none`,
    {
      hint: `give it with --endorsements; AMD's key distribution service has it for chip ${report.chipId.toString('hex')} and reported TCB ${report.reportedTcb.toString('hex')}`,
      details: { chipId: report.chipId.toString('hex'), reportedTcb: report.reportedTcb.toString('hex') },
    },
  );
}

/** The report's chip is the certificate's; on Turin the first 8 bytes name it and the others are zero. */
export const chipFits = ({ chipId }: SnpReport, { hwid }: EndorsementKey): boolean =>
  hwid !== undefined && equalBytes(chipId, Buffer.concat([hwid], chipId.length));

export function tcbFits(report: SnpReport, { tcb, line }: EndorsementKey): boolean {
  const reported = readTcb(report.reportedTcb, line);
  return (
    reported !== null && Object.entries(tcb).every(([part, level]) => reported[part as keyof typeof tcb] === level)
  );
}

/**
 * The chain above a key, root first: by name, and of two with one name the one whose key signed. `given` are untrusted;
 * `roots` are those that the caller believes in. Nothing is judged here.
 */
export function buildChain(key: EndorsementKey, roots: Certificate[], { certificates }: Endorsements): Certificate[] {
  const authorities = [...roots, ...parseAll([...certificates, ...INTERMEDIATES]).filter(({ ca }) => ca)];
  const chain = [key.certificate];
  // AMD's chains have three certificates; one more shows a detour, which the check refuses.
  while (chain.length < 4) {
    const [child] = chain as [Certificate];
    if (Buffer.compare(child.issuer, child.subject) === 0) break;
    const named = authorities.filter(({ subject }) => Buffer.compare(subject, child.issuer) === 0);
    const issuer = named.find(({ x509 }) => child.x509.verify(x509.publicKey)) ?? named[0];
    if (issuer === undefined) break;
    chain.unshift(issuer);
  }
  return chain;
}
