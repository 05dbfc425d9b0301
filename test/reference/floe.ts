import { gcm } from '@noble/ciphers/aes.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha384 } from '@noble/hashes/sha2.js';
import { concat, sameBytes, u32, u64, utf8 } from './cbor.ts';
import { Refused, type Trace } from './refused.ts';

// docs/sealed-model-format.md, "FLOE".

const SEGMENT = 1_048_608;
const PLAIN = 2 ** 20;
const PARAMS = concat(new Uint8Array([0, 0]), u32(SEGMENT), u32(32));
const OVERHEAD = 4 + 12 + 16;
const HEADER = 74;

const segments = (plain: number): number => Math.max(1, Math.ceil(plain / PLAIN));
export const floeLength = (plain: number): number => HEADER + plain + OVERHEAD * segments(plain);

/** HKDF-Expand-SHA-384; nothing here is longer than its first block. */
const derive = (key: Uint8Array, iv: Uint8Array, aad: Uint8Array, purpose: Uint8Array, length: number): Uint8Array =>
  hmac(sha384, key, concat(PARAMS, iv, purpose, aad, new Uint8Array([1]))).slice(0, length);

function keys(key: Uint8Array, iv: Uint8Array, aad: Uint8Array, trace?: Trace) {
  const tag = derive(key, iv, aad, utf8('HEADER_TAG:'), 32);
  const message = derive(key, iv, aad, utf8('MESSAGE_KEY:'), 48);
  trace?.('FLOE header tag', tag);
  trace?.('FLOE message key', message);
  const segment = (position: number): Uint8Array =>
    derive(message, iv, aad, concat(utf8('DEK:'), u64(Math.floor(position / 2 ** 20) * 2 ** 20)), 32);
  return { header: concat(PARAMS, iv, tag), segment };
}

const segmentAad = (position: number, final: boolean) => concat(u64(position), new Uint8Array([final ? 1 : 0]));

/** `random` gives the FLOE IV (32 bytes) first, then one IV (12) for each segment. */
export function floeEncrypt(
  key: Uint8Array,
  aad: Uint8Array,
  plain: Uint8Array,
  random: (what: string, length: number) => Uint8Array,
  trace?: Trace,
): Uint8Array {
  trace?.('FLOE key', key);
  trace?.('FLOE AAD', aad);
  const { header, segment } = keys(key, random('FLOE IV', 32), aad, trace);
  trace?.('FLOE header', header);
  const out = [header];
  const count = segments(plain.length);
  for (let position = 0; position < count; position++) {
    const final = position === count - 1;
    const piece = plain.subarray(position * PLAIN, (position + 1) * PLAIN);
    const iv = random(`segment ${position} IV`, 12);
    trace?.(`segment ${position} key`, segment(position));
    trace?.(`segment ${position} AAD`, segmentAad(position, final));
    const sealed = gcm(segment(position), iv, segmentAad(position, final)).encrypt(piece);
    const whole = concat(u32(final ? piece.length + OVERHEAD : 0xffffffff), iv, sealed);
    trace?.(`segment ${position}`, whole);
    out.push(whole);
  }
  return concat(...out);
}

/** All of it, or ERR_SEAL_TAMPERED. */
export function floeDecrypt(key: Uint8Array, aad: Uint8Array, bytes: Uint8Array): Uint8Array {
  const refuse = (why: string) => new Refused('ERR_SEAL_TAMPERED', why);
  const iv = bytes.slice(10, 42);
  const { header, segment } = keys(key, iv, aad);
  if (!sameBytes(header, bytes.subarray(0, HEADER))) throw refuse('FLOE header');
  const out: Uint8Array[] = [];
  for (let at = HEADER, position = 0; position === 0 || at < bytes.length; at += SEGMENT, position++) {
    const sealed = bytes.subarray(at, at + SEGMENT);
    const final = at + SEGMENT >= bytes.length;
    const mark = u32(final ? sealed.length : 0xffffffff);
    if (sealed.length < OVERHEAD || !sameBytes(sealed.subarray(0, 4), mark)) throw refuse(`segment ${position}`);
    try {
      out.push(gcm(segment(position), sealed.slice(4, 16), segmentAad(position, final)).decrypt(sealed.subarray(16)));
    } catch {
      throw refuse(`segment ${position}`);
    }
  }
  const last = out.at(-1);
  if (out.length > 1 && last?.length === 0) throw refuse('an empty last segment');
  return concat(...out);
}
