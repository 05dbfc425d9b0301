import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { kernelFeatures } from '../../../src/kernel/features.ts';
import { parseKernel, readKernelFile } from '../../../src/kernel/file.ts';
import { makeXz, sha256, temporaryDirectory } from '../image/fixtures.ts';
import { tinyBzImage, written } from './tiny.ts';

const file = (bytes: Uint8Array | string) => written(temporaryDirectory(), 'kernel', bytes);

/** tinyBzImage with some bytes of its header changed. */
function changed(change: (bytes: Buffer) => void): Buffer {
  const bytes = tinyBzImage();
  change(bytes);
  return bytes;
}

function arm64(body = 'Linux version 6.12.1-arm (x@y) #1'): Buffer {
  const bytes = Buffer.alloc(64 + 4096);
  bytes.writeBigUInt64LE(BigInt(1 << 20), 16);
  bytes.write('ARM\x64', 56, 'latin1');
  bytes.write(body, 1000, 'latin1');
  return bytes;
}

describe('a kernel file', () => {
  test('of x86 says its version; digest and size are the whole file’s', async () => {
    const bytes = tinyBzImage('4.14.256-209.484.amzn2.x86_64');
    expect(await readKernelFile(file(bytes))).toEqual({
      arch: 'x86_64',
      version: '4.14.256-209.484.amzn2.x86_64',
      sha256: sha256(bytes),
      size: bytes.length,
    });
  });

  test('may be signed: bytes after the kernel are a signature’s', async () => {
    const bytes = Buffer.concat([tinyBzImage(), Buffer.alloc(3000, 1)]);
    expect(await readKernelFile(file(bytes))).toMatchObject({ arch: 'x86_64', size: bytes.length });
  });

  test('of arm64 says its version somewhere in its text, or not', async () => {
    expect(await readKernelFile(file(arm64()))).toMatchObject({ arch: 'aarch64', version: '6.12.1-arm' });
    expect(await readKernelFile(file(arm64('')))).toMatchObject({ arch: 'aarch64', version: 'unknown' });
  });

  test('says its version also where the text lies across two reads', async () => {
    const bytes = Buffer.concat([arm64(''), Buffer.alloc(2 << 20)]);
    bytes.write('Linux version 6.12.7 (x@y)', (1 << 20) - 12, 'latin1');
    bytes.writeBigUInt64LE(BigInt(bytes.length), 16);
    expect(await readKernelFile(file(bytes))).toMatchObject({ version: '6.12.7' });
  });

  test.each([
    ['an ELF vmlinux', '\x7fELF\x02\x01\x01', /ELF/],
    ['a gzip file', gzipSync('Image'), /gzip/],
    ['an xz file', makeXz(Buffer.from('x')), /xz/],
    ['a zstd file', zstdCompressSync('x'), /zstd/],
    ['an enclave image', '.eif\0\x04', /enclave image/],
    ['a ramdisk', '070701', /ramdisk/],
    ['a Debian package', '!<arch>\ndebian-binary', /Debian package/],
    ['an EFI zboot image', 'MZ\0\0zimg\0\0', /zboot/],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\n', /LFS/],
    ['an empty file', '', /empty/],
    ['text', 'console=ttyS0\n', /too short/],
    ['something else', Buffer.alloc(4096, 7), /another kind/],
    [
      'a truncated bzImage',
      tinyBzImage('6.1.1', Buffer.alloc(8192)).subarray(0, 4096),
      /truncated bzImage: 4096 bytes of/,
    ],
    ['a bzImage that ends in its header', tinyBzImage().subarray(0, 0x240), /too short/],
    ['a wrong boot flag', changed((b) => b.writeUInt16LE(0, 0x1fe)), /0xAA55/],
    ['an old boot protocol', changed((b) => b.writeUInt16LE(0x0204, 0x206)), /protocol 2\.4/],
    ['a zImage', changed((b) => b.writeUInt8(0, 0x211)), /zImage/],
    ['a 32-bit kernel', changed((b) => b.writeUInt16LE(0, 0x236)), /32-bit/],
    ['a payload beyond the end', changed((b) => b.writeUInt32LE(0xffffff00, 0x24c)), /payload/],
    ['a version beyond the setup', changed((b) => b.writeUInt16LE(0xffff, 0x20e)), /version/],
    ['a version with control characters', tinyBzImage('6.\x1b[2J'), /version/],
    ['a big-endian arm64 kernel', Object.assign(arm64(), { 24: 1 }), /big-endian/],
    ['an arm64 header of another file', Object.assign(arm64(), { 18: 0, 17: 1 }), /arm64 Image whose header/],
  ])('that is %s is refused, and called that', async (_, bytes, what) => {
    const buffer = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    await expect(readKernelFile(file(buffer))).rejects.toMatchObject({
      code: 'ERR_KERNEL_FILE',
      exitCode: 2,
      message: expect.stringMatching(what),
    });
  });

  test('that is a directory, or is not there, is refused', async () => {
    await expect(readKernelFile(temporaryDirectory())).rejects.toMatchObject({ code: 'ERR_KERNEL_FILE', exitCode: 2 });
    const path = join(temporaryDirectory(), 'none');
    await expect(readKernelFile(path)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND', exitCode: 2 });
  });

  test('of any bytes is judged without a crash', () => {
    let state = 1;
    const random = () => (state = (state * 48271) % 0x7fffffff);
    for (let i = 0; i < 5000; i++) {
      const bytes = changed((b) => {
        for (let n = random() % 8; n >= 0; n--) b[random() % b.length] = random() & 255;
      }).subarray(0, random() % 1100);
      const result = parseKernel(bytes, bytes.length);
      if (typeof result !== 'string') expect(result.version).toMatch(/^[0-9]+\.[!-~]+$/);
    }
  });
});

describe('what a kernel file tells about its configuration', () => {
  const config =
    'CONFIG_NSM=m\nCONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y\n# CONFIG_DEVTMPFS is not set\nCONFIG_VIRTIO_VSOCKETS=y\n';
  const vmlinux = (text = config) =>
    Buffer.concat([
      Buffer.alloc(5000, 3),
      Buffer.from('IKCFG_ST'),
      gzipSync(text),
      Buffer.from('IKCFG_ED'),
      Buffer.alloc(9),
    ]);
  const known = {
    source: 'config',
    virtioMmioCmdline: 'builtin',
    nsm: 'module',
    vsock: 'builtin',
    devtmpfs: 'off',
    scripts: 'off',
  };
  const unknown = Object.fromEntries(Object.keys(known).map((k) => [k, k === 'source' ? null : 'unknown']));
  /** What the kernel's build appends to a payload: its length. */
  const length = Buffer.from([1, 2, 3, 4]);

  test.each([
    ['gzip', gzipSync(vmlinux())],
    ['zstd and a length', Buffer.concat([zstdCompressSync(vmlinux()), length])],
    ['xz and a length', Buffer.concat([makeXz(vmlinux()), length])],
    ['nothing', vmlinux()],
  ])('is read from the configuration inside it, packed by %s', async (_, payload) => {
    expect(await kernelFeatures(file(tinyBzImage('6.1.1', payload)))).toEqual(known);
  });

  test('is proven by names in its code where it holds no configuration; what is not found stays unknown', async () => {
    const payload = gzipSync('\0virtio-mmio-cmdline\0');
    expect(await kernelFeatures(file(tinyBzImage('6.1.1', payload)))).toEqual({
      ...unknown,
      source: 'strings',
      virtioMmioCmdline: 'builtin',
    });
  });

  test.each([
    ['is packed by something else', Buffer.from('\x02\x21\x4c\x18 lz4')],
    ['is damaged', gzipSync(vmlinux()).fill(0, 30)],
    ['holds a configuration without an end', gzipSync(vmlinux().subarray(0, 5100))],
    ['holds a configuration that is not gzip', gzipSync(Buffer.from('IKCFG_ST\x1f\x8bxxxxxIKCFG_ED', 'latin1'))],
    ['holds a configuration that inflates without end', gzipSync(vmlinux('x'.repeat(5 << 20)))],
  ])('is unknown where it %s', async (_, payload) => {
    expect(await kernelFeatures(file(tinyBzImage('6.1.1', payload)))).toEqual(unknown);
  });
});
