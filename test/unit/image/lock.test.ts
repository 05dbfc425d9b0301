import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Cache } from '../../../src/image/cache.ts';
import { fetchDebIndex, newestPackage } from '../../../src/image/deb-index.ts';
import { lockEntries, parseLock } from '../../../src/image/lock-file.ts';
import { resolveNewest } from '../../../src/image/resolve.ts';
import { loadBase } from '../../../src/image/toolkit.ts';
import { lockProject } from '../../../src/tasks/lock/index.ts';
import { debEntry, makeXz, sha256, type TinyProject, tinyProject } from './fixtures.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

const lockPath = ({ dir }: TinyProject) => join(dir, 'atoma-tee.lock');

describe('lock', () => {
  test('writes the shipped base and the digests of the toolkit', async () => {
    const project = await tinyProject();
    rmSync(lockPath(project));
    const { path, changes } = await lockProject(project.dir, project);
    const lock = parseLock(readFileSync(path, 'utf8'), path);
    expect(lock).toEqual({ ...(await loadBase()), file: [], oci: [], toolkit: project.lock.toolkit });
    expect(changes).toHaveLength(lockEntries(lock).length + 1);
    expect(changes.every(({ from, to }) => from === undefined && to !== undefined)).toBe(true);
  });

  test('leaves a lock alone', async () => {
    const project = await tinyProject();
    const before = readFileSync(lockPath(project));
    expect((await lockProject(project.dir, project)).changes).toEqual([]);
    expect(readFileSync(lockPath(project))).toEqual(before);
  });

  test('takes another toolkit without looking anything up, and says what changed', async () => {
    const project = await tinyProject();
    rmSync(lockPath(project));
    await lockProject(project.dir, project);
    const { mtimeMs } = statSync(lockPath(project));
    expect((await lockProject(project.dir, { ...project, update: 'toolkit' })).changes).toEqual([]);
    expect(statSync(lockPath(project)).mtimeMs).toBe(mtimeMs);
    writeFileSync(project.programPath, 'console.log("another");\n');
    const { changes } = await lockProject(project.dir, { ...project, update: 'toolkit' });
    expect(changes).toMatchObject([{ name: 'atoma-tee', from: expect.anything(), to: expect.anything() }]);
    expect(project.mirror.hits).toEqual([]);
  });

  test('of what is no project writes nothing', async () => {
    const project = await tinyProject();
    rmSync(lockPath(project));
    rmSync(join(project.dir, 'enclave.toml'));
    await expect(lockProject(project.dir, project)).rejects.toMatchObject({ code: 'ERR_CONFIG_NOT_FOUND' });
    expect(existsSync(lockPath(project))).toBe(false);
  });
});

describe('looking for newer Debian packages', () => {
  async function withIndex(damage: (index: Buffer) => Buffer = (index) => index) {
    const project = await tinyProject();
    const newer = await debEntry('libc6', [
      { from: 'lib/libc.so.6', content: 'newer library', rule: { to: 'lib/libc.so.6', part: 'root' } },
      { from: 'bin/tool', content: 'a tool', rule: { to: 'bin/tool', part: 'root', mode: '0755' } },
    ]);
    const stanza = (name: string, version: string, size: number, digest: string) =>
      `Package: ${name}\nVersion: ${version}\nFilename: pool/${name}_${version}_amd64.deb\nSize: ${size}\nSHA256: ${digest}\n`;
    const [kernel, old] = project.lock.deb;
    const stanzas = [
      stanza(kernel?.name ?? '', '1.0-1', kernel?.size ?? 0, kernel?.sha256 ?? ''),
      stanza('libc6', '2.0-1', newer.bytes.length, sha256(newer.bytes)),
      stanza('libc6', '1.0-1', old?.size ?? 0, old?.sha256 ?? ''),
    ];
    const index = makeXz(Buffer.from(stanzas.join('\n')));
    const name = 'main/binary-amd64/Packages.xz';
    const release = `Origin: Debian\nSHA256:\n ${sha256(index)} ${index.length} ${name}\n`;
    project.files.set('/dists/bookworm/InRelease', Buffer.from(release));
    project.files.set(`/dists/bookworm/${name}`, damage(index));
    project.files.set('/pool/libc6_2.0-1_amd64.deb', newer.bytes);
    return { project, newer: newer.entry, cache: await Cache.open(project.cacheDir) };
  }

  test('an index that InRelease does not name is refused', async () => {
    const { cache } = await withIndex((index) => Buffer.concat([index, Buffer.alloc(4)]));
    await expect(fetchDebIndex('bookworm', cache, { keyring: '/nowhere' })).rejects.toMatchObject({
      code: 'ERR_MIRROR_INDEX',
      exitCode: 3,
    });
  });

  test.skipIf(!existsSync(KEYRING) || !existsSync('/usr/bin/gpgv'))(
    "an InRelease without Debian's signature is refused (needs gpgv and the keyring)",
    async () => {
      const { cache } = await withIndex();
      await expect(fetchDebIndex('bookworm', cache)).rejects.toMatchObject({
        code: 'ERR_MIRROR_SIGNATURE',
        exitCode: 3,
      });
    },
  );

  test('without a keyring the index is read, and said to be unchecked', async () => {
    const { cache } = await withIndex();
    const index = await fetchDebIndex('bookworm', cache, { keyring: '/nowhere' });
    expect(index.authenticated).toBe(false);
    expect(newestPackage(index, 'libc6')).toMatchObject({ version: '2.0-1', path: 'pool/libc6_2.0-1_amd64.deb' });
  });

  test('a suite that no mirror has', async () => {
    const { cache } = await withIndex();
    await expect(fetchDebIndex('potato', cache)).rejects.toMatchObject({ code: 'ERR_MIRROR_SUITE', exitCode: 5 });
  });

  test('a newer package is pinned with its kept files; an unchanged one is not even fetched', async () => {
    const { project, newer, cache } = await withIndex();
    const { toolkit: _, ...base } = project.lock;
    const options = { dir: project.dir, keyring: '/nowhere' };
    const resolved = await resolveNewest(base, lockEntries(base), cache, options);
    expect(resolved.base.deb).toEqual([
      base.deb[0],
      { ...newer, version: '2.0-1', path: 'pool/libc6_2.0-1_amd64.deb' },
    ]);
    expect(resolved.unauthenticated).toEqual(['bookworm']);
    expect(project.mirror.hits.filter((path) => path.startsWith('/pool/'))).toEqual(['/pool/libc6_2.0-1_amd64.deb']);
  });
});
