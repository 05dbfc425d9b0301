import { AtomaError, usageError } from '../../core/errors.ts';
import { type Certificate, isSignedBy, parseCertificate } from '../certificate.ts';
import type { SignedJson } from '../types.ts';
import { type Collateral, isJsonSignedBy, readCertificate } from './collateral.ts';
import { commonName, DerError } from './der.ts';
import { verifyP256 } from './ecdsa.ts';
import { readPemChain } from './pem.ts';
import { CERTIFICATION, type Quote } from './quote.ts';

/** What the common names of Intel's certificates contain (Intel QVL, X509Constants.cpp). */
export const NAMES = {
  root: 'SGX Root CA',
  pckAuthority: 'SGX PCK',
  pck: 'SGX PCK Certificate',
  tcbSigning: 'SGX TCB Signing',
} as const;

/** The chain of the key that certifies the quoting enclave; what is missing is undefined. */
export interface PckChain {
  root?: Certificate | undefined;
  authority?: Certificate | undefined;
  leaf?: Certificate | undefined;
}

const names = new WeakMap<Certificate, string>();

/** The common name, for checks and errors; empty where there is none. */
export function nameOf(certificate: Certificate): string {
  const name = names.get(certificate) ?? readName(certificate);
  names.set(certificate, name);
  return name;
}

function readName({ subject }: Certificate): string {
  try {
    return commonName(subject) ?? '';
  } catch (error) {
    if (error instanceof DerError) return '';
    throw error;
  }
}

/**
 * The PCK chain that the quote carries (certification data type 5), or else the one among the collateral whose key signed
 * the report of the quoting enclave (types 1 to 4 and 7 only name it). Throws `ERR_EVIDENCE_MALFORMED` or
 * `ERR_CERTIFICATE_MALFORMED` (exit 2) where the quote's own chain cannot be read. Verifies nothing.
 */
export function findPckChain(quote: Quote, collateral: Collateral, roots: Certificate[]): PckChain {
  const { type, data } = quote.certification;
  const known = [...roots, ...collateral.certificates];
  if (type === CERTIFICATION.pckChain) {
    const ders = readPemChain(data.toString('latin1'));
    if (ders === null || ders.length !== 3) {
      throw usageError(
        'ERR_EVIDENCE_MALFORMED',
        'quote: expected three certificates in PEM: PCK certificate, its authority, root',
      );
    }
    const [leaf, authority, root] = ders.map((der) => parseCertificate(der, 'certificate of the quote'));
    return { leaf, authority, root };
  }
  const leaves = known.filter((one) => nameOf(one).includes(NAMES.pck));
  const leaf =
    leaves.find((one) => verifyP256(one.x509.publicKey, quote.qeReport.bytes, quote.qeReportSignature)) ?? leaves[0];
  const authority = leaf && issuerOf(leaf, known);
  return { leaf, authority, root: authority && issuerOf(authority, known) };
}

/** The certificate that signed Intel's JSON, and the root above it. */
export function findSigningChain(signed: SignedJson, collateral: Collateral, roots: Certificate[]) {
  const known = [...roots, ...collateral.certificates];
  const signers = collateral.certificates.filter((one) => nameOf(one).includes(NAMES.tcbSigning));
  const signer = signers.find((one) => isJsonSignedBy(signed, one));
  const leaf = signer ?? signers[0];
  return { signed: signer !== undefined, leaf, root: leaf && issuerOf(leaf, known) };
}

/** By name, and where several have it by signature; the chain check has the last word. */
function issuerOf(certificate: Certificate, known: Certificate[]): Certificate | undefined {
  const named = known.filter((one) => one.ca && Buffer.compare(one.subject, certificate.issuer) === 0);
  const [first] = named;
  if (named.every(({ fingerprint }) => fingerprint === first?.fingerprint)) return first;
  return named.find((one) => isSignedBy(certificate, one)) ?? first;
}

/** Root certificates that the verifier believes in, read once. Throws `ERR_CERTIFICATE_MALFORMED` (exit 2). */
export const readRoots = (ders: Uint8Array[]): Certificate[] =>
  ders.map((der) => {
    const root = readCertificate(der);
    if (root instanceof AtomaError) throw root;
    return root;
  });
