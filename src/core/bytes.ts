import { createHash, timingSafeEqual } from 'node:crypto';

/** Lower-case hex, the only form used in output. */
export const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');

/** Strict: even length, hex digits only. Returns null for anything else. */
export function fromHex(text: string): Buffer | null {
  return text.length % 2 === 0 && /^[0-9a-fA-F]*$/.test(text) ? Buffer.from(text, 'hex') : null;
}

/** For hex that a schema has judged already; throws a TypeError for anything else. */
export function knownHex(text: string): Buffer {
  const bytes = fromHex(text);
  if (bytes === null) throw new TypeError('not hex');
  return bytes;
}

/** Strict standard base64 with padding. Returns null for anything else. */
export function fromBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : null;
}

/** Constant-time in the content; the length is not secret. */
export const equalBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);

export const sha256 = (...parts: Uint8Array[]): Buffer => digest('sha256', parts);
export const sha384 = (...parts: Uint8Array[]): Buffer => digest('sha384', parts);
export const sha512 = (...parts: Uint8Array[]): Buffer => digest('sha512', parts);

function digest(name: string, parts: Uint8Array[]): Buffer {
  const h = createHash(name);
  for (const part of parts) h.update(part);
  return h.digest();
}

/** True if every byte is zero. */
export const isZero = (bytes: Uint8Array): boolean => bytes.every((b) => b === 0);
