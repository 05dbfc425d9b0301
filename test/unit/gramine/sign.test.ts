import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readSgxSigner, signingDate } from '../../../src/gramine/index.ts';
import { generateKey } from '../../../src/keys/generate.ts';
import { gramineManifest } from '../../../src/tasks/gramine-manifest.ts';
import { signGramine } from '../../../src/tasks/gramine-sign.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { smallPal } from './elf-file.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-sgx-sign-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const write = (name: string, content: string | Buffer): string => {
  writeFileSync(join(dir, name), content);
  return join(dir, name);
};
const code = (expected: string, message = /./) => ({ code: expected, message: expect.stringMatching(message) });

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 3072, publicExponent: 3 });
const pem = (key: KeyObject, type: 'pkcs1' | 'pkcs8') => key.export({ format: 'pem', type }) as string;
/** Making such a key takes half a second. */
const made = generateKey('sgx');
const plain = write('plain.pem', pem(privateKey, 'pkcs8'));
const publicKey = write('public.pem', createPublicKey(privateKey).export({ format: 'pem', type: 'spki' }));
const passphrase = write('passphrase', 'correct horse\n');
const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'ignore'] });
const message = Buffer.alloc(256, 7);

describe.skipIf(!haveVectors)('the reference vectors (skipped without them)', () => {
  const all = haveVectors ? readdirSync(vectors('gramine')).filter((name) => /^\d/.test(name)) : [];
  const signer = { key: vectors('gramine/key/throwaway-rsa3072-e3.pem') };
  const options = (name: string) => {
    const meta = JSON.parse(readFileSync(vectors('gramine', name, 'meta.json'), 'utf8'));
    const out = join(dir, `${name}.manifest.sgx`);
    const chroot = meta.chroot === null ? undefined : vectors('gramine', name, meta.chroot);
    const libpal = vectors('gramine/elf', meta.elf);
    return { meta, manifest: vectors('gramine', name, 'app.manifest'), libpal, signer, date: meta.date, chroot, out };
  };

  test.each(all.filter((name) => !name.includes('fail')))('%s: byte for byte', async (name) => {
    const { meta, ...sign } = options(name);
    const { measurement, manifest, sigstruct } = await signGramine(sign);
    expect(readFileSync(manifest).equals(readFileSync(vectors('gramine', name, 'app.manifest.sgx')))).toBe(true);
    expect(readFileSync(sigstruct).equals(readFileSync(vectors('gramine', name, 'app.sig')))).toBe(true);
    const { mrenclave, mrsigner, isvprodid, isvsvn } = meta;
    expect(measurement).toEqual({ tee: 'sgx', mrenclave, mrsigner, isvprodid, isvsvn });
  });

  test('16-fail-too-small is refused, and leaves nothing', async () => {
    const { meta: _, ...sign } = options('16-fail-too-small');
    await expect(signGramine(sign)).rejects.toMatchObject(code('ERR_GRAMINE_ENCLAVE_SIZE'));
    expect(readdirSync(dir).filter((name) => name.startsWith('16-'))).toEqual([]);
  });

  // Templates without anything to render: the manifest step would refuse them, and so does signing.
  test.each([
    ['17-fail-schema', 'ERR_GRAMINE_UNKNOWN_KEY', /nonsense/],
    ['18-fail-dir-without-slash', 'ERR_GRAMINE_TRUSTED', /models/],
  ])('%s is refused', async (name, expected, message) => {
    const { meta: _, ...sign } = options(name);
    const template = readFileSync(vectors('gramine', name, 'app.manifest.template'), 'utf8');
    const text = template.replaceAll(/file:(libsysdb|models)/g, (_, file) => `file:${vectors('gramine', name, file)}`);
    await expect(signGramine({ ...sign, manifest: write(`${name}.manifest`, text) })).rejects.toMatchObject({
      code: expected,
      exitCode: 2,
      message: expect.stringMatching(message),
    });
  });
});

