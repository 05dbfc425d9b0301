import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { DiffReport } from '../../../src/diff/index.ts';
import { Cache } from '../../../src/image/cache.ts';
import { resolveContainer } from '../../../src/oci/index.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { diff } from '../../../src/tasks/diff.ts';
import { gramineProject } from '../gramine/project.ts';
import { debEntry, makeTar, sha256, type TinyProject, temporaryDirectory, tinyProject } from '../image/fixtures.ts';
import { Blobs } from '../oci/images.ts';
import { causeIds, itemOf, partOf, writeJson } from './fixtures.ts';

const run = ({ dir: project, cacheDir, programPath }: TinyProject) => build({ project, cacheDir, programPath });
const differing = (report: DiffReport, target: string) =>
  report.images
    .find((image) => image.target === target)
    ?.parts.filter(({ status }) => status === 'different')
    .map(({ name }) => name);

const kept = mkdtempSync(join(tmpdir(), 'atoma-diff-'));
afterAll(() => rmSync(kept, { recursive: true, force: true }));

/** A build's directory of outputs, for reading; the build itself is made once. */
async function built(version = '1.0-1'): Promise<string> {
  const out = join(kept, version, 'dist');
  if (!existsSync(out)) cpSync(await buildOnce(version), join(kept, version), { recursive: true });
  return out;
}

/** The same, to change. */
async function copied(version?: string): Promise<string> {
  const out = join(temporaryDirectory(), 'dist');
  cpSync(dirname(await built(version)), dirname(out), { recursive: true });
  return out;
}

/** The project with this version of its library. */
async function buildOnce(version: string): Promise<string> {
  const project = await gramineProject();
  if (version !== '1.0-1') {
    const files = [
      {
        from: 'lib/libc.so.6',
        content: 'a Library'.repeat(1000),
        rule: { to: 'lib/libc.so.6', part: 'root' as const },
      },
      { from: 'bin/tool', content: 'a tool', rule: { to: 'bin/tool', part: 'root' as const, mode: '0755' } },
    ];
    const { entry, bytes } = await debEntry('libc6', files);
    project.lock.deb[1] = { ...entry, version };
    project.files.set(`/${entry.path}`, bytes);
    project.writeLock();
  }
  await run(project);
  return project.dir;
}

test('one package of the lock updated: its name, the file, its first byte; for Nitro and Gramine', async () => {
  const [a, b] = [await built(), await copied('1.0-2')];
  const report = await diff({ a, b: join(b, 'build.intoto.json') });
  expect(report.verdict).toBe('different');
  expect(report.inputs).toContainEqual({ name: 'pkg:deb/debian/libc6', a: '1.0-1', b: '1.0-2' });
  const cause = { id: 'lock', reason: 'the locks pin other inputs: deb:libc6@1.0-1 and deb:libc6@1.0-2' };

  expect(differing(report, 'nitro')).toEqual(['ramdisk1']);
  expect(partOf(report).items.map(({ path }) => path)).toEqual(['rootfs/lib/libc.so.6']);
  expect(itemOf(report, 'rootfs/lib/libc.so.6')).toMatchObject({
    context: { offset: 2, differing: 1000 },
    causes: [cause],
  });

  // The manifest has the same length, so no other area of the enclave moves.
  expect(differing(report, 'gramine')).toEqual(['manifest']);
  expect(report.images[1]?.registers[0]).toMatchObject({
    name: 'mrenclave',
    status: 'different',
    because: ['manifest'],
  });
  expect(itemOf(report, 'lib/libc.so.6', 'manifest')).toMatchObject({ context: { offset: 2 }, causes: [cause] });

  // A lock that is not the one that the manifest names is not asked, and one lock alone explains nothing.
  writeFileSync(join(dirname(b), 'atoma-tee.lock'), 'another');
  expect(itemOf(await diff({ a, b }), 'rootfs/lib/libc.so.6').causes).toMatchObject([{ id: 'unknown' }]);

  // Without the images, the lists tell as much, but for the bytes.
  for (const name of ['digits.eif', 'digits.manifest.sgx']) rmSync(join(b, name));
  const listed = await diff({ a, b: join(b, 'measurements.json') });
  expect(partOf(listed).items.map(({ path }) => path)).toEqual(['rootfs/lib/libc.so.6']);
  expect(itemOf(listed, 'lib/libc.so.6', 'manifest').changes).toHaveLength(1);
  expect(listed.notes.join()).toContain('digits.eif is not there');
  expect(listed.images.map(({ registers }) => registers[0]?.status)).toEqual(['different', 'different']);
});

