import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { caseNames, withCase, withDirectory } from '../unit/gramine/manifest-cases.ts';
import { haveVectors } from '../unit/vectors.ts';
import { atomaTee, ok, root } from './cli.ts';

const manifest = (args: string[], cwd: string, env: Record<string, string> = {}) =>
  atomaTee(['gramine', 'manifest', ...args], { cwd, env });

describe.runIf(haveVectors)('gramine manifest', () => {
  test.each(caseNames.filter((name) => !/^1[78]-fail/.test(name)))('%s: the bytes of gramine-manifest', (name) =>
    withCase(name, ({ directory, meta }) => {
      const chroot = meta.chroot === null ? [] : ['--chroot', meta.chroot];
      ok(manifest(['app.manifest.template', ...chroot, '--out', 'ours', '--json'], directory));
      expect(readFileSync(join(directory, 'ours'), 'utf8')).toBe(readFileSync(join(directory, 'app.manifest'), 'utf8'));
    }),
  );

  test.each([
    ['17-fail-schema', 'ERR_GRAMINE_UNKNOWN_KEY'],
    ['18-fail-dir-without-slash', 'ERR_GRAMINE_TRUSTED'],
  ])('%s is refused with %s, and nothing is written', (name, code) =>
    withCase(name, ({ directory }) => {
      const result = manifest(['app.manifest.template', '--out', 'ours', '--json'], directory);
      expect(result.code).toBe(2);
      expect(result.json.error.code).toBe(code);
      expect(existsSync(join(directory, 'ours'))).toBe(false);
    }),
  );
});

test('-D, -c, env, --gramine, --no-check and what --json says', () =>
  withDirectory((dir) => {
    mkdirSync(join(dir, 'gr'));
    mkdirSync(join(dir, 'files'));
    writeFileSync(join(dir, 'gr/libsysdb.so'), 'abc');
    writeFileSync(join(dir, 'files/a'), '');
    symlinkSync('nowhere', join(dir, 'files/dangling'));
    const text = `libos.entrypoint = "{{ entrypoint }}"
fs.mounts = []
sgx.debug = {{ 'true' if debug else 'false' }}
sgx.future = "{{ env.FUTURE }}"
sgx.trusted_files = ["file:{{ gramine.libos }}", "file:files/"]
`;
    const defines = ['-D', 'entrypoint=/bin/a=b', '-D', 'debug'];
    const args = ['-c', text, ...defines, '--gramine', 'gr', '--no-check', '--out', 'out', '--json'];
    const result = ok(manifest(args, dir, { FUTURE: 'x' }));
    const written = readFileSync(join(dir, 'out'), 'utf8');
    expect(written).toContain('entrypoint = "/bin/a=b"');
    expect(written).toContain('debug = true\nfuture = "x"');
    expect(written).toContain(`[loader.entrypoint]\nuri = "file:${dir}/gr/libsysdb.so"\nsha256 = "ba7816bf`);
    expect(result.json).toMatchObject({
      path: 'out',
      size: written.length,
      trustedFiles: 2,
      skipped: ['file:files/dangling'],
    });
    expect(result.stderr).toContain('file:files/dangling');
  }));

test('a name that nobody defined: exit 2, and which one', () =>
  withDirectory((dir) => {
    const result = manifest(['-c', 'a = "{{ log_level }}"', '--out', 'out', '--json'], dir);
    expect(result.code).toBe(2);
    expect(result.json.error).toMatchObject({ code: 'ERR_GRAMINE_TEMPLATE', hint: expect.stringContaining('-D') });
    expect(result.json.error.message).toContain('"log_level"');
  }));

test('a template file or -c, and not both', () =>
  withDirectory((dir) => {
    for (const args of [[], ['x', '-c', 'y']]) expect(manifest([...args, '--out', 'out'], dir).code).toBe(2);
  }));

test('our template for serving a model, completed for a tree', () =>
  withDirectory((dir) => {
    for (const path of ['root/usr/bin', 'root/app', 'root/lib64']) mkdirSync(join(dir, path), { recursive: true });
    for (const file of ['usr/bin/node', 'app/server.mjs', 'lib64/ld-linux-x86-64.so.2'])
      writeFileSync(join(dir, 'root', file), file);
    writeFileSync(join(dir, 'libsysdb.so'), 'libos');
    const template = join(root, 'templates/gramine/onnx.manifest.template');
    ok(manifest([template, '-D', 'root=root', '--gramine', '.', '--out', 'app.manifest'], dir));
    const uris = [...readFileSync(join(dir, 'app.manifest'), 'utf8').matchAll(/^uri = "file:(root\/.*)"$/gm)].map(
      ([, uri]) => uri,
    );
    expect(uris).toEqual(['root/app/server.mjs', 'root/lib64/ld-linux-x86-64.so.2', 'root/usr/bin/node']);
  }));
