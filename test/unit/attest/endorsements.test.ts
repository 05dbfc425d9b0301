import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseEndorsements } from '../../../src/attest/endorsements.ts';
import {
  createSimulatedAttester,
  createSimulatedRoot,
  type Endorsements,
  parseRoots,
} from '../../../src/attest/index.ts';
import { AtomaError } from '../../../src/core/errors.ts';
import { readEndorsements } from '../../../src/tasks/endorsements.ts';
import { type VerifyOptions, verify } from '../../../src/tasks/verify/index.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { rawCrl } from './certificates.ts';
import { seeded } from './nitro-fixture.ts';
import { ark, ask, keys, snpReport, vek } from './snp-fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-endorsements-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const write = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(join(dir, name), bytes);
  return join(dir, name);
};
const armour = (label: string, der: Buffer) =>
  `-----BEGIN ${label}-----\n${der.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END ${label}-----\n`;
const counts = ({ certificates, crls, tcbInfos, qeIdentities }: Endorsements) =>
  [certificates, crls, tcbInfos, qeIdentities].map(({ length }) => length);
const crl = rawCrl({ issuer: 'ARK' }, keys.ark.privateKey);

describe('a file of endorsements', () => {
  test.each<[string, Buffer | string, number[]]>([
    ['certificate in DER', vek(), [1, 0, 0, 0]],
    ['revocation list in DER', crl, [0, 1, 0, 0]],
    ['revocation list in hex', `${crl.toString('hex')}\n`, [0, 1, 0, 0]],
    ['chain in PEM', armour('CERTIFICATE', ask()) + armour('CERTIFICATE', ark), [2, 0, 0, 0]],
    ['revocation list in PEM', `# a comment\n${armour('X509 CRL', crl)}`, [0, 1, 0, 0]],
    ['both in PEM', armour('CERTIFICATE', ark) + armour('X509 CRL', crl), [1, 1, 0, 0]],
    ['Intel’s response', `{"tcbInfo":{"a":1},"signature":"${'ab'.repeat(64)}"}`, [0, 0, 1, 0]],
  ])('%s', (_, bytes, expected) => {
    const found = parseEndorsements(Buffer.from(bytes), 'file');
    expect(counts(found)).toEqual(expected);
  });

  test.each(['CERTIFICATE', 'X509 CRL'])('PEM of nothing but white space does not hang (%s)', (label) => {
    // Read in the square of its length, this would take hours.
    const bytes = Buffer.from(`-----BEGIN ${label}-----${'\n'.repeat(4 << 20)}!`);
    expect(() => parseEndorsements(bytes, 'file')).toThrow(
      expect.objectContaining({ code: 'ERR_ENDORSEMENTS_MALFORMED' }),
    );
    expect(() => parseRoots(bytes)).toThrow(expect.objectContaining({ code: 'ERR_ROOT_MALFORMED' }));
  });

  test('what is signed stays as it was', () => {
    const body = '{ "a": [1, "}\\"" ] ,"b":1.0 }';
    const { tcbInfos } = parseEndorsements(Buffer.from(`{"tcbInfo":${body},"signature":"${'ab'.repeat(64)}"}`), 'file');
    expect(Buffer.from(tcbInfos[0]?.body ?? []).toString()).toBe(body);
  });

  test.each<[string, Buffer | string]>([
    ['empty', ''],
    ['text', 'hello'],
    ['a key', armour('PRIVATE KEY', Buffer.from('302e', 'hex'))],
    ['JSON of something else', '{"a":1}'],
    ['DER of something else', Buffer.from('3003020101', 'hex')],
    ['a report', snpReport()],
  ])('%s is none', (_, bytes) =>
    expect(() => parseEndorsements(Buffer.from(bytes), 'file')).toThrow(
      expect.objectContaining({ code: 'ERR_ENDORSEMENTS_MALFORMED', message: expect.stringMatching(/^file: /) }),
    ),
  );

  test('damaged at random (fixed seed): our errors, nothing else', () => {
    const random = seeded('endorsements');
    const seeds = [
      vek(),
      crl,
      Buffer.from(armour('CERTIFICATE', ark)),
      Buffer.from(`{"tcbInfo":{"a":{}},"signature":"${'ab'.repeat(64)}"}`),
    ];
    for (const seed of seeds) {
      for (let round = 0; round < 2000; round++) {
        const bytes = Buffer.from(seed.subarray(0, random(8) === 0 ? random(seed.length) : seed.length));
        for (let times = random(4); times > 0 && bytes.length > 0; times--) bytes[random(bytes.length)] = random(256);
        try {
          parseEndorsements(bytes, 'file');
        } catch (error) {
          if (!(error instanceof AtomaError)) throw error;
        }
      }
    }
  });
});

describe('a directory of endorsements', () => {
  test('all of its files but hidden ones', async () => {
    const path = join(dir, 'good');
    mkdirSync(path);
    writeFileSync(join(path, 'vcek.der'), vek());
    writeFileSync(join(path, 'ask.pem'), armour('CERTIFICATE', ask()));
    writeFileSync(join(path, 'ark.crl'), crl);
    writeFileSync(join(path, '.note'), 'hidden');
    expect(counts(await readEndorsements(path))).toEqual([2, 1, 0, 0]);
  });

  test('a file that is none is an error, and so is a directory in it, or nothing', async () => {
    const path = join(dir, 'bad');
    mkdirSync(path);
    writeFileSync(join(path, 'ark.crl'), crl.subarray(1));
    await expect(readEndorsements(path)).rejects.toMatchObject({ code: 'ERR_ENDORSEMENTS_MALFORMED' });
    mkdirSync(join(dir, 'nested', 'inner'), { recursive: true });
    await expect(readEndorsements(join(dir, 'nested'))).rejects.toMatchObject({ code: 'ERR_FILE_KIND' });
    await expect(readEndorsements(join(dir, 'nothing'))).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
  });
});

