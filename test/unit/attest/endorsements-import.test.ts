import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { verifyEvidence } from '../../../src/attest/index.ts';
import { readEndorsements } from '../../../src/tasks/endorsements.ts';
import { importEndorsements } from '../../../src/tasks/endorsements-import.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { rawCrl } from './certificates.ts';
import { ark, ask, keys, snpReport, vek } from './snp-fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-import-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const write = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(join(dir, name), bytes);
  return join(dir, name);
};
const pem = (der: Buffer) => `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`;
const chain = write('cert_chain', pem(ask()) + pem(ark));
const vcek = write('vcek', vek());
const list = write('crl', rawCrl({ issuer: 'ARK', revoked: [Buffer.from([9])] }, keys.ark.privateKey));

describe('endorsements import', () => {
  test('what AMD’s service returns becomes a directory that verifies', async () => {
    const out = join(dir, 'amd');
    const imported = await importEndorsements([chain, vcek, list], out);
    expect(imported.map(({ kind, of, until, added }) => [kind, of, until.slice(0, 10), added])).toEqual([
      ['certificate', 'ASK', '2049-12-31', true],
      ['certificate', 'ARK', '2049-12-31', true],
      ['certificate', 'SEV-VCEK', '2049-12-31', true],
      ['revocation-list', 'CN=ARK', '2027-01-01', true],
    ]);
    expect(imported.map(({ path }) => path).sort()).toEqual(
      readdirSync(out)
        .sort()
        .map((name) => join(out, name)),
    );
    const options = { allowSimulated: [], now: new Date('2026-11-22T10:00:00Z'), roots: [ark] };
    const { checks } = await verifyEvidence(snpReport(), { ...options, endorsements: await readEndorsements(out) });
    expect(checks.filter(({ status }) => status !== 'pass').map(({ id }) => id)).toEqual(['evidence.time']);
  });

  test('again: nothing is added, nothing changes', async () => {
    const out = join(dir, 'twice');
    await importEndorsements([chain, chain], out);
    const before = readdirSync(out);
    expect(before).toHaveLength(2);
    expect((await importEndorsements([chain], out)).map(({ added }) => added)).toEqual([false, false]);
    expect(readdirSync(out)).toEqual(before);
  });

  test.each<[string, Buffer | string, string]>([
    ['something else', 'hello', 'ERR_ENDORSEMENTS_MALFORMED'],
    ['a certificate cut short', vek().subarray(0, 400), 'ERR_CERTIFICATE_MALFORMED'],
    [
      'a revocation list without an end',
      rawCrl({ issuer: 'ARK', times: [Buffer.from('170d3236303130313030303030305a', 'hex')] }, keys.ark.privateKey),
      'ERR_CRL_MALFORMED',
    ],
    ['TCB info that is none', `{"tcbInfo":{"a":1},"signature":"${'ab'.repeat(64)}"}`, 'ERR_COLLATERAL_MALFORMED'],
  ])('%s: refused before anything is written', async (name, bytes, code) => {
    const out = join(dir, `refused-${name.replaceAll(' ', '-')}`);
    const bad = write('bad', bytes);
    await expect(importEndorsements([chain, bad], out)).rejects.toMatchObject({ code, exitCode: 2 });
    expect(() => readdirSync(out)).toThrow('ENOENT');
  });

  test.skipIf(!haveVectors)('one directory for all vendors', async () => {
    const out = join(dir, 'all');
    const files = ['dcap/phala-sgx-collateral.json', 'dcap/google-tdx-v5-collateral.json', 'snp/google-milan-vcek.der'];
    await importEndorsements(
      files.map((file) => vectors(file)),
      out,
    );
    const endorsements = await readEndorsements(out);
    const failed = async (file: string, at: string) => {
      const options = { allowSimulated: [], now: new Date(at), endorsements };
      const { checks } = await verifyEvidence(readFileSync(vectors(file)), options);
      return checks.filter(({ status }) => status === 'fail').map(({ id }) => id);
    };
    expect(await failed('dcap/phala-sgx-quote.bin', '2025-07-04T10:28:44Z')).toEqual([]);
    expect(await failed('dcap/google-tdx-v5.bin', '2026-02-25T00:00:00Z')).toEqual([]);
    expect(await failed('snp/google-milan-report.bin', '2026-02-25T00:00:00Z')).toEqual(['evidence.debug']);
  });
});