test('the same project twice: equal, also against the list of the other alone', async () => {
  const [a, b] = [await built(), await copied()];
  expect(await diff({ a, b })).toMatchObject({ verdict: 'equal', inputs: [], causes: [] });
  rmSync(join(b, 'digits.eif'));
  expect(await diff({ a: join(a, 'digits.eif'), b })).toMatchObject({ verdict: 'equal', causes: [] });
});

describe('a manifest for Gramine', () => {
  test('settings, one by one, and what a moved area is', async () => {
    const a = await built();
    const b = await copied();
    const path = join(b, 'digits.manifest.sgx');
    writeFileSync(path, readFileSync(path, 'utf8').replace('max_threads = 2', 'max_threads = 3'));
    const report = await diff({ a: join(a, 'digits.manifest.sgx'), b: path });
    expect(itemOf(report, 'sgx.max_threads', 'manifest').changes).toEqual([{ what: 'value', a: '2', b: '3' }]);
    expect(partOf(report, 'tcs')).toMatchObject({ status: 'different', causes: [{ id: 'layout' }, { id: 'layout' }] });
    expect(partOf(report, 'stack2')).toMatchObject({ a: null, status: 'different' });
    expect(report.notes.join()).toContain('B: its signature is over MRENCLAVE');
  });

  test('a libpal.so of another version: the area, and that Gramine is another', async () => {
    const a = await built();
    const pal = join(temporaryDirectory(), 'libpal.so');
    const bytes = readFileSync(join(a, 'digits.gramine/libpal.so'));
    bytes[0x800] = (bytes[0x800] ?? 0) ^ 1;
    writeFileSync(pal, bytes);
    const manifest = join(a, 'digits.manifest.sgx');
    const report = await diff({ a: manifest, b: manifest, libpal: [join(a, 'digits.gramine/libpal.so'), pal] });
    expect(differing(report, 'gramine')).toEqual(['pal']);
    expect(partOf(report, 'pal')).toMatchObject({
      context: { offset: 0x800, differing: 1 },
      causes: [{ id: 'toolkit' }],
    });
  });

  test('a trusted file elsewhere, behind a link, or not the measured one, is never shown', async () => {
    const text = readFileSync(join(await built(), 'digits.manifest.sgx'), 'utf8');
    const root = temporaryDirectory();
    const side = (name: string): string => {
      const dir = join(root, name, 'build');
      mkdirSync(dir, { recursive: true });
      const secret = join(root, name, 'secret');
      writeFileSync(secret, `the secret ${name}`);
      writeFileSync(join(dir, 'changed'), `changed ${name}`);
      writeFileSync(join(dir, 'measured'), `measured ${name}`);
      symlinkSync(secret, join(dir, 'link'));
      const entry = (uri: string, content: string) =>
        `[[sgx.trusted_files]]\nuri = "file:${uri}"\nsha256 = "${sha256(content)}"\n\n`;
      const entries = [
        ...['../secret', 'link', '/proc/self/cwd/secret'].map((uri) => entry(uri, `the secret ${name}`)),
        entry('changed', `something else ${name}`),
        entry('measured', `measured ${name}`),
      ];
      const path = join(dir, 'x.manifest.sgx');
      writeFileSync(path, text.replace('[[sgx.trusted_files]]', `${entries.join('')}[[sgx.trusted_files]]`));
      return path;
    };
    const report = await diff({ a: side('a'), b: side('b') });
    const shown = partOf(report, 'manifest').items.map(({ path, context }) => [path, context !== undefined]);
    expect(shown).toEqual([
      ['file:../secret', false],
      ['file:link', false],
      ['file:/proc/self/cwd/secret', false],
      ['file:changed', false],
      ['file:measured', true],
    ]);
    expect(JSON.stringify(report)).not.toContain('the secret');
    expect(report.notes.join()).toContain('no libpal.so');
  });
});