describe('verify with endorsements', () => {
  const report = write('report.bin', snpReport());
  const root = write('ark.pem', armour('CERTIFICATE', ark));
  const chain = write('chain.pem', armour('CERTIFICATE', ask()) + armour('CERTIFICATE', vek()));
  const run = async (more: Partial<VerifyOptions> = {}) => {
    const options = {
      files: [report],
      endorsements: chain,
      root,
      expect: [`measurement=${'3e'.repeat(48)}`],
      allowSimulated: [],
    };
    return (await verify({ ...options, at: new Date('2026-11-22T10:00:00Z'), ...more })).results[0];
  };
  const failed = async (more: Partial<VerifyOptions>) =>
    (await run(more))?.checks.filter(({ status }) => status === 'fail').map(({ id }) => id);

  test('a report under a root that was given: passes, and says so', async () => {
    const result = await run();
    expect(result).toMatchObject({ verdict: 'pass', kind: 'evidence', simulated: false });
    expect(result?.checks.find(({ id }) => id === 'evidence.root')?.detail).toContain('given by --root');
    expect(result?.notChecked).toContainEqual(expect.stringContaining('revoked'));
  });

  test('the nonce stands in report_data', async () => {
    expect(await failed({ nonce: 'da'.repeat(64) })).toEqual([]);
    expect(await failed({ nonce: 'da'.repeat(32) })).toEqual(['nonce.equal']);
    expect(await failed({ nonce: 'db'.repeat(64) })).toEqual(['nonce.equal']);
    expect(await failed({ nonce: 'da'.repeat(65) })).toEqual(['nonce.equal']);
  });

  test('the TEE by name: evidence does not choose its verifier', async () => {
    expect(await failed({ kind: 'snp' })).toEqual([]);
    expect(await failed({ kind: 'nitro' })).toEqual(['evidence.format']);
  });

  test('another measurement', async () =>
    expect(await failed({ expect: [`measurement=${'00'.repeat(48)}`] })).toEqual(['measurement.measurement']));

  test('without endorsements it is a prerequisite that is missing', async () =>
    expect(run({ endorsements: undefined })).rejects.toMatchObject({ code: 'ERR_ENDORSEMENTS_MISSING', exitCode: 5 }));

  test('a root for simulated evidence, whose roots are named elsewhere', async () => {
    const simulated = await createSimulatedRoot();
    const measured = { tee: 'nitro', pcr0: '01'.repeat(48), pcr1: '02'.repeat(48), pcr2: '03'.repeat(48) } as const;
    const file = write('simulated.cbor', await createSimulatedAttester(simulated, measured).attest({}));
    const options = {
      files: [file],
      endorsements: undefined,
      at: undefined,
      expect: ['none'],
      allowSimulated: [simulated.fingerprint],
    };
    expect(await failed({ ...options, root: undefined })).toEqual([]);
    expect(await failed(options)).toEqual(['evidence.simulated']);
  });

  test('a root that is no certificate', async () =>
    expect(run({ root: report })).rejects.toMatchObject({ code: 'ERR_ROOT_MALFORMED' }));

  test('endorsements for an image are an error', async () => {
    const all: Partial<VerifyOptions>[] = [
      { endorsements: chain },
      { root },
      { acceptTcb: ['OutOfDate'] },
      { acceptProduct: ['milan'] },
      { acceptVmpl: 2 },
    ];
    for (const flags of all) {
      const options: VerifyOptions = { files: ['x.eif'], kind: 'eif', expect: ['none'], allowSimulated: [], ...flags };
      await expect(verify(options)).rejects.toMatchObject({ code: 'ERR_USAGE' });
    }
  });

  test.skipIf(!haveVectors)('Milan: refused by default with the reason, and accepted by name', async () => {
    const options = {
      files: [vectors('snp', 'google-milan-report.bin')],
      endorsements: vectors('snp', 'google-milan-vcek.der'),
      root: undefined,
      expect: ['none'],
    };
    // The sample's guest may be debugged, too.
    expect(await failed(options)).toEqual(['evidence.debug', 'policy.product']);
    expect(await failed({ ...options, acceptProduct: ['milan'] })).toEqual(['evidence.debug']);
    const milan = (await run(options))?.checks.find(({ id }) => id === 'policy.product');
    expect(milan?.detail).toContain('extracted');
  });

  test.skipIf(!haveVectors)('Nitro, against registers', async () => {
    const file = vectors('nitro-docs', '05-marlin-2024.cbor');
    const { pcr0 } = JSON.parse(readFileSync(file.replace('.cbor', '.json'), 'utf8'));
    const options = { files: [file], endorsements: undefined, root: undefined, at: undefined };
    expect(await failed({ ...options, expect: [`pcr0=${pcr0}`] })).toEqual([]);
    expect(await failed({ ...options, expect: [`pcr0=${'ab'.repeat(48)}`] })).toEqual(['measurement.pcr0']);
  });

  test.skipIf(!haveVectors)('an emulator’s document reads as that', async () => {
    const file = vectors('nitro-docs', '09-qemu-nitro-enclave-unsigned.cbor');
    const result = await run({ files: [file], endorsements: undefined, root: undefined, expect: ['none'] });
    expect(result).toMatchObject({ verdict: 'fail' });
    expect(result?.checks.find(({ status }) => status === 'fail')?.detail).toContain('emulator');
  });
});
