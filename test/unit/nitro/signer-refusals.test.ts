import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { packEif, readSigner, readSignerFiles, signEif } from '../../../src/nitro/index.ts';
import { type Identity, identity, pem } from './certificates.ts';
import { smallEif, withDirectory } from './small.ts';

let good: Identity;
let other: Identity;
beforeAll(async () => {
  good = await identity();
  other = await identity();
});

/** What is thrown, as a user would see it. */
function refusal(certificate: Uint8Array, key: Uint8Array, now?: Date) {
  try {
    readSigner(certificate, key, now);
  } catch (error) {
    const { code, exitCode, message, hint } = error as Record<string, unknown>;
    return { code, exitCode, text: `${message} ${hint}` };
  }
  throw new Error('it was taken');
}
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve }).privateKey;
const ed25519 = generateKeyPairSync('ed25519').privateKey;
const text = (key: typeof rsa) => Buffer.from(key.export({ format: 'pem', type: 'pkcs8' }));
const encrypted = (type: 'pkcs8' | 'sec1') =>
  Buffer.from(ec('P-384').export({ format: 'pem', type, cipher: 'aes-256-cbc', passphrase: 'x' }));

describe('keys and certificates that do not sign', () => {
  test('a key that is not the certificate’s', () => {
    expect(refusal(good.certificate, other.key)).toMatchObject({ code: 'ERR_KEY_MISMATCH', exitCode: 3 });
  });

  test('a key on another curve than the certificate’s', () => {
    expect(refusal(good.certificate, text(ec('P-256')))).toMatchObject({ code: 'ERR_KEY_MISMATCH', exitCode: 3 });
  });

  test.each<[string, () => Buffer, RegExp]>([
    ['RSA', () => text(rsa), /rsa 2048/],
    ['secp256k1', () => text(ec('secp256k1')), /secp256k1/],
    ['brainpoolP384r1', () => text(ec('brainpoolP384r1')), /brainpoolP384r1/],
    ['Ed25519', () => text(ed25519), /ed25519/],
  ])('%s', (_, key, found) => {
    const { text, ...refused } = refusal(good.certificate, key());
    expect(refused).toEqual({ code: 'ERR_KEY_KIND', exitCode: 2 });
    expect(text).toMatch(found);
  });

  test.each(['pkcs8', 'sec1'] as const)('an encrypted key (%s)', (type) => {
    expect(refusal(good.certificate, encrypted(type))).toMatchObject({ code: 'ERR_KEY_ENCRYPTED', exitCode: 2 });
  });

  test.each<[string, () => Buffer]>([
    ['nothing', () => Buffer.alloc(0)],
    ['garbage', () => Buffer.from('not a key')],
    ['binary', () => Buffer.alloc(300, 0xff)],
    ['a certificate', () => good.certificate],
    ['PEM around garbage', () => pem(Buffer.from('junk'), 'PRIVATE KEY')],
    ['a key that is cut off', () => good.key.subarray(0, 120)],
  ])('%s for a key', (_, key) => {
    expect(refusal(good.certificate, key())).toMatchObject({ code: 'ERR_KEY_MALFORMED', exitCode: 2 });
  });

  test.each<[string, () => Buffer]>([
    ['nothing', () => Buffer.alloc(0)],
    ['garbage', () => Buffer.from('not a certificate')],
    ['DER, which the reference does not read', () => Buffer.from(derOf(good.certificate))],
    ['PEM around garbage', () => pem(Buffer.from('junk'))],
    ['a public key', () => pem(Buffer.from('junk'), 'PUBLIC KEY')],
    ['a damaged certificate before a good one', () => Buffer.concat([pem(Buffer.from('x')), good.certificate])],
    [
      'another block before the certificate',
      () => Buffer.concat([pem(derOf(good.certificate), 'X509 CRL'), good.certificate]),
    ],
    ['OpenSSL’s trusted form before the certificate', () => trusted()],
    ['a byte after the DER', () => pem(Buffer.concat([derOf(good.certificate), Buffer.alloc(1)]))],
  ])('%s for a certificate', (_, certificate) => {
    expect(refusal(certificate(), good.key)).toMatchObject({ code: 'ERR_CERTIFICATE_MALFORMED', exitCode: 2 });
  });

  test('a certificate file that holds the private key too would publish it', () => {
    for (const file of [[good.certificate, good.key], [good.key, good.certificate], [good.key], [encrypted('sec1')]]) {
      const refused = refusal(Buffer.concat(file), good.key);
      expect(refused).toMatchObject({ code: 'ERR_CERTIFICATE_PRIVATE', exitCode: 2 });
    }
  });

  test('an expired certificate, and one that is not valid yet, are refused; --at overrides', async () => {
    const expired = await identity({ notBefore: '2020-01-01', notAfter: '2021-01-01' });
    const early = await identity({ notBefore: '2090-01-01' });
    const code = 'ERR_CERTIFICATE_VALIDITY';
    expect(refusal(expired.certificate, expired.key)).toMatchObject({ code, exitCode: 3 });
    expect(refusal(expired.certificate, expired.key).text).toContain('expired on 2021-01-01T00:00:00.000Z');
    expect(refusal(early.certificate, early.key)).toMatchObject({ code, exitCode: 3 });
    expect(refusal(early.certificate, early.key).text).toContain('not valid before 2090-01-01');
    expect(readSigner(expired.certificate, expired.key, new Date('2020-06-01')).pcr8).toMatch(/^[0-9a-f]{96}$/);
  });

  test('validity includes both ends', async () => {
    const { certificate, key } = await identity({ notBefore: '2020-01-01', notAfter: '2021-01-01' });
    const at = (time: string) => readSigner(certificate, key, new Date(time));
    expect(at('2020-01-01T00:00:00.000Z').pcr8).toBe(at('2021-01-01T00:00:00.999Z').pcr8);
    expect(() => at('2019-12-31T23:59:59.999Z')).toThrow();
    expect(() => at('2021-01-01T00:00:01.000Z')).toThrow();
  });

  test('no text of a refusal holds a part of the key', () => {
    const body = good.key.toString().split('\n')[1] ?? '';
    for (const key of [good.key.subarray(0, 120), Buffer.concat([good.key, good.key]), pem(Buffer.from(body))]) {
      let said = '';
      try {
        readSigner(other.certificate, key);
      } catch (error) {
        said = `${(error as Error).stack} ${JSON.stringify(error)} ${(error as Error).cause}`;
      }
      expect(said).toContain('ERR_KEY_');
      expect(said).not.toContain(body.slice(0, 16));
    }
  });
});

