import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { sha384 } from '../../../src/core/bytes.ts';
import { bytesPart, packEif, signEif, type UnpackedEif, unpackEif, writeEif } from '../../../src/nitro/index.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { signer } from './certificates.ts';
import { smallEif, withDirectory } from './small.ts';

const code = (value: string, exitCode: number) => expect.objectContaining({ code: value, exitCode });

/** Puts an unpacked image together again, by the files that it was told about. */
const repack = ({ path, files, arch }: UnpackedEif, out: string) => {
  const of = (type: string) => files.filter((file) => file.type === type).map(({ name }) => join(path, name));
  return packEif({
    kernel: of('kernel')[0] ?? '',
    cmdline: { file: of('cmdline')[0] ?? '' },
    ramdisks: of('ramdisk'),
    metadata: of('metadata')[0],
    arch,
    out,
  });
};

describe.skipIf(!haveVectors)('images of the reference (reference vectors needed)', () => {
  const names = ['v1-one-ramdisk', 'v2-two-ramdisks', 'v3-three-ramdisks-empty-cmdline'];

  test.each(names)('%s: taken apart and packed again, the same bytes', (name) =>
    withDirectory(async (dir) => {
      const image = vectors('eif', `${name}.eif`);
      const unpacked = await unpackEif({ image, out: join(dir, 'parts') });
      expect(unpacked).toMatchObject({ exact: true, version: 4, arch: 'x86_64', signature: null });
      await repack(unpacked, join(dir, 'x.eif'));
      expect(readFileSync(join(dir, 'x.eif')).equals(readFileSync(image))).toBe(true);
    }),
  );

  test('a signed one gives the unsigned image: what eif_build made before it signed', () =>
    withDirectory(async (dir) => {
      const image = join(dir, 'signed.eif');
      const plain = vectors('eif', 'v2-two-ramdisks.eif');
      await signEif({ image: plain, sign: await signer(), out: image });
      const unpacked = await unpackEif({ image, out: join(dir, 'parts') });
      expect(unpacked.signature).toEqual({ valid: true });
      await repack(unpacked, join(dir, 'x.eif'));
      expect(readFileSync(join(dir, 'x.eif')).equals(readFileSync(plain))).toBe(true);
    }));

  test('parts of v4 are the inputs that it was built from', () =>
    withDirectory(async (dir) => {
      const path = join(dir, 'parts');
      const { files, measurement } = await unpackEif({ image: vectors('eif', 'v4-signed-p384.eif'), out: path });
      expect(measurement.pcr8).toMatch(/^b9fe2849/);
      for (const [part, input] of [
        ['kernel', 'kernel-b.bin'],
        ['ramdisk0', 'ramdisk-1.bin'],
        ['ramdisk1', 'ramdisk-2.bin'],
        ['certificate.pem', 'sign-cert.pem'],
      ] as const) {
        expect(readFileSync(join(path, part))).toEqual(readFileSync(vectors('eif', 'inputs', input)));
      }
      expect(readFileSync(join(path, 'cmdline'), 'utf8')).toBe('reboot=k panic=30');
      expect(readdirSync(path).sort()).toEqual(files.map(({ name }) => name).sort());
      for (const { name, size, sha384: digest } of files) {
        const bytes = readFileSync(join(path, name));
        expect(bytes.length).toBe(size);
        if (digest !== undefined) expect(digest).toBe(sha384(bytes).toString('hex'));
        expect(statSync(join(path, name)).mode & 0o777).toBe(0o644);
      }
    }));
});

