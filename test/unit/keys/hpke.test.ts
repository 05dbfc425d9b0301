import { readFileSync } from 'node:fs';
import * as HPKE from 'hpke';
import { describe, expect, test } from 'vitest';
import { hpkeOpen, hpkeSeal } from '../../../src/keys/hpke.ts';
import { newXWingSeed, xwingPublicFromSeed } from '../../../src/keys/xwing.ts';
import { haveVectors, vectors } from '../vectors.ts';

interface Vector {
  kdf_id: number;
  skRm: string;
  enc: string;
  info: string;
  exports: { exporter_context: string; L: number; exported_value: string }[];
  encryptions: { aad: string; ct: string; pt: string }[];
}

const KDFS: Record<number, HPKE.KDFFactory> = { 1: HPKE.KDF_HKDF_SHA256, 17: HPKE.KDF_SHAKE256 };

describe.skipIf(!haveVectors)('hpke-pq vectors, KEM 0x647A (needs ../shared/vectors)', () => {
  const list: Vector[] = haveVectors
    ? JSON.parse(readFileSync(vectors('hpke-pq', 'mlkem768-x25519.json'), 'utf8'))
    : [];
  test.each(list.map((v: Vector) => [v.kdf_id, v] as const))('KEM and key schedule, KDF %i', async (id, v: Vector) => {
    const bytes = (text: string) => Buffer.from(text, 'hex');
    const kdf = KDFS[id];
    if (!kdf) throw new Error(`vectors with an unknown KDF ${id}`);
    const suite = new HPKE.CipherSuite(HPKE.KEM_MLKEM768_X25519, kdf, HPKE.AEAD_ChaCha20Poly1305);
    const key = await suite.DeserializePrivateKey(bytes(v.skRm), true);
    const context = await suite.SetupRecipient(key, bytes(v.enc), { info: bytes(v.info) });
    for (const e of v.exports) {
      const exported = await context.Export(bytes(e.exporter_context), e.L);
      expect(Buffer.from(exported).toString('hex')).toBe(e.exported_value);
    }
    for (const e of v.encryptions) {
      expect(Buffer.from(await context.Open(bytes(e.ct), bytes(e.aad))).toString('hex')).toBe(e.pt);
    }
  });
});

describe('hpkeSeal and hpkeOpen', () => {
  const seed = newXWingSeed();
  const info = Buffer.from('info');
  const secret = Buffer.from('a share');

  test('round trip', async () => {
    const message = await hpkeSeal(xwingPublicFromSeed(seed), info, secret);
    expect(message.enc.length).toBe(1120);
    expect(message.ciphertext.length).toBe(secret.length + 16);
    expect(await hpkeOpen(seed, message, info)).toEqual(secret);
  });

  test('wrong key, wrong info, flipped or cut: null', async () => {
    const { enc, ciphertext } = await hpkeSeal(xwingPublicFromSeed(seed), info, secret);
    const flip = (bytes: Uint8Array, at: number) => bytes.map((b, i) => (i === at ? b ^ 1 : b));
    expect(await hpkeOpen(newXWingSeed(), { enc, ciphertext }, info)).toBeNull();
    expect(await hpkeOpen(seed, { enc, ciphertext }, Buffer.from('other'))).toBeNull();
    for (const at of [0, 500, 1087, 1088, 1119])
      expect(await hpkeOpen(seed, { enc: flip(enc, at), ciphertext }, info)).toBeNull();
    for (let at = 0; at < ciphertext.length; at++) {
      expect(await hpkeOpen(seed, { enc, ciphertext: flip(ciphertext, at) }, info)).toBeNull();
    }
    expect(await hpkeOpen(seed, { enc: enc.subarray(1), ciphertext }, info)).toBeNull();
    expect(await hpkeOpen(seed, { enc, ciphertext: ciphertext.subarray(0, 15) }, info)).toBeNull();
  });

  test('other warnings still come through', () => {
    const seen: string[] = [];
    const listen = (w: Error) => seen.push(w.message);
    process.on('warning', listen);
    process.emitWarning('a plain one');
    process.emitWarning('another experiment', 'ExperimentalWarning');
    process.emitWarning('The x Web Crypto API method is experimental', 'ExperimentalWarning');
    return new Promise<void>((done) =>
      setImmediate(() => {
        process.off('warning', listen);
        expect(seen).toEqual(['a plain one', 'another experiment']);
        done();
      }),
    );
  });
});
