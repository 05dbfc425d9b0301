/** pack, sign, unpack, inspect --nitro-cli and verify of images, through the command line. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { haveVectors, vectors } from '../unit/vectors.ts';
import { atomaTee, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
afterAll(remove);
const at = (...path: string[]) => join(dir, ...path);
const cli = (...args: string[]) => atomaTee([...args, '--json']);
const pack = (...more: string[]) =>
  cli('nitro', 'pack', '--kernel', at('kernel'), '--ramdisk', at('init'), '--ramdisk', at('app'), ...more);
const refused = (outcome: ReturnType<typeof cli>, code: string, exit: number) =>
  expect({ code: outcome.json.error?.code, exit: outcome.code }).toEqual({ code, exit });
const pair = (name: string) => ['--sign-cert', at(`${name}.crt`), '--sign-key', at(name)];

beforeAll(() => {
  for (const [i, name] of ['kernel', 'init', 'app'].entries()) writeFileSync(at(name), Buffer.alloc(70_000, name + i));
  for (const key of ['one.key', 'two.key']) ok(cli('keygen', '--type', 'eif', '--out', at(key)));
});

test('pack, sign, sign again, unpack, pack again: one image', () => {
  const plain = ok(pack('--cmdline', 'console=ttyS0', '--out', at('plain.eif'))).json;
  const first = ok(cli('nitro', 'sign', at('plain.eif'), ...pair('one.key'), '--out', at('signed.eif'))).json;
  expect(first).toEqual({
    path: at('signed.eif'),
    sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    measurement: { ...plain.measurement, pcr8: expect.stringMatching(/^[0-9a-f]{96}$/) },
  });
  const second = ok(cli('nitro', 'sign', at('signed.eif'), ...pair('two.key'))).json;
  expect(second.path).toBe(at('signed.eif'));
  expect(second.measurement).toEqual({
    ...first.measurement,
    pcr8: expect.not.stringContaining(first.measurement.pcr8),
  });
  const packed = ok(pack('--cmdline', 'console=ttyS0', ...pair('two.key'), '--out', at('packed.eif'))).json;
  expect(packed.measurement).toEqual(second.measurement);

  const parts = ok(cli('nitro', 'unpack', at('signed.eif'), '--out', at('parts'))).json;
  expect(parts.signature).toEqual({ valid: true });
  expect(readdirSync(at('parts')).sort()).toEqual(parts.files.map((file: { name: string }) => file.name).sort());
  ok(atomaTee([...parts.pack, '--out', at('again.eif')]));
  expect(readFileSync(at('again.eif')).equals(readFileSync(at('plain.eif')))).toBe(true);
  refused(cli('nitro', 'unpack', at('signed.eif'), '--out', at('parts')), 'ERR_OUTPUT_EXISTS', 2);
});

test('verify: a good signature passes, another signer fails where one is expected', () => {
  const { measurement } = ok(pack('--cmdline', '', ...pair('one.key'), '--out', at('v.eif'))).json;
  const expected = ['--expect', `pcr0=${measurement.pcr0}`, '--expect', `pcr8=${measurement.pcr8}`];
  expect(ok(cli('verify', at('v.eif'), ...expected)).json.verdict).toBe('pass');
  ok(cli('nitro', 'sign', at('v.eif'), ...pair('two.key')));
  const other = cli('verify', at('v.eif'), ...expected);
  expect(other.code).toBe(3);
  const failed = other.json.results[0].checks.filter(({ status }: { status: string }) => status === 'fail');
  expect(failed.map(({ id }: { id: string }) => id)).toEqual(['measurement.pcr8']);
});

describe('refusals leave nothing', () => {
  test.each<[string, string[], string, number]>([
    ['another key', ['--sign-cert', 'one.key.crt', '--sign-key', 'two.key'], 'ERR_KEY_MISMATCH', 3],
    ['the key for a certificate', ['--sign-cert', 'one.key', '--sign-key', 'one.key'], 'ERR_CERTIFICATE_PRIVATE', 2],
    [
      'an expired certificate',
      [...['--sign-cert', 'one.key.crt'], ...['--sign-key', 'one.key', '--at', '2099-01-01']],
      'ERR_CERTIFICATE_VALIDITY',
      3,
    ],
    ['half of a pair', ['--sign-cert', 'one.key.crt'], 'ERR_USAGE', 2],
  ])('%s', (_, flags, code, exit) => {
    const args = flags.map((word) => (existsSync(at(word)) ? at(word) : word));
    const before = ok(pack('--cmdline', '', '--out', at('r.eif'))).json.sha256;
    const files = readdirSync(dir).sort();
    refused(cli('nitro', 'sign', at('r.eif'), ...args), code, exit);
    refused(pack('--cmdline', '', ...args, '--out', at('never.eif')), code, exit);
    expect(readdirSync(dir).sort()).toEqual(files);
    expect(spawnSync('sha256sum', [at('r.eif')], { encoding: 'utf8' }).stdout).toContain(before);
  });

  test('no command line, or two', () => {
    refused(pack('--out', at('never.eif')), 'ERR_USAGE', 2);
    refused(pack('--cmdline', '', '--cmdline-file', at('init'), '--out', at('never.eif')), 'ERR_USAGE', 2);
  });

  test('--nitro-cli of something else', () => {
    refused(cli('inspect', at('kernel'), '--nitro-cli'), 'ERR_EIF_MAGIC', 2);
  });
});

describe.skipIf(!haveVectors)('the reference’s signed image (skipped without the reference vectors)', () => {
  const reference = vectors('eif', 'v4-signed-p384.eif');

  test('inspect --nitro-cli: text, and the same with --json', () => {
    const { stdout } = ok(atomaTee(['inspect', reference, '--nitro-cli']));
    const theirs = JSON.parse(readFileSync(vectors('eif', 'v4-signed-p384.describe.json'), 'utf8'));
    const ours = JSON.parse(stdout);
    expect(stdout).toBe(`${JSON.stringify(ours, null, 2)}\n`);
    expect(Object.keys(ours)).toEqual([
      ...['EifVersion', 'Measurements', 'IsSigned', 'SigningCertificate', 'CheckCRC', 'SignatureCheck'],
      ...['ImageName', 'ImageVersion', 'Metadata'],
    ]);
    expect(ours).toMatchObject({
      IsSigned: true,
      SignatureCheck: true,
      Measurements: theirs.Measurements,
      SigningCertificate: theirs.SigningCertificate,
    });
    expect(ok(cli('inspect', reference, '--nitro-cli')).stdout).toBe(stdout);
  });

  test('a flipped bit in its signature: inspect and verify say that it does not hold', () => {
    copyFileSync(reference, at('bent.eif'));
    const bytes = readFileSync(at('bent.eif'));
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(at('bent.eif'), bytes);
    const found = ok(cli('inspect', at('bent.eif'))).json;
    expect(found).toMatchObject({ crc: { ok: false }, signature: { valid: false } });
    const verdict = cli('verify', at('bent.eif'), '--expect', 'none', '--at', '2027-01-01');
    expect(verdict.code).toBe(3);
    const failed = verdict.json.results[0].checks.filter(({ status }: { status: string }) => status === 'fail');
    expect(failed.map(({ id }: { id: string }) => id)).toEqual(['image.crc', 'image.signature']);
  });
});