describe('outputs', () => {
  test('over the key, its passphrase, the library or the manifest, by any name: refused, and nothing is lost', async () => {
    const files = {
      key: write('lost.key', readFileSync(plain)),
      passphrase: write('lost.passphrase', 'x'),
      libpal: write('lost.so', 'libpal'),
      manifest: write('lost.manifest', 'manifest'),
    };
    const { key, passphrase, libpal, manifest } = files;
    const before = Object.values(files).map((path) => readFileSync(path, 'hex'));
    symlinkSync(key, join(dir, 'lost.link'));
    for (const path of [...Object.values(files), join(dir, 'lost.link')]) {
      const free = join(dir, 'lost.out');
      for (const [out, sig] of [
        [path, free],
        [free, path],
      ] as const) {
        const signing = signGramine({ manifest, libpal, signer: { key, passphrase }, date: '2025-01-31', out, sig });
        await expect(signing).rejects.toMatchObject(code('ERR_OUTPUT_INPUT'));
      }
    }
    expect(Object.values(files).map((path) => readFileSync(path, 'hex'))).toEqual(before);
  });

  test('a public key is not written over either, nor a template by the manifest that is made of it', async () => {
    const [manifest, libpal] = [write('kept.manifest', 'x'), write('kept.so', 'x')];
    const signing = signGramine({ manifest, libpal, signer: { signer: 'false', publicKey }, out: publicKey, sig: 's' });
    await expect(signing).rejects.toMatchObject(code('ERR_OUTPUT_INPUT'));
    const template = gramineManifest({ template: { path: manifest }, out: manifest });
    await expect(template).rejects.toMatchObject(code('ERR_OUTPUT_INPUT'));
    expect(readFileSync(manifest, 'utf8')).toBe('x');
  });
});

describe('keys', () => {
  const signs = async (from: Parameters<typeof readSgxSigner>[0]) => {
    const signer = await readSgxSigner(from);
    return (await signer.sign(message)).toString('hex');
  };

  test('PKCS#1 and PKCS#8, plain and encrypted, make the same signature as openssl', async () => {
    const signature = write('message', message) && openssl('dgst', '-sha256', '-sign', plain, join(dir, 'message'));
    const encrypted = { cipher: 'aes-256-cbc', passphrase: 'correct horse', format: 'pem' } as const;
    const files = {
      plain,
      pkcs1: write('pkcs1.pem', pem(privateKey, 'pkcs1')),
      pkcs8Encrypted: write('e8.pem', privateKey.export({ ...encrypted, type: 'pkcs8' })),
      pkcs1Encrypted: write('e1.pem', privateKey.export({ ...encrypted, type: 'pkcs1' })),
    };
    for (const key of Object.values(files)) {
      expect(await signs({ key, passphrase })).toBe(signature.toString('hex'));
    }
    expect(readFileSync(files.pkcs1Encrypted, 'utf8')).toContain('Proc-Type: 4,ENCRYPTED');
    expect(await signs({ key: files.plain })).toBe(signature.toString('hex'));
    await expect(signs({ key: files.pkcs8Encrypted })).rejects.toMatchObject(code('ERR_KEY_ENCRYPTED'));
    await expect(signs({ key: files.pkcs1Encrypted })).rejects.toMatchObject(code('ERR_KEY_ENCRYPTED'));
    for (const [index, wrong] of ['wrong', 'correct horse \n', 'correct', '', '\n'].entries()) {
      const refused = signs({ key: files.pkcs8Encrypted, passphrase: write(`wrong${index}`, wrong) });
      await expect(refused).rejects.toMatchObject(code('ERR_KEY_PASSPHRASE', /^(?!.*correct)/));
    }
  });

  test('of keygen --type sgx', async () => {
    const key = write('made.key', made.privatePem);
    expect(await signs({ key })).toBe(
      await signs({ signer: `openssl dgst -sha256 -sign ${key}`, publicKey: write('made.pub', made.publicPem) }),
    );
  });

  const rsa = (modulusLength: number, publicExponent: number) =>
    generateKeyPairSync('rsa', { modulusLength, publicExponent }).privateKey;
  test.each([
    ['too small', () => rsa(2048, 3), /RSA-2048 with exponent 3/],
    ['with the usual exponent', () => rsa(3072, 65537), /RSA-3072 with exponent 65537/],
    ['on a curve', () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, /prime256v1/],
    ['for Ed25519', () => generateKeyPairSync('ed25519').privateKey, /ed25519/],
    [
      'for RSA-PSS alone',
      () => generateKeyPairSync('rsa-pss', { modulusLength: 2048, publicExponent: 3 }).privateKey,
      /rsa-pss/,
    ],
  ])('%s', async (_, make, found) => {
    const key = make();
    const publicPem = createPublicKey(key).export({ format: 'pem', type: 'spki' });
    await expect(signs({ key: write('k', pem(key, 'pkcs8')) })).rejects.toMatchObject(code('ERR_KEY_KIND', found));
    const external = { signer: 'false', publicKey: write('p', publicPem) };
    await expect(signs(external)).rejects.toMatchObject(code('ERR_KEY_KIND', found));
  });

  test('files that are no key, and keys in the wrong place', async () => {
    for (const text of [
      '',
      'x',
      '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
      readFileSync(publicKey, 'utf8'),
    ]) {
      await expect(signs({ key: write('k', text) })).rejects.toMatchObject(code('ERR_KEY_MALFORMED'));
    }
    await expect(signs({ signer: 'true', publicKey: plain })).rejects.toMatchObject(code('ERR_KEY_KIND'));
    await expect(signs({ signer: 'true', publicKey: write('p', 'x') })).rejects.toMatchObject(
      code('ERR_KEY_MALFORMED'),
    );
  });
});