describe('after a refusal nothing is left', () => {
  test.each<[string, string, (dir: string) => void]>([
    ['a missing key', 'ERR_FILE_NOT_FOUND', () => {}],
    ['a key of 65 KiB', 'ERR_FILE_TOO_LARGE', (dir) => writeFileSync(join(dir, 'key'), Buffer.alloc(65 << 10))],
    ['another key', 'ERR_KEY_MISMATCH', (dir) => writeFileSync(join(dir, 'key'), other.key)],
  ])('%s', (_, expected, prepare) =>
    withDirectory(async (dir) => {
      const [certificate, key, image] = [join(dir, 'crt'), join(dir, 'key'), join(dir, 'x.eif')];
      writeFileSync(certificate, good.certificate);
      writeFileSync(image, await smallEif());
      const before = readFileSync(image);
      prepare(dir);
      const files = readdirSync(dir).sort();
      const sign = () => readSignerFiles({ certificate, key });
      const attempts = [
        async () => signEif({ image, sign: await sign() }),
        async () =>
          packEif({
            kernel: image,
            ramdisks: [image],
            cmdline: '',
            arch: 'x86_64',
            out: join(dir, 'out'),
            sign: await sign(),
          }),
      ];
      for (const attempt of attempts) {
        await expect(attempt()).rejects.toThrow(expect.objectContaining({ code: expected }));
      }
      expect(readdirSync(dir).sort()).toEqual(files);
      expect(readFileSync(image)).toEqual(before);
    }),
  );
});

describe('forms of keys that people have', () => {
  test('SEC 1, and behind the parameters that `openssl ecparam -genkey` writes', async () => {
    const { certificate, key } = await identity({ curve: 'P-256' });
    const { createPrivateKey } = await import('node:crypto');
    const sec1 = createPrivateKey(key).export({ format: 'pem', type: 'sec1' });
    const parameters = pem(Buffer.from('06082a8648ce3d030107', 'hex'), 'EC PARAMETERS');
    const { pcr8 } = readSigner(certificate, key);
    expect(readSigner(certificate, Buffer.from(sec1)).pcr8).toBe(pcr8);
    expect(readSigner(certificate, Buffer.concat([parameters, Buffer.from(sec1)])).pcr8).toBe(pcr8);
  });
});

function derOf(certificate: Buffer): Buffer {
  return Buffer.from(certificate.toString().replace(/-----.*?-----|\s/g, ''), 'base64');
}

function trusted(): Buffer {
  return Buffer.concat([pem(derOf(other.certificate), 'TRUSTED CERTIFICATE'), good.certificate]);
}
