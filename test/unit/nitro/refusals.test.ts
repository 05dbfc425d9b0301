import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { bytesSource, inspectEif, measureEif, parseEif, requireCrc } from '../../../src/nitro/index.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { smallEif } from './small.ts';

const HEADER = 548;
const VERSION = 4;
const FLAGS = 6;
const COUNT = 26;
const OFFSETS = 28;
const SIZES = 284;

let small: Buffer;
beforeAll(async () => {
  small = await smallEif();
});

const code = (value: string | RegExp, exitCode = 2) =>
  expect.objectContaining({ code: expect.stringMatching(value), exitCode });
/** A copy of the small image with something done to it; parsed. */
const parse = (change: (bytes: Buffer) => Buffer | undefined) => {
  const copy = Buffer.from(small);
  return parseEif(bytesSource(change(copy) ?? copy));
};
const sectionAt = (bytes: Buffer, i: number) => Number(bytes.readBigUInt64BE(OFFSETS + 8 * i));

/** An image of sections put together without any rule: what the writer would refuse to make. */
function assemble(sections: { type: number; data?: string }[], version = 4): Buffer {
  const header = Buffer.alloc(HEADER);
  header.write('.eif', 0, 'latin1');
  header.writeUInt16BE(version, VERSION);
  header.writeUInt16BE(sections.length, COUNT);
  const parts: Buffer[] = [header];
  let at = HEADER;
  for (const [i, { type, data = 'x' }] of sections.entries()) {
    const own = Buffer.alloc(12);
    own.writeUInt16BE(type, 0);
    own.writeBigUInt64BE(BigInt(data.length), 4);
    if (i < 32) {
      header.writeBigUInt64BE(BigInt(at), OFFSETS + 8 * i);
      header.writeBigUInt64BE(BigInt(data.length), SIZES + 8 * i);
    }
    parts.push(own, Buffer.from(data, 'latin1'));
    at += 12 + data.length;
  }
  return Buffer.concat(parts);
}
const KERNEL = { type: 1 };
const CMDLINE = { type: 2 };
const RAMDISK = { type: 3 };
const METADATA = { type: 5, data: '{}' };

describe('damaged images', () => {
  test('truncation at every length is refused', async () => {
    for (let length = 0; length < small.length; length++) {
      const attempt = parseEif(bytesSource(small.subarray(0, length)));
      await expect(attempt, `${length} bytes`).rejects.toThrow(
        code(length < 4 ? 'ERR_EIF_MAGIC' : 'ERR_EIF_TRUNCATED'),
      );
    }
  });

  test('every single flipped bit is detected', async () => {
    for (let bit = 0; bit < small.length * 8; bit++) {
      const flipped = Buffer.from(small);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const attempt = measureEif(bytesSource(flipped)).then(requireCrc);
      await expect(attempt, `bit ${bit}`).rejects.toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^ERR_(EIF|CBOR)_/) }),
      );
    }
  });

  test('a flipped bit in a ramdisk is a wrong CRC (exit 3) and another measurement', async () => {
    const flipped = Buffer.from(small);
    flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
    const before = await measureEif(bytesSource(small));
    const after = await measureEif(bytesSource(flipped));
    expect(after.crc.ok).toBe(false);
    expect(() => requireCrc(after)).toThrow(code('ERR_EIF_CRC', 3));
    expect(after.measurement.pcr1).toBe(before.measurement.pcr1);
    expect(after.measurement.pcr0).not.toBe(before.measurement.pcr0);
    expect(after.measurement.pcr2).not.toBe(before.measurement.pcr2);
  });
});