describe('unpackEif', () => {
  const write = async (dir: string) => {
    const image = join(dir, 'x.eif');
    writeFileSync(image, await smallEif());
    return image;
  };

  test('a large image, whose bytes pass through memory that threads share', () =>
    withDirectory(async (dir) => {
      const image = join(dir, 'x.eif');
      const ramdisk = Buffer.alloc(12 << 20, 'ramdisk');
      await writeEif({
        kernel: bytesPart(Buffer.from('kernel')),
        cmdline: Buffer.from([0xc3, 0x28, 0x0a]),
        ramdisks: [bytesPart(ramdisk)],
        arch: 'aarch64',
        out: image,
      });
      const unpacked = await unpackEif({ image, out: join(dir, 'parts') });
      expect(unpacked.arch).toBe('aarch64');
      expect(readFileSync(join(dir, 'parts/ramdisk0')).equals(ramdisk)).toBe(true);
      // A command line that is no text, and ends in a newline, survives.
      await repack(unpacked, join(dir, 'y.eif'));
      expect(readFileSync(join(dir, 'y.eif')).equals(readFileSync(image))).toBe(true);
    }));

  test('an empty directory is filled; one with something in it is refused and left alone', () =>
    withDirectory(async (dir) => {
      const image = await write(dir);
      const out = join(dir, 'parts');
      mkdirSync(out);
      await unpackEif({ image, out });
      const files = readdirSync(out);
      expect(files).toContain('ramdisk1');
      await expect(unpackEif({ image, out })).rejects.toThrow(code('ERR_OUTPUT_EXISTS', 2));
      expect(readdirSync(out)).toEqual(files);
      expect(readdirSync(dir).sort()).toEqual(['parts', 'x.eif']);
    }));

  test('a file in the place of the directory is refused, and so is a link to one', () =>
    withDirectory(async (dir) => {
      const image = await write(dir);
      symlinkSync(image, join(dir, 'link'));
      await expect(unpackEif({ image, out: image })).rejects.toThrow(code('ERR_OUTPUT_KIND', 2));
      await expect(unpackEif({ image, out: join(dir, 'link') })).rejects.toThrow(code('ERR_OUTPUT_KIND', 2));
    }));

  test('an empty directory stays the one that it is, for whoever stands in it, and what a killed run left goes', () =>
    withDirectory(async (dir) => {
      const image = await write(dir);
      const out = join(dir, 'out');
      mkdirSync(join(out, '.outputs.4194303-0123456789ab.partial'), { recursive: true });
      chmodSync(out, 0o700);
      const before = statSync(out);
      const { files } = await unpackEif({ image, out });
      expect(readdirSync(out).sort()).toEqual(files.map(({ name }) => name).sort());
      expect([statSync(out).ino, statSync(out).mode]).toEqual([before.ino, before.mode]);
    }));

  test('a link to an empty directory: that directory is filled', () =>
    withDirectory(async (dir) => {
      const image = await write(dir);
      mkdirSync(join(dir, 'there'));
      symlinkSync('there', join(dir, 'link'));
      await unpackEif({ image, out: join(dir, 'link') });
      expect(readdirSync(join(dir, 'there'))).toContain('kernel');
    }));

  test.each<[string, string, number, (bytes: Buffer) => Buffer]>([
    ['damaged', 'ERR_EIF_CRC', 3, (b) => Buffer.concat([b.subarray(0, -1), Buffer.from('?')])],
    ['truncated', 'ERR_EIF_TRUNCATED', 2, (b) => b.subarray(0, -1)],
    ['longer than it says', 'ERR_EIF_TRAILING', 2, (b) => Buffer.concat([b, Buffer.from('?')])],
  ])('an image that is %s leaves nothing', (_, expected, exit, change) =>
    withDirectory(async (dir) => {
      const image = await write(dir);
      writeFileSync(image, change(readFileSync(image)));
      await expect(unpackEif({ image, out: join(dir, 'parts') })).rejects.toThrow(code(expected, exit));
      expect(readdirSync(dir)).toEqual(['x.eif']);
    }),
  );

  test.each<[string, (bytes: Buffer) => void]>([
    ['an older format', (b) => b.writeUInt16BE(2, 4)],
    ['hints of another builder', (b) => b.writeBigUInt64BE(5n, 16)],
  ])('%s: said not to come back as the same bytes', (_, change) =>
    withDirectory(async (dir) => {
      const image = join(dir, 'x.eif');
      const parts = { kernel: bytesPart(Buffer.from('k')), ramdisks: [bytesPart(Buffer.from('r'))] };
      const { measurement } = await writeEif({ ...parts, cmdline: '', arch: 'x86_64', out: image });
      const bytes = readFileSync(image);
      change(bytes);
      bytes.writeUInt32BE(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))), 544);
      writeFileSync(image, bytes);
      const unpacked = await unpackEif({ image, out: join(dir, 'parts') });
      expect(unpacked.exact).toBe(false);
      expect((await repack(unpacked, join(dir, 'y.eif'))).measurement).toEqual(measurement);
    }),
  );
});
