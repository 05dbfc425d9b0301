import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { pinGramine, provideGramine } from '../../../src/gramine/runtime-files.ts';
import { Cache } from '../../../src/image/cache.ts';
import { encodeLock } from '../../../src/image/lock-encode.ts';
import { parseLock } from '../../../src/image/lock-file.ts';
import { lockProject } from '../../../src/tasks/lock/index.ts';
import { makeDeb, makeTar, sha256, temporaryDirectory } from '../image/fixtures.ts';
import { fakeGramine, gramineProject, setGramine } from './project.ts';

async function place() {
  const dir = temporaryDirectory();
  const cache = await Cache.open(join(dir, 'cache'));
  const libraries = fakeGramine(join(dir, 'usr'));
  const { libpal, libsysdb } = libraries;
  const pinned = {
    libpal: { size: libpal.length, sha256: sha256(libpal) },
    libsysdb: { size: libsysdb.length, sha256: sha256(libsysdb) },
  };
  return { dir, cache, libraries, pinned, lib: join(dir, 'usr/lib/x86_64-linux-gnu/gramine') };
}

/** A package as Gramine's own (debian/gramine.install) lays it out. */
async function makePackage(libraries: { libpal?: Buffer; libsysdb?: Buffer }, type: 'file' | 'symlink' = 'file') {
  const root = './usr/lib/x86_64-linux-gnu/gramine';
  const { libpal, libsysdb } = libraries;
  const script = '#!/bin/sh\n    echo "Gramine 1.9 (abc)"\n';
  const entry = (name: string, content: Buffer) =>
    type === 'file' ? { name, content } : { name, type, linkname: '/etc/passwd' };
  const tar = await makeTar([
    { name: './usr/bin/gramine-sgx', content: script, mode: 0o755 },
    { name: `${root}/direct/libpal.so`, content: 'another' },
    ...(libpal ? [entry(`${root}/sgx/libpal.so`, libpal)] : []),
    ...(libsysdb ? [entry(`${root}/libsysdb.so`, libsysdb)] : []),
  ]);
  return makeDeb('data.tar.gz', gzipSync(tar));
}

describe('the libraries of Gramine are found', () => {
  test('installed, in a prefix, in the directory itself, in an unpacked package: the same pins', async () => {
    const { dir, cache, pinned, lib } = await place();
    const options = { dir, cache, prefixes: [join(dir, 'none'), join(dir, 'usr')] };
    expect(await pinGramine('installed', options)).toEqual({ from: 'installed', version: '1.9', ...pinned });
    expect(await pinGramine('usr', options)).toEqual({ from: 'usr', version: '1.9', ...pinned });
    expect(await pinGramine('.', options)).toEqual({ from: '.', version: '1.9', ...pinned });
    expect(await pinGramine(lib, options)).toEqual({ from: lib, ...pinned });
    renameSync(join(dir, 'usr/lib/x86_64-linux-gnu'), join(dir, 'usr/lib64'));
    expect(await pinGramine('usr', options)).toMatchObject(pinned);
  });

  test('in a directory that holds just the two', async () => {
    const { dir, cache, libraries, pinned } = await place();
    mkdirSync(join(dir, 'flat'));
    for (const [name, bytes] of Object.entries(libraries)) writeFileSync(join(dir, 'flat', `${name}.so`), bytes);
    expect(await pinGramine('flat', { dir, cache })).toEqual({ from: 'flat', ...pinned });
  });

  test('in a Debian package, by ar or by dpkg-deb', async () => {
    const { dir, cache, libraries, pinned } = await place();
    writeFileSync(join(dir, 'gramine.deb'), await makePackage(libraries));
    const expected = { from: 'gramine.deb', version: '1.9', ...pinned };
    expect(await pinGramine('gramine.deb', { dir, cache })).toEqual(expected);

    const tree = mkdtempSync(join(dir, 'deb-'));
    cpSync(join(dir, 'usr'), join(tree, 'usr'), { recursive: true });
    mkdirSync(join(tree, 'DEBIAN'));
    const control = 'Package: gramine\nVersion: 1.9\nArchitecture: amd64\nMaintainer: a <a@b>\nDescription: x\n';
    writeFileSync(join(tree, 'DEBIAN/control'), control);
    execFileSync('dpkg-deb', ['--build', '--root-owner-group', tree, join(dir, 'other.deb')], { stdio: 'ignore' });
    expect(await pinGramine('other.deb', { dir, cache })).toEqual({ ...expected, from: 'other.deb' });
  });

  test('and once pinned are taken from the cache, wherever they came from', async () => {
    const { dir, cache, libraries } = await place();
    writeFileSync(join(dir, 'gramine.deb'), await makePackage(libraries));
    const pin = await pinGramine('gramine.deb', { dir, cache });
    rmSync(join(dir, 'gramine.deb'));
    expect(await provideGramine(pin, { dir, cache })).toEqual(libraries);
  });
});

