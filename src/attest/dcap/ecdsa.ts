import { createPublicKey, type KeyObject, verify } from 'node:crypto';

/** SubjectPublicKeyInfo of an uncompressed P-256 point (RFC 5480), without the point. */
const P256_SPKI = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex');

/** A P-256 public key from x || y (64 bytes), or null where that is no point of the curve. */
export function p256Key(point: Buffer): KeyObject | null {
  try {
    return createPublicKey({ key: Buffer.concat([P256_SPKI, point]), format: 'der', type: 'spki' });
  } catch {
    return null;
  }
}

/** ECDSA with SHA-256 (FIPS 186-5); the signature is r || s, big-endian, 64 bytes, as quotes and Intel's JSON have it. */
export const verifyP256 = (key: KeyObject, data: Uint8Array, signature: Uint8Array): boolean =>
  signature.length === 64 &&
  key.asymmetricKeyDetails?.namedCurve === 'prime256v1' &&
  verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, signature);
