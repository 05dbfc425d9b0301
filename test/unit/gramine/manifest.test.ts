import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type FinishOptions, finishManifest, parseManifest } from '../../../src/gramine/manifest.ts';
import { haveVectors } from '../vectors.ts';
import { caseNames, thrown, withCase, withDirectory } from './manifest-cases.ts';

const finish = (text: string, options: FinishOptions) => finishManifest(parseManifest(text, 'test'), options);
const BASE = 'libos.entrypoint = "/a"\nfs.mounts = []\n';
const HASH = 'ab'.repeat(32);
const COMPLETE = `${BASE}loader.entrypoint = { uri = "file:libsysdb.so", sha256 = "${HASH}" }\n`;

describe.runIf(haveVectors)('reference manifests', () => {
  test.each(caseNames.filter((name) => !/^1[78]-fail/.test(name)))('%s: the bytes of gramine-manifest', (name) =>
    withCase(name, async ({ directory, meta }) => {
      const template = readFileSync(join(directory, 'app.manifest.template'), 'utf8');
      const chroot = meta.chroot === null ? undefined : join(directory, meta.chroot);
      const finished = await finish(template, { directory, chroot });
      expect(finished.bytes.toString()).toBe(readFileSync(join(directory, 'app.manifest'), 'utf8'));

      // gramine-sgx-sign completes what is complete: the same bytes, and no file is needed.
      const again = await finish(finished.bytes.toString(), { directory: '/nonexistent' });
      expect(again.bytes.equals(finished.bytes)).toBe(true);
    }),
  );

  test('05: what Gramine leaves out of a directory is said', () =>
    withCase('05-trusted-directory', async ({ directory }) => {
      const { skipped } = await finish(readFileSync(join(directory, 'app.manifest.template'), 'utf8'), { directory });
      expect(skipped).toEqual(['file:models/dangling', 'file:models/fifo']);
    }));

  test('17: an unknown key is refused, with its place', () =>
    withCase('17-fail-schema', async ({ directory }) => {
      const text = readFileSync(join(directory, 'app.manifest.template'), 'utf8');
      const error = await thrown(() => finish(text, { directory }));
      expect(error).toMatchObject({ code: 'ERR_GRAMINE_UNKNOWN_KEY', exitCode: 2 });
      expect(error.message).toContain('sgx.nonsense');
      expect((await finish(text, { directory, check: false })).bytes.toString()).toContain('nonsense = 1');
    }));

  test('18: a directory without a slash is refused', () =>
    withCase('18-fail-dir-without-slash', async ({ directory }) => {
      const error = await thrown(() =>
        finish(readFileSync(join(directory, 'app.manifest.template'), 'utf8'), { directory }),
      );
      expect(error).toMatchObject({
        code: 'ERR_GRAMINE_TRUSTED',
        exitCode: 2,
        hint: expect.stringContaining('file:models/'),
      });
    }));
});

describe('defaults', () => {
  test('keys that are there keep their place, the others follow in Gramine order', async () => {
    const { bytes } = await finish(`${COMPLETE}[sgx]\nuse_exinfo = true\nmax_threads = 1\nedmm_enable = true\n`, {
      directory: '/',
    });
    const sgx = bytes
      .toString()
      .split('[sgx]\n')[1]
      ?.split('\n\n')[0]
      ?.split('\n')
      .map((line) => line.split(' ')[0]);
    expect(sgx).toEqual([
      ...['use_exinfo', 'max_threads', 'edmm_enable', 'trusted_files'],
      ...['isvprodid', 'isvsvn', 'remote_attestation', 'debug', 'enable_stats', 'enclave_size'],
    ]);
    expect(bytes.toString()).toContain('enclave_size = "1024G"');
  });

  test('the default entrypoint is the LibOS of an installation, hashed, whatever the chroot', () =>
    withDirectory(async (dir) => {
      writeFileSync(join(dir, 'libsysdb.so'), 'abc');
      const libos = { uri: 'file:/usr/lib/gramine/libsysdb.so', path: join(dir, 'libsysdb.so') };
      const { table } = await finish(BASE, { directory: '/', chroot: dir, libos });
      expect(table.loader).toEqual({
        entrypoint: {
          uri: 'file:/usr/lib/gramine/libsysdb.so',
          sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
        },
      });
    }));

  test('without an installation it is missing', async () => {
    const error = await thrown(() => finish(BASE, { directory: '/' }));
    expect(error).toMatchObject({ code: 'ERR_GRAMINE_MISSING', exitCode: 5 });
  });

  test.each([
    'sgx = 1',
    'loader = []',
    'sgx.cpu_features = "x"',
    'sgx.trusted_files = { a = 1 }',
    'loader.entrypoint = "file:x"',
  ])('something else where a table belongs, also unchecked: %s', async (line) => {
    const error = await thrown(() =>
      finish(`${BASE}${line}\n`, { directory: '/', check: false, libos: { uri: 'file:/x', path: '/x' } }),
    );
    expect(error).toMatchObject({ code: 'ERR_GRAMINE_VALUE', exitCode: 2 });
  });

  test('the table that was given is not changed', async () => {
    const table = parseManifest(`${COMPLETE}sgx.debug = true\n`, 'test');
    await finishManifest(table, { directory: '/' });
    expect(Object.keys(table.sgx as object)).toEqual(['debug']);
  });
});

test('a list of 100,000 trusted files with digests', async () => {
  const files = Array.from({ length: 100_000 }, (_, i) => ({ uri: `file:root/file-${i}`, sha256: HASH }));
  const table = parseManifest(COMPLETE, 'test');
  const { bytes, trustedFiles } = await finishManifest(
    { ...table, sgx: { trusted_files: files } },
    { directory: '/nonexistent' },
  );
  expect(trustedFiles).toBe(100_000);
  expect(bytes.toString().split('[[sgx.trusted_files]]')).toHaveLength(100_001);
  expect(parseManifest(bytes.toString(), 'again').sgx).toHaveProperty('max_threads', 4n);
});