describe('a signer that is a command', () => {
  const ask = async (command: string, limitMs?: number) =>
    (await readSgxSigner({ signer: command, publicKey, ...(limitMs === undefined ? {} : { limitMs }) })).sign(message);
  const right = `openssl dgst -sha256 -sign '${plain}'`;

  test('gets the bytes on standard input, and its signature is used', async () => {
    const local = await readSgxSigner({ key: plain });
    expect((await ask(right)).equals(await local.sign(message))).toBe(true);
    await ask(`tee '${join(dir, 'seen')}' | ${right}`);
    expect(readFileSync(join(dir, 'seen')).equals(message)).toBe(true);
  });

  test('that lies is refused', async () => {
    const other = write('other.pem', made.privatePem);
    const lies = [
      `openssl dgst -sha256 -sign '${other}'`, // another key
      `cat >/dev/null; echo x | ${right}`, // other bytes
      `openssl dgst -sha384 -sign '${plain}'`, // another digest
      `openssl dgst -sha256 -sign '${plain}' -sigopt rsa_padding_mode:pss`, // another padding
      `cat >/dev/null; head -c 384 /dev/zero`,
    ];
    for (const lie of lies) {
      await expect(ask(lie)).rejects.toMatchObject({ ...code('ERR_SIGNER_SIGNATURE'), exitCode: 3 });
    }
  });

  test.each([
    ['that prints hex', `${right} -hex`, /more than 384/],
    ['that prints too little', `${right} | head -c 383`, /383 bytes/],
    ['that prints nothing', 'cat >/dev/null', /0 bytes/],
    ['that never ends to print', 'cat /dev/zero', /more than 384/],
    ['that fails after a right signature', `${right}; exit 3`, /status 3/],
    ['that is killed', 'kill -9 $$', /SIGKILL/],
    ['that does not exist', '/nonexistent/signer', /status 127/],
  ])('%s', async (_, command, why) => {
    await expect(ask(command)).rejects.toMatchObject({ ...code('ERR_SIGNER', why), exitCode: 1 });
  });

  test('that takes too long is ended, with all that it started', async () => {
    const pid = join(dir, 'pid');
    const refused = ask(`sh -c 'echo $$ > ${pid}; exec sleep 1000' & wait`, 1500);
    await expect(refused).rejects.toMatchObject(code('ERR_SIGNER', /1.5 seconds/));
    const stat = `/proc/${readFileSync(pid, 'utf8').trim()}/stat`;
    const state = () => (existsSync(stat) ? readFileSync(stat, 'utf8').split(') ')[1]?.[0] : 'gone');
    await expect.poll(state).toMatch(/gone|Z/);
  });

  test('sees nothing of ours in its environment, and what its own tools need', async () => {
    process.env.ATOMA_TEE_TEST_KEY = 'secret';
    process.env.PKCS11_MODULE = 'token';
    try {
      await ask(`env > '${join(dir, 'env')}'; ${right}`);
    } finally {
      delete process.env.ATOMA_TEE_TEST_KEY;
      delete process.env.PKCS11_MODULE;
    }
    const seen = readFileSync(join(dir, 'env'), 'utf8');
    expect(seen).toContain('PKCS11_MODULE=token');
    expect(seen).not.toContain('ATOMA');
  });
});

