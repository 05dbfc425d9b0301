import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';

/** Who signed an enclave and what it is (Intel SDM, volume 3D, "SIGSTRUCT"). Little-endian numbers, as they lie in the file. */
export interface Sigstruct {
  /** YYYY-MM-DD; the digits of a signer that wrote something else are hex. */
  date: string;
  vendor: number;
  swdefined: number;
  modulus: Buffer;
  exponent: number;
  signature: Buffer;
  miscselect: number;
  miscmask: number;
  cetAttributes: number;
  cetAttributesMask: number;
  isvfamilyid: Buffer;
  flags: bigint;
  xfrm: bigint;
  flagsMask: bigint;
  xfrmMask: bigint;
  mrenclave: Buffer;
  isvextprodid: Buffer;
  isvprodid: number;
  isvsvn: number;
  q1: Buffer;
  q2: Buffer;
  /** What the signature covers, 256 bytes. */
  signed: Buffer;
}

export const SIGSTRUCT_SIZE = 1808;
export const MODULUS_SIZE = 384;
/** ATTRIBUTES.FLAGS (Intel SDM, volume 3D). */
export const ATTRIBUTE = { debug: 2n, mode64: 4n } as const;

export const HEADER = Buffer.from('06000000e10000000000010000000000', 'hex');
export const HEADER2 = Buffer.from('01010000600000006000000001000000', 'hex');
/** Must be zero: the CPU checks it, and the last of them no signature covers. */
const RESERVED: [from: number, to: number][] = [
  [0x02c, 0x080],
  [0x38e, 0x390],
  [0x3e0, 0x3f0],
  [0x404, 0x410],
];
export const EXPONENT = 3;

/** True for the first bytes of a SIGSTRUCT file of this size. */
export const isSigstruct = (head: Uint8Array, size: number): boolean =>
  size === SIGSTRUCT_SIZE && HEADER.equals(head.subarray(0, HEADER.length));

/** The 256 bytes that are signed. */
export const signedBytes = (sigstruct: Buffer): Buffer =>
  Buffer.concat([sigstruct.subarray(0, 0x80), sigstruct.subarray(0x384, 0x404)]);

/** Q1 and Q2 of a signature, with which EINIT needs no division (Intel SDM, volume 3D, "SIGSTRUCT"). All little-endian. */
export function quotients(modulus: Buffer, signature: Buffer): { q1: Buffer; q2: Buffer } {
  const [n, s] = [toNumber(modulus), toNumber(signature)];
  const q1 = (s * s) / n;
  const q2 = ((s * s - q1 * n) * s) / n;
  return { q1: fromNumber(q1), q2: fromNumber(q2) };
}

const toNumber = (little: Buffer): bigint => BigInt(`0x${Buffer.from(little).reverse().toString('hex')}`);
const fromNumber = (value: bigint): Buffer =>
  Buffer.from(value.toString(16).padStart(MODULUS_SIZE * 2, '0'), 'hex').reverse();

/**
 * Reads a SIGSTRUCT from hostile bytes; its signature is not looked at. Throws `ERR_SIGSTRUCT_MALFORMED` (exit 2) for another
 * size or header, an exponent that is not 3, and reserved bytes that are not zero.
 */
export function parseSigstruct(bytes: Uint8Array): Sigstruct {
  const all = Buffer.from(bytes);
  if (all.length !== SIGSTRUCT_SIZE) throw malformed(`${SIGSTRUCT_SIZE} bytes`, `${all.length}`);
  if (!HEADER.equals(all.subarray(0, 16)) || !HEADER2.equals(all.subarray(0x18, 0x28))) {
    throw malformed('the two headers of an SGX enclave signature', 'other bytes');
  }
  for (const [from, to] of RESERVED) {
    if (all.subarray(from, to).some((byte) => byte !== 0))
      throw malformed('reserved bytes to be zero', `others at ${from}`);
  }
  const exponent = all.readUInt32LE(0x200);
  if (exponent !== EXPONENT) throw malformed('the exponent 3', String(exponent));
  const slice = (offset: number, length: number) => all.subarray(offset, offset + length);
  const date = all.readUInt32LE(0x14).toString(16).padStart(8, '0');
  return {
    date: `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}`,
    vendor: all.readUInt32LE(0x10),
    swdefined: all.readUInt32LE(0x28),
    modulus: slice(0x80, MODULUS_SIZE),
    exponent,
    signature: slice(0x204, MODULUS_SIZE),
    miscselect: all.readUInt32LE(0x384),
    miscmask: all.readUInt32LE(0x388),
    cetAttributes: all.readUInt8(0x38c),
    cetAttributesMask: all.readUInt8(0x38d),
    isvfamilyid: slice(0x390, 16),
    flags: all.readBigUInt64LE(0x3a0),
    xfrm: all.readBigUInt64LE(0x3a8),
    flagsMask: all.readBigUInt64LE(0x3b0),
    xfrmMask: all.readBigUInt64LE(0x3b8),
    mrenclave: slice(0x3c0, 32),
    isvextprodid: slice(0x3f0, 16),
    isvprodid: all.readUInt16LE(0x400),
    isvsvn: all.readUInt16LE(0x402),
    q1: slice(0x410, MODULUS_SIZE),
    q2: slice(0x590, MODULUS_SIZE),
    signed: signedBytes(all),
  };
}

/** MRSIGNER of a modulus (384 bytes, little-endian), hex. */
export const signerOf = (modulus: Uint8Array): string => sha256(modulus).toString('hex');

/** Whether the signature is the modulus's over the signed bytes, and whether Q1 and Q2 belong to it: what EINIT checks. */
export function verifySigstruct({ modulus, signature, signed, q1, q2 }: Sigstruct): {
  signature: boolean;
  quotients: boolean;
} {
  // The highest bit of a modulus of 3072 bits is set; others make the division below meaningless.
  if (((modulus[MODULUS_SIZE - 1] ?? 0) & 0x80) === 0) return { signature: false, quotients: false };
  const expected = quotients(modulus, signature);
  return {
    signature: verifyRsa(modulusKey(modulus), signed, Buffer.from(signature).reverse()),
    quotients: expected.q1.equals(q1) && expected.q2.equals(q2),
  };
}

/** RSASSA-PKCS1-v1_5 with SHA-256; `signature` is big-endian. */
export function verifyRsa(key: KeyObject, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify('sha256', message, key, signature);
  } catch {
    // A modulus that is none (even, for example) is refused by OpenSSL itself.
    return false;
  }
}

function modulusKey(modulus: Buffer): KeyObject {
  const n = Buffer.from(modulus).reverse().toString('base64url');
  return createPublicKey({ key: { kty: 'RSA', n, e: 'Aw' }, format: 'jwk' });
}

const malformed = (expected: string, found: string) =>
  usageError('ERR_SIGSTRUCT_MALFORMED', `SIGSTRUCT: expected ${expected}, found ${found}`);
