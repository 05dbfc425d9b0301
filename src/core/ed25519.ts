import { createPublicKey, verify } from 'node:crypto';

const P = 2n ** 255n - 19n;
/** y of the two pairs of points of order 8, little-endian hex (RFC 8032 curve; derived in the test from the curve). */
const ORDER_8 = [
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
].map((text) => littleEndian(Buffer.from(text, 'hex')));
/** y of every point whose order divides 8: order 4, 1, 2, then 8. */
const SMALL_ORDER = new Set([0n, 1n, P - 1n, ...ORDER_8]);
/** SubjectPublicKeyInfo of Ed25519 without the key (RFC 8410). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/**
 * Ed25519 (RFC 8032) verification that leaves an attacker no choice of key or signature: what OpenSSL checks (S in range, the
 * cofactorless equation), and that A and R are canonically encoded and not of small order. With a small-order A one
 * signature holds for many messages; whether OpenSSL refuses it depends on its version.
 *
 * `publicRaw` is 32 bytes and `signature` 64; any other length is false. Never throws.
 */
export function verifyEd25519Strict(publicRaw: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicRaw.length !== 32 || signature.length !== 64) return false;
  if (!isStrictPoint(publicRaw) || !isStrictPoint(signature.subarray(0, 32))) return false;
  try {
    const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicRaw]), format: 'der', type: 'spki' });
    return verify(null, message, key, signature);
  } catch {
    return false;
  }
}

/** True if the 32 bytes are a canonical encoding and not of a point of small order. Does not check that y is on the curve. */
export function isStrictPoint(encoded: Uint8Array): boolean {
  const bytes = Buffer.from(encoded);
  bytes[31] = (bytes[31] ?? 0) & 0x7f;
  const y = littleEndian(bytes);
  return y < P && !SMALL_ORDER.has(y);
}

function littleEndian(bytes: Buffer): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
}
