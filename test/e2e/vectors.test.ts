/** Other implementations' bytes, through the command line. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { haveVectors, vectors } from '../unit/vectors.ts';
import { atomaTee, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
afterAll(remove);
const at = (name: string) => join(dir, name);

describe.skipIf(!haveVectors)('AIR v1 receipts (skipped without the reference vectors)', () => {
  const names = haveVectors ? readdirSync(vectors('air')).filter((name) => name.endsWith('.json')) : [];

  test.each(names)('%s: the verdict that is recorded in it', (name) => {
    const vector = JSON.parse(readFileSync(vectors('air', name), 'utf8'));
    writeFileSync(at('receipt.cbor'), Buffer.from(vector.receipt_hex, 'hex'));
    const age = vector.verify_policy?.max_age_secs;
    const key = vector.wrong_public_key_hex ?? vector.public_key_hex;
    const outcome = atomaTee([
      'verify',
      at('receipt.cbor'),
      '--kind',
      'receipt',
      '--public-key',
      key,
      '--json',
      ...(age === undefined ? [] : ['--max-age', String(age)]),
    ]);
    expect(outcome.code).toBe(vector.expected_failure === undefined ? 0 : 3);
    const failed = outcome.json.results[0].checks.filter((check: { status: string }) => check.status === 'fail');
    if (vector.expected_failure === undefined) expect(failed).toEqual([]);
    else
      expect(failed).toEqual([
        expect.objectContaining({ detail: expect.stringContaining(vector.expected_failure.code) }),
      ]);
  });
});

describe.skipIf(!haveVectors)('EIFs of eif_build (skipped without the reference vectors)', () => {
  const input = (name: string) => vectors('eif/inputs', `${name}.bin`);

  test.each([
    ['v1-one-ramdisk', 'kernel-a', ['ramdisk-1']],
    ['v2-two-ramdisks', 'kernel-b', ['ramdisk-1', 'ramdisk-2']],
    ['v3-three-ramdisks-empty-cmdline', 'kernel-a', ['ramdisk-1', 'ramdisk-2', 'ramdisk-3']],
  ])('nitro pack writes the bytes of %s', (name, kernel, ramdisks) => {
    const reference = vectors('eif', `${name}.eif`);
    const bytes = readFileSync(reference);
    const { cmdline, sections, measurement } = ok(atomaTee(['inspect', reference, '--json'])).json;
    const { offset, size } = sections.find((section: { type: string }) => section.type === 'metadata');
    writeFileSync(at('metadata'), bytes.subarray(offset, offset + size));
    const packed = ok(
      atomaTee([
        'nitro',
        'pack',
        '--kernel',
        input(kernel),
        '--cmdline',
        cmdline,
        ...ramdisks.flatMap((ramdisk) => ['--ramdisk', input(ramdisk)]),
        '--metadata',
        at('metadata'),
        '--out',
        at('x.eif'),
        '--json',
      ]),
    ).json;
    expect(readFileSync(at('x.eif')).equals(bytes)).toBe(true);
    expect(packed.measurement).toEqual(measurement);
    const theirs = JSON.parse(readFileSync(vectors('eif', `${name}.qemu.json`), 'utf8'));
    expect({ PCR0: measurement.pcr0, PCR1: measurement.pcr1, PCR2: measurement.pcr2 }).toEqual(theirs);
  });
});
