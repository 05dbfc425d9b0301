import { createPublicKey, type KeyObject } from 'node:crypto';
import { identify, wrongKind } from './keys.ts';
import { parsePem } from './pem.ts';

/** Curves of FIPS 186-5 by Node's names for them, each with the hash that goes with it (Sigstore's algorithm registry). */
const CURVES = {
  prime256v1: { curve: 'P-256', hash: 'sha256' },
  secp384r1: { curve: 'P-384', hash: 'sha384' },
  secp521r1: { curve: 'P-521', hash: 'sha512' },
} as const;
export type Curve = (typeof CURVES)[keyof typeof CURVES]['curve'];

/** Curve and hash of an elliptic curve key; null for any other key. */
export const curveOf = (key: KeyObject) => CURVES[key.asymmetricKeyDetails?.namedCurve as keyof typeof CURVES] ?? null;

/** A build key (`keygen --type build`, P-256) from PKCS#8 PEM. Throws `ERR_KEY_MALFORMED`, `ERR_KEY_KIND` (exit 2). */
export function readBuildPrivateKey(pem: Uint8Array, what = 'build key'): { key: KeyObject; publicKey: KeyObject } {
  const key = readEc(pem, 'private', ['P-256'], what);
  return { key, publicKey: createPublicKey(key) };
}

/** The public half of a build key from SPKI PEM. Errors as readBuildPrivateKey. */
export const readBuildPublicKey = (pem: Uint8Array, what = 'build public key'): KeyObject =>
  readEc(pem, 'public', ['P-256'], what);

/** A public key on any of the three curves, from SPKI PEM: others sign models with those as well. */
export const readEcPublicKey = (pem: Uint8Array, what = 'public key'): KeyObject =>
  readEc(pem, 'public', ['P-256', 'P-384', 'P-521'], what);

function readEc(pem: Uint8Array, type: 'public' | 'private', curves: Curve[], what: string): KeyObject {
  const found = identify(parsePem(pem, what));
  const curve = found.key === undefined ? undefined : curveOf(found.key)?.curve;
  if (found.key?.type === type && curve !== undefined && curves.includes(curve)) return found.key;
  const article = curves.length > 1 ? 'an' : 'a';
  const name = curves.length > 1 ? 'elliptic curve' : curves.join();
  const kind = found.key !== undefined && curve !== undefined ? `${curve} ${found.key.type} key` : found.kind;
  throw wrongKind(what, `${article} ${name} ${type} key`, kind);
}
