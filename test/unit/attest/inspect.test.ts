import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { inspect } from '../../../src/tasks/inspect.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { nitroDocument } from './nitro-fixture.ts';
import { snpReport } from './snp-fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-inspect-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const shown = (bytes: Uint8Array) => {
  const path = join(dir, 'evidence');
  writeFileSync(path, bytes);
  return inspect(path, {});
};

describe('inspect describes evidence, and verifies none', () => {
  test('an SNP report, whoever signed it', async () =>
    expect(await shown(snpReport())).toMatchObject({
      kind: 'evidence',
      verified: false,
      tee: 'snp',
      measurement: { tee: 'snp', measurement: '3e'.repeat(48), hostdata: '40'.repeat(32) },
      debug: false,
      reportData: 'da'.repeat(64),
      vmpl: '0',
      reportedTcb: 'bootloader 4, tee 0, snp 23, microcode 211',
    }));

  test('version 2 does not say which processor: the TCB as bytes', async () =>
    expect(await shown(snpReport({ version: 2 }))).toMatchObject({ reportedTcb: '04000000000017d3' }));

  test('a Nitro document, tagged or not', async () => {
    for (const tagged of [true, false])
      expect(await shown(nitroDocument({ tagged }))).toMatchObject({
        tee: 'nitro',
        verified: false,
        pcrs: { pcr0: '01'.repeat(48) },
        certificates: [{ subject: 'CN=root' }, { subject: 'CN=zonal' }, { subject: 'CN=leaf' }],
      });
  });

  test.skipIf(!haveVectors)('an emulator’s document as that', async () =>
    expect(await inspect(vectors('nitro-docs', '09-qemu-nitro-enclave-unsigned.cbor'), {})).toMatchObject({
      tee: 'nitro',
      signature: 'none: an emulator made this',
      moduleId: 'i-abc-enc1',
      certificates: [{ unreadable: expect.any(String) }, { unreadable: expect.any(String) }],
    }),
  );

  test.skipIf(!haveVectors).each([
    ['sgx', 'phala-sgx-quote.bin', { mrenclave: expect.stringMatching(/^33d8736d/) }],
    ['tdx', 'google-tdx-v5.bin', { mrtd: expect.stringMatching(/^7348651a/) }],
  ])('a quote: %s', async (tee, file, measurement) =>
    expect(await inspect(vectors('dcap', file), {})).toMatchObject({ tee, verified: false, debug: false, measurement }),
  );
});
