/** What `verify X.eif` says of structure, CRC, signature, certificate and measurement: each by itself. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { bytesPart, type EifSigner, measureEif, writeEif } from '../../../src/nitro/index.ts';
import { verify } from '../../../src/tasks/verify/index.ts';
import { signer } from './certificates.ts';
import { withDirectory } from './small.ts';

let sign: EifSigner;
beforeAll(async () => {
  sign = await signer({ notBefore: '2020-01-01', notAfter: '2099-01-01' });
});

type Change = (bytes: Buffer, sections: Record<string, number>) => Buffer | undefined;
const repair: Change = (bytes) =>
  void bytes.writeUInt32BE(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))), 544);

/** The failed checks, by id, of an image to which something was done; and what was not checked. */
const judge = (
  change: Change = () => undefined,
  options: { expect?: string[]; at?: Date; sign?: EifSigner | null } = {},
) =>
  withDirectory(async (dir) => {
    const out = join(dir, 'x.eif');
    const part = bytesPart(Buffer.from('x'));
    const by = options.sign === null ? undefined : (options.sign ?? sign);
    const { measurement } = await writeEif({
      kernel: part,
      cmdline: 'c',
      ramdisks: [part, part],
      arch: 'x86_64',
      sign: by,
      out,
    });
    const { sections } = await measureEif(out);
    const bytes = readFileSync(out);
    writeFileSync(out, change(bytes, Object.fromEntries(sections.map(({ type, offset }) => [type, offset]))) ?? bytes);
    const report = await verify({
      files: [out],
      expect: options.expect ?? [`pcr0=${measurement.pcr0}`],
      allowSimulated: [],
      at: options.at,
    });
    const [{ checks = [], notChecked = [] } = {}] = report.results;
    return {
      verdict: report.verdict,
      passed: checks.filter(({ status }) => status === 'pass').map(({ id }) => id),
      failed: checks.filter(({ status }) => status === 'fail').map(({ id, detail }) => [id, detail]),
      notChecked: notChecked.join('\n'),
    };
  });

describe('a signed image', () => {
  test('passes: each thing is checked by itself, and who signed is told to be open', async () => {
    const found = await judge();
    expect(found).toMatchObject({ verdict: 'pass', failed: [] });
    expect(found.passed).toEqual([
      'image.structure',
      'image.crc',
      'image.signature',
      'image.certificate',
      'measurement.pcr0',
    ]);
    expect(found.notChecked).toContain('who signed the image');
  });

  test('with --expect pcr8, who signed is checked', async () => {
    const { measurement } = await withDirectory((dir) => {
      const part = bytesPart(Buffer.from('x'));
      return writeEif({ kernel: part, cmdline: 'c', ramdisks: [part, part], arch: 'x86_64', out: join(dir, 'x') });
    });
    const registers = [`pcr0=${measurement.pcr0}`, `pcr8=${sign.pcr8}`];
    const found = await judge(undefined, { expect: registers });
    expect(found.passed).toContain('measurement.pcr8');
    expect(found.notChecked).not.toContain('who signed');
    const other = await judge(undefined, { expect: registers, sign: await signer() });
    expect(other.failed.map(([id]) => id)).toEqual(['measurement.pcr8']);
  });

  test('a signature that was stripped: PCR8 is expected and absent', async () => {
    const found = await judge(undefined, { expect: [`pcr8=${sign.pcr8}`], sign: null });
    expect(found.verdict).toBe('fail');
    expect(found.failed.map(([id]) => id)).toEqual(['measurement.pcr8']);
  });

  test('a byte of the kernel changed and the CRC repaired: signature and measurement fail, the CRC does not', async () => {
    const found = await judge((bytes, at) => {
      bytes[at.kernel ?? 0] = 0;
      return repair(bytes, at);
    });
    expect(found.failed.map(([id]) => id)).toEqual(['image.signature', 'measurement.pcr0']);
    expect(found.failed[0]?.[1]).toMatch(/signed PCR0 is .* \(ERR_EIF_UNVERIFIED\)/);
  });

  test('damage without repair: the CRC fails too', async () => {
    const found = await judge((bytes, at) => {
      bytes[at.kernel ?? 0] = 0;
      return undefined;
    });
    expect(found.failed.map(([id]) => id)).toEqual(['image.crc', 'image.signature', 'measurement.pcr0']);
  });

  test('a flipped bit in the ECDSA signature, CRC repaired: the signature alone fails', async () => {
    const found = await judge((bytes, at) => {
      // 0x18 xx is a number of one byte.
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      return repair(bytes, at);
    });
    expect(found.failed.map(([id]) => id)).toEqual(['image.signature']);
    expect(found.passed).toContain('measurement.pcr0');
  });

  test('a signature section that cannot be read: that is what fails, and the rest is still judged', async () => {
    const found = await judge((bytes, at) => {
      bytes.fill(0xff, at.signature);
      return repair(bytes, at);
    });
    expect(found.failed).toEqual([['image.signature', expect.stringContaining('ERR_EIF_SIGNATURE')]]);
    expect(found.passed).toEqual(['image.structure', 'image.crc', 'measurement.pcr0']);
  });

  test('an expired certificate is told by itself; --at judges as of another time', async () => {
    const old = await signer({ notBefore: '2020-01-01', notAfter: '2098-01-01' });
    const now = await judge(undefined, { sign: old, at: new Date('2098-06-01') });
    expect(now.failed).toEqual([['image.certificate', expect.stringContaining('expired on 2098-01-01')]]);
    expect(now.passed).toContain('image.signature');
    const then = await judge(undefined, { sign: old, at: new Date('2021-01-01') });
    expect(then.verdict).toBe('pass');
    const before = await judge(undefined, { sign: old, at: new Date('2019-01-01') });
    expect(before.failed[0]?.[1]).toContain('not valid before');
  });

  test.each<[string, string, Change]>([
    ['trailing bytes', 'TRAILING', (bytes) => Buffer.concat([bytes, Buffer.alloc(1)])],
    [
      'the stale size that the reference leaves when it signs again',
      'SECTIONS',
      (bytes) => void bytes.writeUInt16BE(9, 284 + 8 * 4 + 6),
    ],
    ['overlapping sections', 'SECTIONS', (bytes) => void bytes.writeBigUInt64BE(548n, 28 + 8)],
    ['another magic with --kind eif', 'VERSION', (bytes) => void bytes.writeUInt16BE(9, 4)],
  ])('%s: the structure fails, with its code', async (_, expected, change) => {
    const found = await judge(change);
    expect(found.verdict).toBe('fail');
    expect(found.failed).toEqual([['image.structure', expect.stringContaining(`(ERR_EIF_${expected})`)]]);
  });
});

test('an unsigned image says so, and passes', async () => {
  const found = await judge(undefined, { sign: null });
  expect(found).toMatchObject({ verdict: 'pass', failed: [] });
  expect(found.passed).toContain('image.unsigned');
});
