import { fromHex } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { importIntel } from './dcap/import.ts';
import { fromPem } from './roots/pinned.ts';
import type { Endorsements } from './types.ts';

// One file of endorsements, by what is in it: the forms of evidence.md, "Endorsement files".

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const VERSION = 0xa0;

/**
 * Sorts the bytes of one file: what Intel's services return, or their clients write (dcap/import.ts); certificates and
 * revocation lists in PEM, DER or hex. `what` names it in errors. Throws `ERR_ENDORSEMENTS_MALFORMED` or
 * `ERR_COLLATERAL_MALFORMED` (exit 2) for anything else. Parses no certificate and verifies nothing.
 */
export function parseEndorsements(bytes: Uint8Array, what: string): Endorsements {
  const intel = importIntel(bytes);
  if (intel !== null) return intel;
  const buffer = Buffer.from(bytes);
  if (buffer[0] === SEQUENCE) return derEndorsement(buffer, what);
  const text = buffer.toString('utf8').trim();
  const [certificates, crls] = [fromPem(text), fromPem(text, 'X509 CRL')];
  if (certificates.length + crls.length > 0) return { certificates, crls, tcbInfos: [], qeIdentities: [] };
  const raw = text === '' ? null : fromHex(text.replace(/\s/g, ''));
  if (raw?.[0] === SEQUENCE) return derEndorsement(raw, what);
  throw malformed(what, 'certificates, revocation lists or Intel collateral');
}

/** All of them in one, in order. */
export const mergeEndorsements = (list: Endorsements[]): Endorsements => ({
  certificates: list.flatMap(({ certificates }) => certificates),
  crls: list.flatMap(({ crls }) => crls),
  tcbInfos: list.flatMap(({ tcbInfos }) => tcbInfos),
  qeIdentities: list.flatMap(({ qeIdentities }) => qeIdentities),
});

/** The signed part of a certificate begins with its version in a tag, that of a revocation list with a number. */
function derEndorsement(der: Buffer, what: string): Endorsements {
  const inner = contentOffset(der, 0);
  const first = der[inner] === SEQUENCE ? der[contentOffset(der, inner)] : undefined;
  if (first === VERSION) return { certificates: [der], crls: [], tcbInfos: [], qeIdentities: [] };
  if (first === INTEGER) return { certificates: [], crls: [der], tcbInfos: [], qeIdentities: [] };
  throw malformed(what, 'an X.509 certificate or revocation list');
}

/** Where the content of the DER item at `offset` begins. */
function contentOffset(der: Buffer, offset: number): number {
  const length = der[offset + 1] ?? 0;
  return offset + 2 + (length >= 0x80 ? length & 0x7f : 0);
}

const malformed = (what: string, expected: string) =>
  usageError('ERR_ENDORSEMENTS_MALFORMED', `${what}: expected ${expected}, found something else`, {
    hint: 'endorsements are certificates and revocation lists (PEM, DER, hex) and Intel collateral (JSON)',
  });