describe('what is written', () => {
  const complete = `loader.entrypoint = { uri = "file:/libos", sha256 = "${'ab'.repeat(32)}" }\nlibos.entrypoint = "/app"\nfs.mounts = []\n`;
  const sign = (out: string, sig: string, text = complete) =>
    signGramine({
      manifest: write('app.manifest', text),
      libpal: write('libpal.so', smallPal()),
      signer: { key: plain },
      date: '2025-01-31',
      out,
      sig,
    });

  test('nothing, where one of the two cannot be', async () => {
    mkdirSync(join(dir, 'is-a-directory'), { recursive: true });
    const out = join(dir, 'one.manifest.sgx');
    await expect(sign(out, join(dir, 'is-a-directory'))).rejects.toMatchObject(code('ERR_OUTPUT_KIND'));
    await expect(sign(out, join(dir, 'nowhere', 'one.sig'))).rejects.toMatchObject(code('ERR_FILE_NOT_FOUND'));
    await expect(sign(out, out)).rejects.toMatchObject(code('ERR_USAGE'));
    expect(readdirSync(dir).filter((name) => name.startsWith('one') || name.endsWith('.partial'))).toEqual([]);
  });

  test('the same bytes again from what was written: completing is done', async () => {
    const [out, sig] = [join(dir, 'two.manifest.sgx'), join(dir, 'two.sig')];
    await sign(out, sig);
    const first = [readFileSync(out), readFileSync(sig)];
    cpSync(out, join(dir, 'again.manifest'));
    await sign(out, sig, readFileSync(out, 'utf8'));
    expect([readFileSync(out), readFileSync(sig)]).toEqual(first);
  });
});

describe('the date', () => {
  const now = new Date('2026-11-22T23:59:59Z');
  test.each([
    ['2025-01-31', '0', '2025-01-31', 'given'],
    ['0000-00-00', undefined, '0000-00-00', 'given'],
    [undefined, '1738281600', '2025-01-31', 'SOURCE_DATE_EPOCH'],
    [undefined, '0', '1970-01-01', 'SOURCE_DATE_EPOCH'],
    [undefined, '', '2026-11-22', 'today'],
    [undefined, undefined, '2026-11-22', 'today'],
  ])('--date %s, SOURCE_DATE_EPOCH=%s: %s', (given, epoch, date, from) => {
    // A test's own SOURCE_DATE_EPOCH must not count.
    expect(signingDate(given, epoch ?? '', now)).toEqual({ date, from });
  });

  test.each(['2025-02-29', '2025-1-31', '31.01.2025', 'today', '', '2025-01-31T00:00:00Z', '99999-01-01'])(
    '--date "%s" is no date',
    (given) => {
      expect(() => signingDate(given)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
    },
  );

  test.each(['-1', '1e9', 'now', '999999999999', '1738281600.5'])('SOURCE_DATE_EPOCH=%s is no time', (epoch) => {
    expect(() => signingDate(undefined, epoch)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });
});
