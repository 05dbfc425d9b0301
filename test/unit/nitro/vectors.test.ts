import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/core/bytes.ts';
import { encodeMetadata, inspectEif, measureEif, packEif } from '../../../src/nitro/index.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { withDirectory } from './small.ts';

const eif = (name: string) => vectors('eif', `${name}.eif`);
const input = (name: string) => vectors('eif', 'inputs', name);
const described = (name: string) => JSON.parse(readFileSync(vectors('eif', `${name}.describe.json`), 'utf8'));

const AWS_CMDLINE =
  'reboot=k panic=30 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on';
const unsigned = [
  {
    name: 'v1-one-ramdisk',
    kernel: 'kernel-a.bin',
    ramdisks: ['ramdisk-1.bin'],
    cmdline: 'reboot=k panic=30 pci=off nomodules console=ttyS0',
    imageName: 'kernel-a.bin',
    imageVersion: '1.0',
  },
  {
    name: 'v2-two-ramdisks',
    kernel: 'kernel-b.bin',
    ramdisks: ['ramdisk-1.bin', 'ramdisk-2.bin'],
    cmdline: AWS_CMDLINE,
    imageName: 'hello',
    imageVersion: 'hello',
    customMetadata: { team: 'test', n: 1 },
  },
  {
    name: 'v3-three-ramdisks-empty-cmdline',
    kernel: 'kernel-a.bin',
    ramdisks: ['ramdisk-1.bin', 'ramdisk-2.bin', 'ramdisk-3.bin'],
    cmdline: '',
    imageName: 'kernel-a.bin',
    imageVersion: '1.0',
  },
];

describe.skipIf(!haveVectors)('images of the reference implementation (reference vectors needed)', () => {
  test.each(unsigned)('$name is reproduced byte for byte from its inputs', (vector) =>
    withDirectory(async (dir) => {
      const { name, imageName, imageVersion, customMetadata } = vector;
      const metadata = join(dir, 'metadata');
      writeFileSync(
        metadata,
        encodeMetadata({
          imageName,
          imageVersion,
          buildTime: Date.UTC(2024, 0, 1) / 1000,
          buildTool: 'test-tool',
          buildToolVersion: '1.2.3',
          operatingSystem: 'Linux',
          kernelVersion: '6.12.0',
          customMetadata,
        }),
      );
      const packed = await packEif({
        kernel: input(vector.kernel),
        ramdisks: vector.ramdisks.map(input),
        cmdline: vector.cmdline,
        arch: 'x86_64',
        metadata,
        out: join(dir, 'out.eif'),
      });
      const bytes = readFileSync(packed.path);
      expect(bytes.equals(readFileSync(eif(name)))).toBe(true);
      expect(packed.sha256).toBe(sha256(bytes).toString('hex'));
      expect(packed.size).toBe(bytes.length);
      expect(packed.parts.map((part) => part.name)).toEqual([
        'kernel',
        'cmdline',
        ...vector.ramdisks.map((_, i) => `ramdisk${i}`),
      ]);
    }),
  );

  test.each([...unsigned.map(({ name }) => name), 'v4-signed-p384'])(
    '%s is read as the reference reads it',
    async (name) => {
      const found = await inspectEif(eif(name));
      const { Measurements, Metadata, EifVersion, Crc32, NumSections } = described(name);
      const { PCR0: pcr0, PCR1: pcr1, PCR2: pcr2, PCR8: pcr8 } = Measurements;
      expect(found.measurement).toEqual({ tee: 'nitro', pcr0, pcr1, pcr2, ...(pcr8 ? { pcr8 } : {}) });
      expect(found.crc).toEqual({ stored: Crc32, computed: Crc32, ok: true });
      expect(found.sections.length).toBe(NumSections);
      expect(found).toMatchObject({ kind: 'eif', version: EifVersion, arch: 'x86_64', metadata: Metadata });
    },
  );

  test("QEMU's reader computes the same registers for the signed image", async () => {
    const { measurement } = await measureEif(eif('v4-signed-p384'));
    const qemu = JSON.parse(readFileSync(vectors('eif', 'v4-signed-p384.qemu.json'), 'utf8'));
    const { pcr0, pcr1, pcr2, pcr8 } = measurement;
    expect({ PCR0: pcr0, PCR1: pcr1, PCR2: pcr2, PCR8: pcr8 }).toEqual(qemu);
  });

  test('the signature of v4 is checked against its certificate and PCR0', async () => {
    const { signature } = await inspectEif(eif('v4-signed-p384'));
    expect(signature).toMatchObject({ valid: true, subject: 'CN=atoma test signer, O=Test Org, C=US' });
    expect((await inspectEif(eif('v2-two-ramdisks'))).signature).toBeNull();
  });
});
