import { readFileSync } from 'node:fs';
import { gcm } from '@noble/ciphers/aes.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha384 } from '@noble/hashes/sha2.js';
import { describe, expect, test } from 'vitest';
import {
  decryptSegment,
  encryptSegment,
  FLOE,
  FLOE_HEADER_LENGTH,
  type FloeParams,
  floeLength,
  segmentCount,
  segmentPlain,
  startDecryption,
  startEncryption,
} from '../../../src/seal/floe.ts';
import { haveVectors, vectors } from '../vectors.ts';

/** Everything in order, as the format writes it. */
function encrypt(key: Uint8Array, aad: Uint8Array, plain: Uint8Array, params: FloeParams): Buffer {
  const { header, state } = startEncryption(key, aad, params);
  const size = segmentPlain(params);
  const count = segmentCount(plain.length, params);
  const pieces: Uint8Array[] = [header];
  for (let i = 0; i < count; i++) {
    pieces.push(encryptSegment(state, plain.subarray(i * size, (i + 1) * size), i, i === count - 1));
  }
  return Buffer.concat(pieces);
}

/** As the specification's decryptAnyOnlineSegment: the length field says which segment is the last. */
function decrypt(key: Uint8Array, aad: Uint8Array, bytes: Buffer, params: FloeParams): Buffer {
  const state = startDecryption(key, aad, bytes.subarray(0, FLOE_HEADER_LENGTH), params);
  const pieces: Buffer[] = [];
  let at = FLOE_HEADER_LENGTH;
  for (let i = 0; ; i++) {
    const final = bytes.readUInt32BE(at) !== 0xffffffff;
    const end = final ? bytes.length : at + params.segmentLength;
    pieces.push(decryptSegment(state, bytes.subarray(at, end), i, final));
    at = end;
    if (final) return Buffer.concat(pieces);
  }
}

/** The same, from the specification's text over @noble alone: an oracle that shares no code with ours. */
function nobleDecrypt(key: Uint8Array, aad: Uint8Array, bytes: Buffer, params: FloeParams): Buffer {
  const concat = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts));
  const ascii = (text: string) => new Uint8Array(Buffer.from(text));
  const be64 = (n: bigint) => {
    const b = Buffer.alloc(8);
    b.writeBigUInt64BE(n);
    return b;
  };
  const encoded = bytes.subarray(0, 10);
  const iv = bytes.subarray(10, 42);
  const kdf = (prk: Uint8Array, purpose: Uint8Array, length: number) =>
    hmac(sha384, prk, concat(encoded, iv, purpose, aad, new Uint8Array([1]))).subarray(0, length);
  expect(Buffer.from(kdf(key, ascii('HEADER_TAG:'), 32))).toEqual(bytes.subarray(42, 74));
  const message = kdf(key, ascii('MESSAGE_KEY:'), 48);
  const out: Uint8Array[] = [];
  for (let at = 74, i = 0n; at < bytes.length; i++) {
    const final = bytes.readUInt32BE(at) !== 0xffffffff;
    const end = at + (final ? bytes.readUInt32BE(at) : params.segmentLength);
    const bits = BigInt(params.rotationBits);
    const dek = kdf(message, concat(ascii('DEK:'), be64((i >> bits) << bits)), 32);
    const tail = concat(be64(i), new Uint8Array([final ? 1 : 0]));
    out.push(
      gcm(dek, new Uint8Array(bytes.subarray(at + 4, at + 16)), tail).decrypt(
        new Uint8Array(bytes.subarray(at + 16, end)),
      ),
    );
    at = end;
  }
  return Buffer.concat(out);
}

const SETS: [name: string, params: FloeParams][] = [
  ...['go', 'java', 'pub_java', 'cpp', 'rust'].flatMap((source): [string, FloeParams][] => [
    [`${source}_GCM256_IV256_64`, { segmentLength: 64, rotationBits: 20 }],
    [`${source}_GCM256_IV256_4K`, { segmentLength: 4096, rotationBits: 20 }],
    [`${source}_rotation`, { segmentLength: 40, rotationBits: 2 }],
  ]),
  ['java_lastSegAligned', { segmentLength: 40, rotationBits: 20 }],
  ['java_lastSegEmpty', { segmentLength: 40, rotationBits: 20 }],
];
const KEY = Buffer.alloc(32);
const AAD = Buffer.from('This is AAD');
const kat = (name: string) => Buffer.from(readFileSync(vectors('floe', name), 'utf8').trim(), 'hex');

