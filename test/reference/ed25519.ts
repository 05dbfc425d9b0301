import { ed25519 } from '@noble/curves/ed25519.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { concat } from './cbor.ts';

// docs/sealed-model-format.md: Ed25519 (RFC 8032) with strict keys and signatures.

const { Point } = ed25519;
const little = (bytes: Uint8Array) => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

/** A point in its canonical encoding, not of small order; or, for the signature to fail with, no point at all. */
export function isStrict(bytes: Uint8Array): boolean {
  if (little(bytes) % 2n ** 255n >= 2n ** 255n - 19n) return false;
  try {
    return !Point.fromBytes(bytes).isSmallOrder();
  } catch {
    // No point, or x = 0 with a sign: the same y without it tells them apart.
    const plain = Uint8Array.from(bytes, (byte, i) => (i === 31 ? byte & 0x7f : byte));
    return bytes[31] === plain[31] || isStrict(plain);
  }
}

/** Ed25519, strict and without the cofactor: S B = R + k A. */
export function verify(signature: Uint8Array, message: Uint8Array, key: Uint8Array): boolean {
  try {
    const [r, s] = [signature.slice(0, 32), little(signature.slice(32))];
    if (signature.length !== 64 || !isStrict(r) || s >= Point.Fn.ORDER) return false;
    const k = little(sha512(concat(r, key, message))) % Point.Fn.ORDER;
    return Point.BASE.multiplyUnsafe(s).equals(Point.fromBytes(r).add(Point.fromBytes(key).multiplyUnsafe(k)));
  } catch {
    return false;
  }
}