describe('malformed images', () => {
  test.each<[string, string, (bytes: Buffer) => Buffer | undefined]>([
    ['another magic', 'MAGIC', (b) => void b.write('.elf', 0, 'latin1')],
    ['an empty file', 'MAGIC', () => Buffer.alloc(0)],
    ['version 1', 'VERSION', (b) => void b.writeUInt16BE(1, VERSION)],
    ['version 5', 'VERSION', (b) => void b.writeUInt16BE(5, VERSION)],
    ['unknown flags', 'FLAGS', (b) => void b.writeUInt16BE(2, FLAGS)],
    ['reserved bytes that are set', 'FLAGS', (b) => void b.writeUInt16BE(1, 24)],
    ['trailing bytes', 'TRAILING', (b) => Buffer.concat([b, Buffer.alloc(1)])],
    ['33 sections', 'SECTIONS', (b) => void b.writeUInt16BE(33, COUNT)],
    ['65535 sections', 'SECTIONS', (b) => void b.writeUInt16BE(0xffff, COUNT)],
    ['no sections', 'SECTIONS', (b) => void b.writeUInt16BE(0, COUNT)],
    ['fewer sections than the table', 'SECTIONS', (b) => void b.writeUInt16BE(4, COUNT)],
    ['more sections than the table', 'SECTIONS', (b) => void b.writeUInt16BE(6, COUNT)],
    ['a section size of 2^64-1', 'TRUNCATED', (b) => void b.writeBigUInt64BE(2n ** 64n - 1n, SIZES)],
    ['a section that ends behind the file', 'TRUNCATED', (b) => void b.writeBigUInt64BE(BigInt(b.length), SIZES + 32)],
    ['overlapping sections', 'SECTIONS', (b) => void b.writeBigUInt64BE(BigInt(sectionAt(b, 0)), OFFSETS + 8)],
    ['a section inside the header', 'SECTIONS', (b) => void b.writeBigUInt64BE(0n, OFFSETS)],
    ['a section at 2^63', 'SECTIONS', (b) => void b.writeBigUInt64BE(2n ** 63n, OFFSETS + 8)],
    ['a gap between sections', 'SECTIONS', (b) => void b.writeBigUInt64BE(BigInt(sectionAt(b, 4) + 1), OFFSETS + 32)],
    [
      'a section header that disagrees with the table',
      'SECTIONS',
      (b) => void b.writeBigUInt64BE(1n, sectionAt(b, 3) + 4),
    ],
    ['a section of an unknown type', 'SECTIONS', (b) => void b.writeUInt16BE(6, sectionAt(b, 4))],
    ['a section of type 0', 'SECTIONS', (b) => void b.writeUInt16BE(0, sectionAt(b, 4))],
    ['section flags', 'SECTIONS', (b) => void b.writeUInt16BE(1, sectionAt(b, 4) + 2)],
  ])('%s: refused', async (_, expected, change) => {
    await expect(parse(change)).rejects.toThrow(code(`^ERR_EIF_${expected}$`));
  });

  test.each([
    ['no kernel', [CMDLINE, RAMDISK]],
    ['two kernels', [KERNEL, KERNEL, CMDLINE, RAMDISK]],
    ['an empty kernel', [{ type: 1, data: '' }, CMDLINE, RAMDISK]],
    ['no cmdline', [KERNEL, RAMDISK]],
    ['two cmdlines', [KERNEL, CMDLINE, CMDLINE, RAMDISK]],
    ['a cmdline of 64 KiB and one byte', [KERNEL, { type: 2, data: 'x'.repeat(65537) }, RAMDISK]],
    ['no ramdisk', [KERNEL, CMDLINE]],
    ['an empty ramdisk', [KERNEL, CMDLINE, { type: 3, data: '' }]],
    ['two metadata sections', [KERNEL, CMDLINE, METADATA, METADATA, RAMDISK]],
    ['two signatures', [KERNEL, CMDLINE, RAMDISK, { type: 4 }, { type: 4 }]],
    ['a ramdisk before the cmdline', [KERNEL, RAMDISK, CMDLINE]],
    ['the cmdline before the kernel', [CMDLINE, KERNEL, RAMDISK]],
  ])('%s: refused', async (_, sections) => {
    await expect(parseEif(bytesSource(assemble(sections)))).rejects.toThrow(code('^ERR_EIF_SECTIONS$'));
  });

  test.each([
    ['version 2 with a signature', 2, { type: 4 }],
    ['version 3 with metadata', 3, METADATA],
  ])('%s, which that version does not have: refused', async (_, version, section) => {
    const bytes = assemble([KERNEL, CMDLINE, section, RAMDISK], version);
    await expect(parseEif(bytesSource(bytes))).rejects.toThrow(code('^ERR_EIF_SECTIONS$'));
  });

  test.each([2, 3, 4])('version %d without either is read', async (version) => {
    const layout = await parseEif(bytesSource(assemble([KERNEL, CMDLINE, RAMDISK], version)));
    expect(layout.version).toBe(version);
  });

  test('a command line with NUL, which two readers would take differently: refused', async () => {
    const bytes = assemble([KERNEL, { type: 2, data: 'a\0b' }, RAMDISK]);
    await expect(measureEif(bytesSource(bytes))).rejects.toThrow(code('^ERR_EIF_CMDLINE$'));
  });

  test.each([
    ['not CBOR', '\xff'],
    ['an empty array', '\x80'],
    ['an array of something else', '\x81\x01'],
  ])('a signature section that is %s: refused', async (_, data) => {
    const bytes = assemble([KERNEL, CMDLINE, RAMDISK, { type: 4, data }]);
    await expect(measureEif(bytesSource(bytes))).rejects.toThrow(code('^ERR_(EIF_SIGNATURE|CBOR_MALFORMED)$'));
  });

  test('metadata that is not a JSON object: refused by inspect, of no interest to measuring', async () => {
    const bytes = assemble([KERNEL, CMDLINE, { type: 5, data: '[1]' }, RAMDISK]);
    await expect(inspectEif(bytesSource(bytes))).rejects.toThrow(code('^ERR_EIF_METADATA$'));
    await expect(measureEif(bytesSource(bytes))).resolves.toMatchObject({ cmdline: 'x' });
  });

  test('missing and special files', async () => {
    await expect(measureEif('/nonexistent.eif')).rejects.toThrow(code('ERR_FILE_NOT_FOUND'));
    await expect(measureEif('/tmp')).rejects.toThrow(code('ERR_FILE_KIND'));
  });
});

describe.skipIf(!haveVectors)('signed images (reference vectors needed)', () => {
  test('a flipped bit in what is measured: the signature is said to be over another PCR0', async () => {
    const bytes = readFileSync(vectors('eif', 'v4-signed-p384.eif'));
    bytes[600] = (bytes[600] ?? 0) ^ 1;
    const { signature } = await inspectEif(bytesSource(bytes));
    expect(signature).toMatchObject({ valid: false, reason: expect.stringMatching(/^the signed PCR0 is c715e22a/) });
  });

  test('a flipped bit in the signature itself', async () => {
    const bytes = readFileSync(vectors('eif', 'v4-signed-p384.eif'));
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    const { signature } = await inspectEif(bytesSource(bytes));
    expect(signature).toMatchObject({ valid: false });
  });
});
