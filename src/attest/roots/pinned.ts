import { sha256 } from '../../core/bytes.ts';
import { usageError } from '../../core/errors.ts';

/** A vendor's root certificate, part of this source; replaced only by an explicit argument. */
export interface PinnedRoot {
  name: string;
  /** "sha256:" and the hex SHA-256 of the DER. */
  fingerprint: string;
  /** Where it was taken from. */
  source: string;
  pem: string;
}

/** The roots that a verifier believes in. */
export interface TrustedRoots {
  /** DER. */
  certificates: Uint8Array[];
  fingerprints: string[];
  /** For the verdict: whose the roots are. */
  note: string;
}

/** One white space before the base64, which takes the rest: two repetitions that can share it cost the square of its length. */
const ARMOUR = /-----BEGIN ([A-Z0-9 ]+)-----\s([A-Za-z0-9+/=\s]+?)-----END \1-----/g;

/** The DER inside PEM text (RFC 7468) with a label such as "CERTIFICATE" or "X509 CRL"; other blocks are skipped. */
export function fromPem(text: string, label = 'CERTIFICATE'): Buffer[] {
  return [...text.matchAll(ARMOUR)]
    .filter(([, found]) => found === label)
    .map(([, , base64 = '']) => Buffer.from(base64, 'base64'));
}

/** Reads `--root`: one or more certificates in PEM. Throws `ERR_ROOT_MALFORMED` (exit 2) where there is none. */
export function parseRoots(pem: Uint8Array): Uint8Array[] {
  const roots = fromPem(Buffer.from(pem).toString('latin1'));
  if (roots.length > 0) return roots;
  throw usageError('ERR_ROOT_MALFORMED', '--root: expected a certificate in PEM, found none');
}

/** The pinned roots, or those that the caller gave in their place; the verdict says which. */
export function trustedRoots(pinned: PinnedRoot[], given: Uint8Array[] | undefined): TrustedRoots {
  if (given === undefined) {
    return {
      certificates: pinned.flatMap(({ pem }) => fromPem(pem)),
      fingerprints: pinned.map(({ fingerprint }) => fingerprint),
      note: `pinned: ${pinned.map(({ name }) => name).join(', ')}`,
    };
  }
  return {
    certificates: given,
    fingerprints: given.map((der) => `sha256:${sha256(der).toString('hex')}`),
    note: `given by --root in place of ${pinned.map(({ name }) => name).join(', ')}`,
  };
}