describe.skipIf(!haveVectors)('Snowflake-Labs/floe-specification vectors (needs ../shared/vectors)', () => {
  test.each(SETS)('%s', (name, params) => {
    const ciphertext = kat(`${name}_ct.txt`);
    const plaintext = kat(`${name}_pt.txt`);
    expect(decrypt(KEY, AAD, ciphertext, params)).toEqual(plaintext);
    expect(nobleDecrypt(KEY, AAD, ciphertext, params)).toEqual(plaintext);
    if (name !== 'java_lastSegEmpty') expect(encrypt(KEY, AAD, plaintext, params).length).toBe(ciphertext.length);
  });

  test.each(SETS)('%s byte for byte, with its IVs', (name, params) => {
    const ciphertext = kat(`${name}_ct.txt`);
    const plaintext = kat(`${name}_pt.txt`);
    const { header, state } = startEncryption(KEY, AAD, params, ciphertext.subarray(10, 42));
    const pieces: Uint8Array[] = [header];
    for (let at = header.length, i = 0, p = 0; at < ciphertext.length; i++) {
      const final = ciphertext.readUInt32BE(at) !== 0xffffffff;
      const length = (final ? ciphertext.readUInt32BE(at) : params.segmentLength) - 32;
      pieces.push(
        encryptSegment(state, plaintext.subarray(p, p + length), i, final, ciphertext.subarray(at + 4, at + 16)),
      );
      at += length + 32;
      p += length;
    }
    expect(Buffer.concat(pieces)).toEqual(ciphertext);
  });
});

describe('FLOE', () => {
  const params = { segmentLength: 64, rotationBits: 1 };
  const key = Buffer.alloc(32, 7);
  const aad = Buffer.from('aad');

  test.each([0, 1, 31, 32, 33, 64, 65, 200])('%i bytes: round trip, length, and @noble agrees', (length) => {
    const plain = Buffer.from(Array.from({ length }, (_, i) => i));
    const ciphertext = encrypt(key, aad, plain, params);
    expect(ciphertext.length).toBe(floeLength(length, params));
    expect(decrypt(key, aad, ciphertext, params)).toEqual(plain);
    expect(nobleDecrypt(key, aad, ciphertext, params)).toEqual(plain);
  });

  test('the format has 1 MiB of plaintext to the segment', () => {
    expect(segmentPlain(FLOE)).toBe(1 << 20);
    expect(floeLength(2 ** 20)).toBe(74 + 2 ** 20 + 32);
    expect(floeLength(2 ** 20 + 1)).toBe(74 + 2 ** 20 + 1 + 64);
  });

  test('every bit flip is refused', () => {
    const plain = Buffer.alloc(70, 1);
    const good = encrypt(key, aad, plain, params);
    for (let bit = 0; bit < good.length * 8; bit++) {
      const bad = Buffer.from(good);
      bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => decrypt(key, aad, bad, params)).toThrow();
    }
  });

  test('every truncation is refused', () => {
    const good = encrypt(key, aad, Buffer.alloc(70, 1), params);
    for (let i = 0; i < good.length; i++) expect(() => decrypt(key, aad, good.subarray(0, i), params)).toThrow();
  });

  test('wrong key, wrong aad, other parameters', () => {
    const header = encrypt(key, aad, Buffer.alloc(70), params).subarray(0, FLOE_HEADER_LENGTH);
    const refused = expect.objectContaining({ code: 'ERR_SEAL_TAMPERED', exitCode: 3 });
    expect(() => startDecryption(Buffer.alloc(32), aad, header, params)).toThrow(refused);
    expect(() => startDecryption(key, Buffer.from('aae'), header, params)).toThrow(refused);
    expect(() => startDecryption(key, aad, header, FLOE)).toThrow(refused);
  });

  test('a segment elsewhere, or final where it is not', () => {
    const bytes = encrypt(key, aad, Buffer.alloc(96), params);
    const state = startDecryption(key, aad, bytes.subarray(0, 74), params);
    const segment = bytes.subarray(74, 138);
    expect(decryptSegment(state, segment, 0, false).length).toBe(32);
    expect(() => decryptSegment(state, segment, 1, false)).toThrow();
    expect(() => decryptSegment(state, segment, 0, true)).toThrow();
    const relabelled = Buffer.from(segment);
    relabelled.writeUInt32BE(64);
    expect(() => decryptSegment(state, relabelled, 0, true)).toThrow();
  });

  test('encryptSegment takes only whole segments before the last', () => {
    const { state } = startEncryption(key, aad, params);
    expect(() => encryptSegment(state, Buffer.alloc(31), 0, false)).toThrow(RangeError);
    expect(() => encryptSegment(state, Buffer.alloc(33), 0, true)).toThrow(RangeError);
  });
});
