import { generateKeyPairSync, sign } from 'node:crypto';
import { ed25519 } from '@noble/curves/ed25519.js';
import { describe, expect, test } from 'vitest';
import { isStrictPoint, verifyEd25519Strict } from '../../../src/core/ed25519.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(12);
const message = Buffer.from('a message');
const signature = sign(null, message, privateKey);

// Every multiple of a point of order 8: all eight points of small order.
const torsion = (() => {
  const seed = ed25519.Point.fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05');
  const points = [ed25519.Point.ZERO];
  for (let i = 1; i < 8; i++) points.push((points[i - 1] ?? ed25519.Point.ZERO).add(seed));
  return points;
})();

describe('verifyEd25519Strict', () => {
  test('accepts an honest signature', () => expect(verifyEd25519Strict(raw, message, signature)).toBe(true));

  test('refuses every flipped bit of key and signature', () => {
    for (let i = 0; i < 96 * 8; i++) {
      const both = Buffer.concat([raw, signature]);
      both[i >> 3] = (both[i >> 3] ?? 0) ^ (1 << (i & 7));
      expect(verifyEd25519Strict(both.subarray(0, 32), message, both.subarray(32))).toBe(false);
    }
  });

  test('refuses wrong lengths', () => {
    expect(verifyEd25519Strict(raw.subarray(1), message, signature)).toBe(false);
    expect(verifyEd25519Strict(raw, message, signature.subarray(1))).toBe(false);
    expect(verifyEd25519Strict(raw, message, Buffer.concat([signature, Buffer.alloc(1)]))).toBe(false);
  });

  test('the list of small-order points is the whole torsion subgroup', () => {
    expect(new Set(torsion.map((p) => p.toHex())).size).toBe(8);
    for (const point of torsion) {
      expect(point.isSmallOrder()).toBe(true);
      expect(isStrictPoint(point.toBytes())).toBe(false);
    }
    expect(isStrictPoint(ed25519.Point.BASE.toBytes())).toBe(true);
  });

  test('refuses a small-order key, under which one signature holds for any message', () => {
    // A = identity, R = B, S = 1: the equation S*B = R + k*A is true whatever k is.
    const a = ed25519.Point.ZERO.toBytes();
    const forged = Buffer.concat([ed25519.Point.BASE.toBytes(), Buffer.from([1]), Buffer.alloc(31)]);
    expect(ed25519.verify(forged, Buffer.from('anything'), a, { zip215: true })).toBe(true);
    expect(verifyEd25519Strict(a, Buffer.from('anything'), forged)).toBe(false);
  });

  test('refuses a small-order R', () => {
    for (const point of torsion) {
      const forged = Buffer.concat([point.toBytes(), Buffer.alloc(32)]);
      expect(verifyEd25519Strict(raw, message, forged)).toBe(false);
    }
  });

  test('refuses a non-canonical encoding (y >= p)', () => {
    const p = Buffer.from(`ed${'ff'.repeat(30)}7f`, 'hex');
    expect(isStrictPoint(p)).toBe(false);
    p[0] = 0xee;
    expect(isStrictPoint(p)).toBe(false);
    p[0] = 0xff;
    p[31] = 0xff;
    expect(isStrictPoint(p)).toBe(false);
  });
});
