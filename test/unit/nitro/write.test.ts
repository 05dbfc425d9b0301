import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { encodeMeasuredConfig, type MeasuredConfig } from '../../../src/core/measured-config.ts';
import { cpioArchive } from '../../../src/image/cpio.ts';
import {
  bytesPart,
  measuredConfigTap,
  packEif,
  streamEif,
  type WriteEifOptions,
  writeEif,
} from '../../../src/nitro/index.ts';
import { bytesSource, type EifSource } from '../../../src/nitro/source.ts';
import { collect, rawArchive } from '../image/cpio-bytes.ts';
import { smallEif, withDirectory } from './small.ts';

const code = (value: string) => expect.objectContaining({ code: value });
const options = (out: string): WriteEifOptions => ({
  kernel: bytesPart(Buffer.from('kernel')),
  cmdline: '',
  ramdisks: [bytesPart(Buffer.from('ramdisk'))],
  arch: 'x86_64',
  out,
});
const canUnshare = spawnSync('unshare', ['--user', '--map-root-user', '--mount', 'true']).status === 0;

describe('writeEif', () => {
  test('the same inputs give the same bytes', async () => {
    expect((await smallEif()).equals(await smallEif())).toBe(true);
  });

  test.each<[string, string, Partial<WriteEifOptions>]>([
    ['no ramdisk', 'ERR_EIF_SECTIONS', { ramdisks: [] }],
    ['an empty ramdisk', 'ERR_EIF_SECTIONS', { ramdisks: [bytesPart(Buffer.alloc(0))] }],
    ['an empty kernel', 'ERR_EIF_SECTIONS', { kernel: bytesPart(Buffer.alloc(0)) }],
    ['33 sections', 'ERR_EIF_SECTIONS', { ramdisks: new Array(31).fill(bytesPart(Buffer.from('x'))) }],
    ['NUL in the command line', 'ERR_EIF_CMDLINE', { cmdline: 'a\0b' }],
    ['a part that shrank', 'ERR_EIF_PART', { kernel: { size: 3, chunks: () => [Buffer.from('xx')] } }],
    ['a part that grew', 'ERR_EIF_PART', { kernel: { size: 1, chunks: () => [Buffer.from('xx')] } }],
  ])('%s is refused and leaves nothing', (_, expected, change) =>
    withDirectory(async (dir) => {
      await expect(writeEif({ ...options(join(dir, 'x.eif')), ...change })).rejects.toThrow(code(expected));
      expect(readdirSync(dir)).toEqual([]);
    }),
  );

  test('32 sections are written and read', () =>
    withDirectory(async (dir) => {
      const ramdisks = new Array(30).fill(bytesPart(Buffer.from('x')));
      const { parts } = await writeEif({ ...options(join(dir, 'x.eif')), ramdisks });
      expect(parts.at(-1)?.name).toBe('ramdisk29');
    }));

  test('a failed pack leaves the file of an earlier one alone', () =>
    withDirectory(async (dir) => {
      const out = join(dir, 'x.eif');
      await writeEif(options(out));
      const before = readFileSync(out);
      await expect(writeEif({ ...options(out), ramdisks: [] })).rejects.toThrow();
      expect(readFileSync(out)).toEqual(before);
    }));
});

describe('packEif', () => {
  test('a missing input is refused and leaves nothing', () =>
    withDirectory(async (dir) => {
      const kernel = join(dir, 'kernel');
      writeFileSync(kernel, 'k');
      const attempt = packEif({
        kernel,
        ramdisks: [join(dir, 'nothing')],
        cmdline: '',
        arch: 'x86_64',
        out: join(dir, 'x.eif'),
      });
      await expect(attempt).rejects.toThrow(code('ERR_FILE_NOT_FOUND'));
      expect(readdirSync(dir)).toEqual(['kernel']);
    }));

  test.skipIf(!canUnshare)('a full disk leaves nothing (needs user namespaces)', () =>
    withDirectory(async (dir) => {
      const inputs = join(dir, 'inputs');
      writeFileSync(inputs, Buffer.alloc(3 << 20, 7));
      const script = `
        import { readdirSync } from 'node:fs';
        import { packEif } from ${JSON.stringify(join(import.meta.dirname, '../../../src/nitro/index.ts'))};
        const dir = ${JSON.stringify(join(dir, 'full'))}, input = ${JSON.stringify(inputs)};
        const result = await packEif({ kernel: input, ramdisks: [input], cmdline: '', arch: 'x86_64', out: dir + '/x.eif' })
          .catch((error) => ({ code: error.code, exitCode: error.exitCode }));
        console.log(JSON.stringify({ result, left: readdirSync(dir) }));`;
      const shell = 'mkdir "$1" && mount -t tmpfs -o size=4m none "$1" && exec "$2" --input-type=module -e "$3"';
      const args = ['--user', '--map-root-user', '--mount', 'sh', '-c', shell, 'sh', join(dir, 'full')];
      const output = execFileSync('unshare', [...args, process.execPath, script], { encoding: 'utf8', stdio: 'pipe' });
      expect(JSON.parse(output)).toEqual({ result: { code: 'ERR_DISK_FULL', exitCode: 1 }, left: [] });
    }),
  );
});

describe('the measured configuration', () => {
  const readMeasuredConfig = async (image: EifSource) => {
    const tap = measuredConfigTap();
    await streamEif(image, tap);
    return tap.config();
  };
  const config: MeasuredConfig = {
    version: 1,
    project: 'digits',
    projectVersion: '1.0.0',
    policyVersion: '1',
    model: { digest: '00'.repeat(32), owner: '11'.repeat(32) },
    runtime: { kind: 'onnx' },
  };
  const bytes = encodeMeasuredConfig(config);
  const dir = (path: string) => ({ path, type: 'dir' as const, mode: 0o755, size: 0 });
  const path = 'rootfs/etc/atoma-tee/enclave.json';
  const file = { path, type: 'file' as const, mode: 0o644, size: bytes.length, open: () => [bytes] };
  const dirs = [dir('rootfs'), dir('rootfs/etc'), dir('rootfs/etc/atoma-tee')];
  const image = async (application: Buffer) => bytesSource(await smallEif([rawArchive(), application]));

  test('is the file in the second ramdisk', async () => {
    const application = await collect(cpioArchive([...dirs, file], { mtime: 0 }).chunks());
    expect(await readMeasuredConfig(await image(application))).toEqual(config);
  });

  test.each<[string, string, Buffer]>([
    ['without the file', 'ERR_ENCLAVE_CONFIG', rawArchive()],
    ['with an init of its own', 'ERR_CPIO_OUTSIDE', rawArchive({ name: 'init', body: '#!/bin/sh' })],
    ['that is no archive', 'ERR_CPIO_MAGIC', Buffer.alloc(512)],
  ])('an application ramdisk %s is refused', async (_, expected, application) => {
    await expect(readMeasuredConfig(await image(application))).rejects.toThrow(code(expected));
  });

  test('a third ramdisk, which could replace the configuration, is refused', async () => {
    const application = await collect(cpioArchive([...dirs, file], { mtime: 0 }).chunks());
    const source = bytesSource(await smallEif([rawArchive(), application, application]));
    await expect(readMeasuredConfig(source)).rejects.toThrow(code('ERR_ENCLAVE_CONFIG'));
  });

  test('an image without a second ramdisk is refused', async () => {
    const source = bytesSource(await smallEif([rawArchive()]));
    await expect(readMeasuredConfig(source)).rejects.toThrow(code('ERR_ENCLAVE_CONFIG'));
  });
});
