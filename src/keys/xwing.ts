import { createHash, createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';

/**
 * X-Wing keys (draft-connolly-cfrg-xwing-kem): X25519 and ML-KEM-768 together, KEM 0x647A of HPKE. The private key is a 32-byte
 * seed; the raw public key is the ML-KEM-768 key (1184 bytes) followed by the X25519 key (32).
 */
export const XWING = { seedBytes: 32, publicBytes: 1216, encBytes: 1120 } as const;

const ALGORITHM = '300d060b2b0601040183e62d81c87a'; // OID 1.3.6.1.4.1.62253.25722, no parameters
const PKCS8_PREFIX = Buffer.from(`3034020100${ALGORITHM}0420`, 'hex');
const SPKI_PREFIX = Buffer.from(`308204d4${ALGORITHM}038204c100`, 'hex');
// RFC 9935 (seed form) and RFC 8410, up to the key.
const MLKEM_PKCS8_PREFIX = Buffer.from('3054020100300b060960864801650304040204428040', 'hex');
const X25519_PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');

export const newXWingSeed = (): Buffer => randomBytes(XWING.seedBytes);

/** The raw public key of a seed: expandDecapsulationKey of the draft, section 5.2. */
export function xwingPublicFromSeed(seed: Uint8Array): Buffer {
  if (seed.length !== XWING.seedBytes) throw new RangeError('an X-Wing seed has 32 bytes');
  const expanded = createHash('shake256', { outputLength: 96 }).update(seed).digest();
  const mlkem = publicDer(MLKEM_PKCS8_PREFIX, expanded.subarray(0, 64)).subarray(-1184);
  const x25519 = publicDer(X25519_PKCS8_PREFIX, expanded.subarray(64)).subarray(-32);
  return Buffer.concat([mlkem, x25519]);
}

function publicDer(prefix: Buffer, secret: Buffer): Buffer {
  const key: KeyObject = createPrivateKey({ key: Buffer.concat([prefix, secret]), format: 'der', type: 'pkcs8' });
  return createPublicKey(key).export({ format: 'der', type: 'spki' });
}

export const encodeXWingPrivate = (seed: Uint8Array): Buffer => Buffer.concat([PKCS8_PREFIX, seed]);
export const encodeXWingPublic = (raw: Uint8Array): Buffer => Buffer.concat([SPKI_PREFIX, raw]);

/** The seed, or null if the DER is anything but the PKCS#8 of an X-Wing key. */
export const decodeXWingPrivate = (der: Buffer): Buffer | null => after(der, PKCS8_PREFIX, XWING.seedBytes);
/** The raw public key, or null if the DER is anything but the SPKI of an X-Wing key. */
export const decodeXWingPublic = (der: Buffer): Buffer | null => after(der, SPKI_PREFIX, XWING.publicBytes);

/** Neither structure has a variable part, so it is a fixed prefix and the key. */
const after = (der: Buffer, prefix: Buffer, length: number): Buffer | null =>
  der.length === prefix.length + length && der.subarray(0, prefix.length).equals(prefix)
    ? Buffer.from(der.subarray(prefix.length))
    : null;