describe('a container image below a command', () => {
  /** An image layout as Debian's tools leave one: a package database, the package's file, and one that is nobody's. */
  async function layout(dir: string, version: string, content: string): Promise<string> {
    const status = `Package: tzdata\nStatus: install ok installed\nArchitecture: all\nVersion: ${version}\n\nPackage: base-files\nArchitecture: amd64\nVersion: 12\n`;
    const tar = await makeTar([
      { name: 'usr/share/zoneinfo/UTC', mtime: new Date(0), content: `zone ${version}` },
      { name: 'var/lib/dpkg/status', mtime: new Date(0), content: status },
      { name: 'var/lib/dpkg/info/tzdata.list', mtime: new Date(0), content: '/.\n/usr\n/usr/share/zoneinfo/UTC\n' },
      { name: 'opt/own', mtime: new Date(0), content },
    ]);
    const blobs = new Blobs();
    return blobs.write(dir, blobs.index([blobs.image([tar])]));
  }

  async function command(version: string, content: string): Promise<string> {
    const project = await tinyProject();
    const image = `oci-layout:${await layout(join(project.dir, `base-${version}`), version, content)}`;
    const toml = join(project.dir, 'enclave.toml');
    writeFileSync(
      toml,
      readFileSync(toml, 'utf8').replace('kind = "onnx"', `kind = "command"\n[base]\nimage = ${JSON.stringify(image)}`),
    );
    const cache = await Cache.open(project.cacheDir);
    const resolved = await resolveContainer(image, { dir: project.dir, cache, onProgress: undefined });
    project.lock.runtime = 'command';
    project.lock.oci = [{ reference: image, platform: 'linux/amd64', ...resolved }];
    project.writeLock();
    await run(project);
    return join(project.dir, 'dist');
  }

  test('one package of a base image updated: the package by its database, the rest by the base', async () => {
    const report = await diff({ a: await command('2024a-1', 'x'), b: await command('2024b-1', 'y') });
    const cause = (path: string) => itemOf(report, `rootfs/image/${path}`).causes;
    expect(differing(report, 'nitro')).toEqual(['ramdisk1']);
    expect(cause('usr/share/zoneinfo/UTC')).toEqual([
      { id: 'package', reason: 'the Debian package tzdata is there in two versions: 2024a-1 and 2024b-1' },
    ]);
    expect(cause('var/lib/dpkg/status')).toEqual([
      { id: 'package', reason: 'the list of installed packages: tzdata changed' },
    ]);
    expect(cause('opt/own')).toMatchObject([{ id: 'base-image', reason: expect.stringContaining('base-2024b-1') }]);
    expect(causeIds(partOf(report))).not.toContain('unknown');
  });
});

test('a build that lost one of its images is another build; one image beside a build is compared with its own', async () => {
  const dist = await built();
  const listed = JSON.parse(readFileSync(join(dist, 'measurements.json'), 'utf8'));
  const lost = writeJson('measurements.json', { ...listed, images: listed.images.slice(1) });
  for (const [a, b] of [
    [dist, lost],
    [lost, dist],
  ] as const) {
    expect(await diff({ a, b })).toMatchObject({
      verdict: 'different',
      notes: expect.arrayContaining([expect.stringContaining('for nitro')]),
    });
  }
  expect((await diff({ a: dist, b: join(dist, 'digits.eif') })).verdict).toBe('equal');
});

describe('measurements alone', () => {
  const zero = '0'.repeat(96);
  const nitroCli = (pcrs: string[], more = {}) => ({
    Measurements: { HashAlgorithm: 'Sha384 { ... }', PCR0: pcrs[0], PCR1: pcrs[1], PCR2: pcrs[2] },
    ...more,
  });

  test('the registers that nitro-cli or this toolkit printed', async () => {
    const dist = await built();
    const { images } = JSON.parse(readFileSync(join(dist, 'measurements.json'), 'utf8'));
    const { pcr0, pcr1, pcr2 } = images[0].measurement;
    const eif = join(dist, 'digits.eif');
    const printed = writeJson('describe.json', nitroCli([pcr0.toUpperCase(), pcr1, pcr2]));
    expect((await diff({ a: eif, b: printed })).verdict).toBe('equal');
    const inspected = writeJson('inspect.json', { kind: 'eif', measurement: { tee: 'nitro', pcr0, pcr1, pcr2: pcr0 } });
    const report = await diff({ a: eif, b: inspected });
    expect(report.verdict).toBe('different');
    expect(report.images[0]?.registers.map(({ status }) => status)).toEqual(['equal', 'equal', 'different']);
    expect((await diff({ a: dist, b: writeJson('m.json', images[1].measurement) })).verdict).toBe('equal');
  });

  test('the zeros of a debug enclave are no mismatch: called debug', async () => {
    const a = join(await built(), 'digits.eif');
    const running = [nitroCli(['1'.repeat(96), zero, zero], { Flags: 'DEBUG_MODE', State: 'RUNNING' })];
    for (const document of [nitroCli([zero, zero, zero]), running]) {
      const report = await diff({ a, b: writeJson('enclaves.json', document) });
      expect(report).toMatchObject({ verdict: 'debug', causes: [{ id: 'debug' }] });
      expect(report.images[0]?.registers.map(({ status }) => status)).toEqual(['debug', 'debug', 'debug']);
    }
  });
});
