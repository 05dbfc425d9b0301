import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { generateKey, KEY_TYPES, writeKeyFiles } from '../../../src/keys/generate.ts';
import {
  keyId,
  readOwnerPrivateKey,
  readOwnerPublicKey,
  readXWingPrivateKey,
  readXWingPublicKey,
} from '../../../src/keys/keys.ts';
import { encodePem, parsePem } from '../../../src/keys/pem.ts';
import { xwingPublicFromSeed } from '../../../src/keys/xwing.ts';
import { haveVectors, vectors } from '../vectors.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-keys-'));
afterAll(() => rmSync(dir, { recursive: true }));
const pem = (text: string) => Buffer.from(text);

describe('key files', () => {
  test('every type: PKCS#8 and SPKI that read back', () => {
    const owner = generateKey('owner');
    expect(readOwnerPrivateKey(pem(owner.privatePem)).publicRaw).toEqual(readOwnerPublicKey(pem(owner.publicPem)).raw);
    for (const type of ['broker', 'recovery'] as const) {
      const key = generateKey(type);
      expect(readXWingPrivateKey(pem(key.privatePem)).publicRaw).toEqual(readXWingPublicKey(pem(key.publicPem)).raw);
    }
    expect(createPrivateKey(generateKey('build').privatePem).asymmetricKeyDetails).toMatchObject({
      namedCurve: 'prime256v1',
    });
    expect(createPrivateKey(generateKey('eif').privatePem).asymmetricKeyDetails).toMatchObject({
      namedCurve: 'secp384r1',
    });
    expect(createPrivateKey(generateKey('sgx').privatePem).asymmetricKeyDetails).toEqual({
      modulusLength: 3072,
      publicExponent: 3n,
    });
  });

  test('the X-Wing private key is the PEM that the draft shows for the seed 00..1f', () => {
    const text =
      '-----BEGIN PRIVATE KEY-----\nMDQCAQAwDQYLKwYBBAGD5i2ByHoEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ\nGhscHR4f\n-----END PRIVATE KEY-----\n';
    expect(readXWingPrivateKey(pem(text)).seed).toEqual(Buffer.from(Array.from({ length: 32 }, (_, i) => i)));
  });

  test.skipIf(!haveVectors)('X-Wing public keys are those of hpkewg/hpke-pq (needs ../shared/vectors)', () => {
    for (const v of JSON.parse(readFileSync(vectors('hpke-pq', 'mlkem768-x25519.json'), 'utf8'))) {
      expect(xwingPublicFromSeed(Buffer.from(v.skRm, 'hex')).toString('hex')).toBe(v.pkRm);
    }
  });

  test('every wrong kind is named, with what was expected', () => {
    const owner = generateKey('owner');
    const broker = generateKey('broker');
    const build = generateKey('build');
    const cases: [() => unknown, string][] = [
      [() => readOwnerPublicKey(pem(broker.publicPem)), 'expected an Ed25519 public key, found an X-Wing public key'],
      [() => readOwnerPublicKey(pem(owner.privatePem)), 'expected an Ed25519 public key, found an Ed25519 private key'],
      [() => readOwnerPrivateKey(pem(owner.publicPem)), 'expected an Ed25519 private key, found an Ed25519 public key'],
      [() => readOwnerPrivateKey(pem(build.privatePem)), 'expected an Ed25519 private key, found an EC private key'],
      [() => readXWingPublicKey(pem(owner.publicPem)), 'expected an X-Wing public key, found an Ed25519 public key'],
      [() => readXWingPublicKey(pem(broker.privatePem)), 'expected an X-Wing public key, found an X-Wing private key'],
      [() => readXWingPrivateKey(pem(broker.publicPem)), 'expected an X-Wing private key, found an X-Wing public key'],
      [() => readXWingPrivateKey(pem(encodePem('CERTIFICATE', Buffer.alloc(9)))), 'found something else'],
    ];
    for (const [read, text] of cases) {
      expect(read).toThrow(
        expect.objectContaining({ code: 'ERR_KEY_KIND', exitCode: 2, message: expect.stringContaining(text) }),
      );
    }
  });

  test('a small-order owner key is refused', () => {
    const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from([1]), Buffer.alloc(31)]);
    expect(() => readOwnerPublicKey(pem(encodePem('PUBLIC KEY', der)))).toThrow(
      expect.objectContaining({ code: 'ERR_KEY_WEAK' }),
    );
  });

  test('truncated at every length, two blocks, not a key: refused', () => {
    const { privatePem } = generateKey('broker');
    for (let i = 0; i < privatePem.length - 1; i++) {
      expect(() => readXWingPrivateKey(pem(privatePem.slice(0, i)))).toThrow(/ERR_|key/);
    }
    expect(() => parsePem(privatePem + privatePem, 'key')).toThrow(
      expect.objectContaining({ code: 'ERR_KEY_MALFORMED' }),
    );
    expect(() => parsePem(Buffer.alloc(100_000), 'key')).toThrow(
      expect.objectContaining({ code: 'ERR_KEY_MALFORMED' }),
    );
    expect(() => parsePem('', 'key')).toThrow(expect.objectContaining({ code: 'ERR_KEY_MALFORMED' }));
  });

  test('the key id is the first half of SHA-256 of the raw key', () => {
    expect(keyId(Buffer.from('abc'))).toEqual(createHash('sha256').update('abc').digest().subarray(0, 16));
  });
});

describe('writeKeyFiles', () => {
  test.each(KEY_TYPES)('%s: private 0600, public beside it', async (type) => {
    const out = join(dir, type);
    const files = await writeKeyFiles(type, out);
    expect(statSync(files.private).mode & 0o777).toBe(0o600);
    expect(readFileSync(files.public, 'utf8')).toContain('BEGIN PUBLIC KEY');
    expect(files.id).toMatch(/^[0-9a-f]{32}$/);
    if (type === 'owner')
      expect(files.id).toBe(keyId(readOwnerPublicKey(readFileSync(files.public)).raw).toString('hex'));
    if (type === 'broker')
      expect(files.id).toBe(keyId(readXWingPublicKey(readFileSync(files.public)).raw).toString('hex'));
    if (type === 'eif') {
      const certificate = new X509Certificate(readFileSync(`${out}.crt`));
      expect(certificate.verify(certificate.publicKey)).toBe(true);
      expect(certificate.checkPrivateKey(createPrivateKey(readFileSync(out)))).toBe(true);
    }
  });

  test('an existing file is never overwritten and nothing is left', async () => {
    const out = join(dir, 'taken');
    writeFileSync(`${out}.pub`, 'mine');
    await expect(writeKeyFiles('owner', out)).rejects.toMatchObject({ code: 'ERR_KEY_EXISTS', exitCode: 2 });
    expect(existsSync(out)).toBe(false);
    expect(readFileSync(`${out}.pub`, 'utf8')).toBe('mine');
  });
});
