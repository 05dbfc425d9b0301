import { type Cipheriv, createCipheriv, createDecipheriv, createHmac, type Decipheriv, randomBytes } from 'node:crypto';
import { equalBytes } from '../core/bytes.ts';
import { tampered } from './errors.ts';

// FLOE: random-access authenticated encryption (C2SP FLOE.md, ePrint 2025/2275; names in comments are the specification's). AEAD 0 is
// AES-256-GCM, KDF 0 is HKDF-Expand-SHA-384, the FLOE IV has 32 bytes. A ciphertext is a header and segments that can be encrypted and
// decrypted in any order, on any thread; only the last is marked final.

export interface FloeParams {
  /** ENC_SEG_LEN: bytes of an encrypted segment. */
  segmentLength: number;
  /** AEAD_ROTATION_MASK: 2^this segments share a key. 20 except in test vectors. */
  rotationBits: number;
}

/** 1 MiB of plaintext to the segment. */
export const FLOE: FloeParams = { segmentLength: 1_048_608, rotationBits: 20 };

export const FLOE_HEADER_LENGTH = 10 + 32 + 32;
const IV = 12;
const TAG = 16;
/** Length, IV and tag of a segment. */
export const SEGMENT_OVERHEAD = 4 + IV + TAG;
const NOT_FINAL = 0xffffffff;

/** Bytes of plaintext in every segment but the last. */
export const segmentPlain = (params = FLOE): number => params.segmentLength - SEGMENT_OVERHEAD;
/** Segments that `plain` bytes take: at least one; the last is never empty unless it is the only one. */
export const segmentCount = (plain: number, params = FLOE): number =>
  Math.max(1, Math.ceil(plain / segmentPlain(params)));
/** Bytes of the whole ciphertext of `plain` bytes. */
export const floeLength = (plain: number, params = FLOE): number =>
  FLOE_HEADER_LENGTH + plain + SEGMENT_OVERHEAD * segmentCount(plain, params);

/** State of one message, for either direction. Holds keys. */
export interface FloeState {
  params: FloeParams;
  messageKey: Buffer;
  iv: Buffer;
  aad: Uint8Array;
  /** The derived key in use, for segments that share `masked`. */
  current: { masked: number; key: Buffer } | null;
}

/** startEncryption. `key` has 32 bytes and is used for one message only; `iv` is random except in tests. */
export function startEncryption(
  key: Uint8Array,
  aad: Uint8Array,
  params = FLOE,
  iv = randomBytes(32),
): { header: Buffer; state: FloeState } {
  const header = Buffer.concat([encodeParams(params), iv, kdf(key, params, iv, aad, 'HEADER_TAG:', 32)]);
  return { header, state: { params, messageKey: messageKey(key, params, iv, aad), iv, aad, current: null } };
}

/** startDecryption. The tag commits to key and aad. Throws `ERR_SEAL_TAMPERED` (exit 3). */
export function startDecryption(key: Uint8Array, aad: Uint8Array, header: Uint8Array, params = FLOE): FloeState {
  const encoded = encodeParams(params);
  if (header.length !== FLOE_HEADER_LENGTH || !equalBytes(header.subarray(0, encoded.length), encoded)) {
    throw tampered('its encryption header is malformed');
  }
  const iv = Buffer.from(header.subarray(10, 42));
  if (!equalBytes(kdf(key, params, iv, aad, 'HEADER_TAG:', 32), header.subarray(42))) {
    throw tampered('its encryption header does not belong to this key and place');
  }
  return { params, messageKey: messageKey(key, params, iv, aad), iv, aad, current: null };
}

/**
 * Bytes that go through the cipher at a time. node:crypto has no way to write into a buffer of ours: every update() allocates its output.
 * Up to this size malloc hands out the same warm pages again and again; from 1 MiB on each output is mapped, cleared page by page by the
 * kernel and unmapped, which takes five times as long as the encryption itself.
 */
const STRIDE = 256 << 10;

/** Runs `bytes` through a cipher into `out`, which may be the longer one. */
function transform(cipher: Cipheriv | Decipheriv, bytes: Uint8Array, out: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += STRIDE) {
    const done = cipher.update(bytes.subarray(at, at + STRIDE));
    out.set(done, at);
    // Freed now; left to the garbage collector they would pile up to hundreds of MiB.
    if (done.byteLength === done.buffer.byteLength) (done.buffer as ArrayBuffer).transfer(0);
  }
}