describe('what a lock pins, where neither cache nor place has it', () => {
  test('is taken from an installed Gramine if that is the one; of another the place is told that enclave.toml names', async () => {
    const { dir, cache, libraries, lib } = await place();
    const pin = { ...(await pinGramine('usr', { dir, cache })), from: 'gone.deb' };
    const options = { dir, prefixes: [join(dir, 'usr')] };
    const empty = async (name: string) => ({ ...options, cache: await Cache.open(join(dir, name)) });
    expect(await provideGramine(pin, await empty('one'))).toEqual(libraries);
    writeFileSync(join(lib, 'libsysdb.so'), 'another');
    const expected = { code: 'ERR_GRAMINE_MISSING', message: expect.stringContaining('gone.deb') };
    await expect(provideGramine(pin, await empty('two'))).rejects.toMatchObject(expected);
    const found = provideGramine({ ...pin, from: 'installed' }, await empty('three'));
    await expect(found).rejects.toMatchObject({ code: 'ERR_INPUT_DIGEST', exitCode: 3 });
  });
});

describe('is refused as a Gramine:', () => {
  const refused = async (from: string, dir: string, expected: object) => {
    const cache = await Cache.open(join(dir, 'cache'));
    await expect(pinGramine(from, { dir, cache, prefixes: [join(dir, 'none')] })).rejects.toMatchObject(expected);
  };
  const missing = { code: 'ERR_GRAMINE_MISSING', exitCode: 5, hint: expect.stringContaining('install Gramine') };

  test('nothing installed, nothing there, an empty directory', async () => {
    const { dir } = await place();
    mkdirSync(join(dir, 'empty'));
    for (const from of ['installed', 'nowhere', 'empty']) await refused(from, dir, missing);
  });

  test('a missing libpal.so, a missing libsysdb.so', async () => {
    const { dir, lib } = await place();
    rmSync(join(lib, 'libsysdb.so'));
    await refused('usr', dir, missing);
    fakeGramine(join(dir, 'usr'));
    rmSync(join(lib, 'sgx/libpal.so'));
    await refused('usr', dir, missing);
  });

  test('one that was built without SGX, and is told so', async () => {
    const { dir, lib } = await place();
    renameSync(join(lib, 'sgx'), join(lib, 'direct'));
    await refused('usr', dir, { ...missing, message: expect.stringContaining('built without SGX') });
  });

  test('a libpal.so that is no ELF, one for another processor, one cut off', async () => {
    const { dir, lib, libraries } = await place();
    const place32 = Buffer.from(libraries.libpal);
    place32.writeUInt16LE(3, 18);
    for (const bytes of [Buffer.from('GNU ld script'), place32]) {
      writeFileSync(join(lib, 'sgx/libpal.so'), bytes);
      await refused('usr', dir, { code: 'ERR_GRAMINE_LIBRARY', exitCode: 2 });
    }
    writeFileSync(join(lib, 'sgx/libpal.so'), libraries.libpal.subarray(0, 0x1000));
    await refused('usr', dir, { code: 'ERR_ELF_MALFORMED', exitCode: 2 });
  });

  test('a package without them, one where they are links, a file that is no package', async () => {
    const { dir, libraries } = await place();
    const at = join(dir, 'x.deb');
    writeFileSync(at, await makePackage({ libsysdb: libraries.libsysdb }));
    await refused('x.deb', dir, missing);
    writeFileSync(at, await makePackage(libraries, 'symlink'));
    await refused('x.deb', dir, missing);
    writeFileSync(at, 'no package');
    await refused('x.deb', dir, { code: 'ERR_DEB_MALFORMED', exitCode: 2 });
    writeFileSync(at, (await makePackage(libraries)).subarray(0, 300));
    await refused('x.deb', dir, { exitCode: 2 });
  });
});

describe('the lock', () => {
  test('pins them for the target gramine, keeps them, takes them anew with --local, drops them', async () => {
    const project = await gramineProject(['gramine']);
    const { dir, cacheDir, programPath } = project;
    const options = { cacheDir, programPath };
    const path = join(dir, 'atoma-tee.lock');
    const pinned = () => parseLock(readFileSync(path, 'utf8'), 'lock').gramine;
    rmSync(path);
    const { changes } = await lockProject(dir, options);
    expect(changes.find(({ name }) => name === 'Gramine')?.to).toMatch(/^1\.9 \(libpal [0-9a-f]{12}, libsysdb/);
    expect(pinned()).toEqual(project.lock.gramine);

    const { libpal } = fakeGramine(join(dir, 'gramine'));
    libpal[0x2000] = 0xee;
    fakeGramine(join(dir, 'gramine'), libpal);
    expect((await lockProject(dir, options)).changes).toEqual([]);
    expect((await lockProject(dir, { ...options, update: 'local' })).changes.map(({ name }) => name)).toEqual([
      'Gramine',
    ]);
    expect(pinned()?.libpal.sha256).toBe(sha256(libpal));

    setGramine(project, ['nitro']);
    await lockProject(dir, options);
    expect(pinned()).toBeUndefined();
  });

  test('reads back what it wrote, with and without a version', () => {
    const library = { size: 1, sha256: 'ab'.repeat(32) };
    const base = { version: 1 as const, timestamp: 1, npm: [], deb: [], file: [], oci: [] };
    const toolkit = { version: '1', init: 'cd'.repeat(32), program: 'ef'.repeat(32) };
    for (const version of [{}, { version: '1.9' }]) {
      const gramine = { from: 'a "b"', ...version, libpal: library, libsysdb: library };
      const lock = { ...base, gramine, toolkit };
      expect(parseLock(encodeLock(lock), 'lock')).toEqual(lock);
    }
  });
});
