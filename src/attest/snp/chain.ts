import { verify } from 'node:crypto';
import { equalBytes, hex, isZero } from '../../core/bytes.ts';
import { AtomaError, missingError } from '../../core/errors.ts';
import { type Certificate, isSignedBy, parseCertificate } from '../certificate.ts';
import { AMD_INTERMEDIATES } from '../roots/amd.ts';
import { fromPem } from '../roots/pinned.ts';
import type { Endorsements } from '../types.ts';
import { type EndorsementKey, isEndorsementKey, readEndorsementKey } from './endorsement-key.ts';
import type { SnpReport } from './report.ts';
import { readTcb } from './tcb.ts';

/** A directory of endorsements may hold those of a whole data centre: only what can be of use is parsed. */
const MOST_CERTIFICATES = 4096;
/** To say what is wrong with the certificates of other chips, a few of them do. */
const MOST_OTHERS = 8;
/** DER of object identifiers: AMD's struct version and provider (endorsement-key.ts), basicConstraints. */
const MARK = {
  key: Buffer.from('2b060104019c780101', 'hex'),
  provider: Buffer.from('2b060104019c780105', 'hex'),
  authority: Buffer.from('0603551d13', 'hex'),
};
const INTERMEDIATES = AMD_INTERMEDIATES.flatMap((pem) => fromPem(pem));

/** Parses what is a certificate; the rest is another vendor's, or rubbish that proves nothing by being skipped. */
export const parseAll = (list: Uint8Array[]): Certificate[] =>
  list.slice(0, MOST_CERTIFICATES).flatMap((der) => tolerant(() => parseCertificate(der, 'endorsement')));

function tolerant<T>(read: () => T): T[] {
  try {
    return [read()];
  } catch (error) {
    if (error instanceof AtomaError) return [];
    throw error;
  }
}

const having = (list: Uint8Array[], bytes: Buffer): Uint8Array[] =>
  list.filter((der) => Buffer.from(der.buffer, der.byteOffset, der.length).includes(bytes));

/** Certificates in which the bytes stand that the right one must have, or some others to judge instead. */
function candidates({ signingKey, chipId }: SnpReport, certificates: Uint8Array[]): Certificate[] {
  const chip = isZero(chipId.subarray(8)) ? chipId.subarray(0, 8) : chipId;
  const wanted = signingKey === 'VLEK' ? MARK.provider : isZero(chipId) ? MARK.key : chip;
  const likely = having(certificates, wanted);
  return parseAll(likely.length > 0 ? likely : having(certificates, MARK.key).slice(0, MOST_OTHERS));
}

/**
 * Finds the key that AMD says signed a report: of the certificates given, the one that fits chip and TCB best, so that a
 * wrong one fails by name; of several that fit alike (the host masked the chip id), the one whose key did sign.
 * Throws `ERR_ENDORSEMENTS_MISSING` (exit 5) where there is none at all.
 */
export function findKey(report: SnpReport, certificates: Uint8Array[]): EndorsementKey {
  const keys = candidates(report, certificates)
    .filter(isEndorsementKey)
    .flatMap((certificate) => tolerant(() => readEndorsementKey(certificate)));
  const rank = (key: EndorsementKey): number =>
    (key.kind === report.signingKey ? 4 : 0) + (chipFits(report, key) ? 2 : 0) + (tcbFits(report, key) ? 1 : 0);
  const most = Math.max(...keys.map(rank));
  const best = keys.filter((key) => rank(key) === most);
  const found = best.length > 1 ? (best.find((key) => signedBy(report, key.certificate)) ?? best[0]) : best[0];
  if (found !== undefined) return found;
  const { signingKey } = report;
  const [chipId, reportedTcb] = [hex(report.chipId), hex(report.reportedTcb)];
  throw missingError('ERR_ENDORSEMENTS_MISSING', `expected the ${signingKey} certificate that AMD issued, found none`, {
    hint: `give it with --endorsements; AMD's key distribution service has it for chip ${chipId} and reported TCB ${reportedTcb}`,
    details: { chipId, reportedTcb },
  });
}

/** ECDSA P-384 with SHA-384 over the first 0x2a0 bytes. */
export const signedBy = ({ signed, signature }: SnpReport, { key, x509 }: Certificate): boolean =>
  key === 'P-384' && verify('sha384', signed, { key: x509.publicKey, dsaEncoding: 'ieee-p1363' }, signature);

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
  const authorities = [
    ...roots,
    ...parseAll([...having(certificates, MARK.authority), ...INTERMEDIATES]).filter(({ ca }) => ca),
  ];
  const chain = [key.certificate];
  // AMD's chains have three certificates; one more shows a detour, which the check refuses.
  while (chain.length < 4) {
    const [child] = chain as [Certificate];
    if (Buffer.compare(child.issuer, child.subject) === 0) break;
    const named = authorities.filter(({ subject }) => Buffer.compare(subject, child.issuer) === 0);
    const issuer = named.find((one) => isSignedBy(child, one)) ?? named[0];
    if (issuer === undefined) break;
    chain.unshift(issuer);
  }
  return chain;
}