/** encryptSegment into `out` (at least SEGMENT_OVERHEAD longer than the plaintext); returns the part of `out` that it filled. */
export function encryptSegmentInto(
  out: Buffer,
  state: FloeState,
  plaintext: Uint8Array,
  position: number,
  final: boolean,
  iv: Uint8Array = randomBytes(IV),
): Buffer {
  const full = segmentPlain(state.params);
  if (final ? plaintext.length > full : plaintext.length !== full)
    throw new RangeError('a segment of the wrong length');
  const end = 4 + IV + plaintext.length;
  const cipher = createCipheriv('aes-256-gcm', segmentKey(state, position), iv);
  cipher.setAAD(segmentAad(position, final));
  out.writeUInt32BE(final ? end + TAG : NOT_FINAL);
  out.set(iv, 4);
  transform(cipher, plaintext, out.subarray(4 + IV, end));
  cipher.final();
  out.set(cipher.getAuthTag(), end);
  return out.subarray(0, end + TAG);
}

/** encryptSegment. */
export const encryptSegment = (
  state: FloeState,
  plaintext: Uint8Array,
  position: number,
  final: boolean,
  iv?: Uint8Array,
): Buffer =>
  encryptSegmentInto(Buffer.allocUnsafe(plaintext.length + SEGMENT_OVERHEAD), state, plaintext, position, final, iv);

/**
 * decryptSegment into `out` (at least SEGMENT_OVERHEAD shorter than the segment); returns how many bytes of `out` it filled. What is in
 * `out` is authentic only when this returns; where it throws `ERR_SEAL_TAMPERED` (exit 3), `out` is cleared. It may be the memory that the
 * segment lies in, from its beginning or from before that.
 */
export function decryptSegmentInto(
  out: Uint8Array,
  state: FloeState,
  segment: Uint8Array,
  position: number,
  final: boolean,
): number {
  const { length } = segment;
  const { segmentLength } = state.params;
  if (final ? length < SEGMENT_OVERHEAD || length > segmentLength : length !== segmentLength)
    throw badSegment(position);
  const bytes = Buffer.from(segment.buffer, segment.byteOffset, length);
  if (bytes.readUInt32BE(0) !== (final ? length : NOT_FINAL)) throw badSegment(position);
  const decipher = createDecipheriv('aes-256-gcm', segmentKey(state, position), bytes.subarray(4, 4 + IV), {
    authTagLength: TAG,
  });
  decipher.setAAD(segmentAad(position, final));
  decipher.setAuthTag(bytes.subarray(length - TAG));
  transform(decipher, bytes.subarray(4 + IV, length - TAG), out);
  try {
    decipher.final();
  } catch {
    out.fill(0, 0, length - SEGMENT_OVERHEAD);
    throw badSegment(position);
  }
  return length - SEGMENT_OVERHEAD;
}

/** decryptSegment. Nothing of the plaintext is returned unless all of it is authentic. Throws `ERR_SEAL_TAMPERED` (exit 3). */
export function decryptSegment(state: FloeState, segment: Uint8Array, position: number, final: boolean): Buffer {
  const out = Buffer.allocUnsafe(Math.max(0, segment.length - SEGMENT_OVERHEAD));
  decryptSegmentInto(out, state, segment, position, final);
  return out;
}

/** PARAM_ENCODE. */
function encodeParams(params: FloeParams): Buffer {
  const bytes = Buffer.alloc(10); // AEAD 0, KDF 0
  bytes.writeUInt32BE(params.segmentLength, 2);
  bytes.writeUInt32BE(32, 6);
  return bytes;
}

/** FLOE_KDF: HKDF-Expand-SHA-384 (RFC 5869 section 2.3). No output here is longer than one block. */
function kdf(
  key: Uint8Array,
  params: FloeParams,
  iv: Uint8Array,
  aad: Uint8Array,
  purpose: Uint8Array | string,
  length: number,
) {
  const hmac = createHmac('sha384', key).update(encodeParams(params)).update(iv).update(purpose).update(aad);
  return hmac.update('\x01').digest().subarray(0, length);
}

const messageKey = (key: Uint8Array, params: FloeParams, iv: Uint8Array, aad: Uint8Array): Buffer =>
  kdf(key, params, iv, aad, 'MESSAGE_KEY:', 48);

/** DERIVE_KEY. */
function segmentKey(state: FloeState, position: number): Buffer {
  const rotation = 2 ** state.params.rotationBits;
  const masked = Math.floor(position / rotation) * rotation;
  if (state.current?.masked !== masked) {
    const purpose = Buffer.alloc(12, 'DEK:');
    purpose.writeBigUInt64BE(BigInt(masked), 4);
    state.current = { masked, key: kdf(state.messageKey, state.params, state.iv, state.aad, purpose, 32) };
  }
  return state.current.key;
}

function segmentAad(position: number, final: boolean): Buffer {
  const aad = Buffer.alloc(9);
  aad.writeBigUInt64BE(BigInt(position));
  aad[8] = final ? 1 : 0;
  return aad;
}

const badSegment = (position: number) => tampered(`segment ${position} of a part is not authentic`);
