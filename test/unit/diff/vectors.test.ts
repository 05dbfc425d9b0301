import { describe, expect, test } from 'vitest';
import { diff } from '../../../src/tasks/diff.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { itemOf, partOf } from './fixtures.ts';

/** Images and manifests that AWS's and Gramine's own tools wrote. */
describe.skipIf(!haveVectors)('what others built', () => {
  test('an unsigned image and a signed one with another command line', async () => {
    const eif = (name: string) => vectors('eif', `${name}.eif`);
    const report = await diff({ a: eif('v2-two-ramdisks'), b: eif('v4-signed-p384') });
    const registers = report.images[0]?.registers.map(({ name, status, because }) => [name, status, because.join()]);
    expect(registers).toEqual([
      ['pcr0', 'different', 'cmdline'],
      ['pcr1', 'different', 'cmdline'],
      ['pcr2', 'equal', ''],
      ['pcr8', 'different', 'signature'],
    ]);
    expect(partOf(report, 'metadata')).toMatchObject({ status: 'different', registers: [] });
    expect((await diff({ a: eif('v4-signed-p384'), b: vectors('eif', 'v4-signed-p384.describe.json') })).verdict).toBe(
      'equal',
    );
  });

  test('two enclaves of one libpal.so: settings, and the areas that they move', async () => {
    const manifest = (name: string) => vectors('gramine', name, 'app.manifest.sgx');
    const libpal = [vectors('gramine/elf/synth-a.so')];
    const report = await diff({ a: manifest('01-minimal-defaults'), b: manifest('05-trusted-directory'), libpal });
    expect(report.images[0]?.registers.find(({ name }) => name === 'mrsigner')?.status).toBe('equal');
    expect(itemOf(report, 'sgx.max_threads', 'manifest').changes).toHaveLength(1);
    expect(partOf(report, 'tls').causes.map(({ id }) => id)).toContain('layout');
  });
});
