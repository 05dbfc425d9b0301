import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Cache } from '../../../src/image/cache.ts';
import { entryDigest } from '../../../src/image/fetch.ts';
import type { LockEntry } from '../../../src/image/lock-file.ts';
import { provideLicence } from '../../../src/image/provide-licence.ts';
import { type Entry, integrity, makeDeb, makeNpm, makeTar, sha256, temporaryDirectory } from '../image/fixtures.ts';

const kept = { keep: [], tree: '00'.repeat(32) };

/** A package that lies in a cache, as if it had been fetched. */
async function cached(kind: 'npm' | 'deb', entries: Entry[]) {
  const cache = await Cache.open(join(temporaryDirectory(), 'cache'));
  const bytes = kind === 'npm' ? await makeNpm(entries) : makeDeb('data.tar.gz', gzipSync(await makeTar(entries)));
  const entry = (
    kind === 'npm'
      ? { kind, name: 'pkg', version: '1.0.0', allow: '1', integrity: integrity(bytes), ...kept }
      : {
          ...{ kind, name: 'pkg', version: '1.0-1', architecture: 'amd64', suite: 'bookworm', path: 'pool/p', ...kept },
          ...{ size: bytes.length, sha256: sha256(bytes) },
        }
  ) as LockEntry;
  writeFileSync(cache.archivePath(entryDigest(entry)), bytes);
  const provide = () => provideLicence(entry, cache, { dir: cache.dir, offline: true });
  const place = cache.licencePath(entryDigest(entry));
  return { cache, entry, provide, place, archive: cache.archivePath(entryDigest(entry)) };
}
const COPYRIGHT = { name: './usr/share/doc/pkg/copyright', content: 'mine' };

describe('what states the licence of a package', () => {
  test('npm: the package.json at the top, and no other', async () => {
    const { provide } = await cached('npm', [
      { name: 'package/lib/package.json', content: '{"license":"X"}' },
      { name: 'package/package.json', content: '{"license":"MIT"}' },
    ]);
    expect(await provide()).toEqual({ path: 'package.json', bytes: Buffer.from('{"license":"MIT"}') });
  });

  test('Debian: the copyright file, or the link to another package’s', async () => {
    const plain = await cached('deb', [COPYRIGHT]);
    expect(await plain.provide()).toEqual({ path: 'usr/share/doc/pkg/copyright', bytes: Buffer.from('mine') });
    const linked = await cached('deb', [{ name: './usr/share/doc/pkg', type: 'symlink', linkname: 'other-base' }]);
    expect(await linked.provide()).toEqual({ path: 'usr/share/doc/pkg', link: 'other-base' });
    const none = await cached('deb', [{ name: './usr/share/doc/pkg2/copyright', content: 'not mine' }]);
    expect(await none.provide()).toBeNull();
  });

  test('is remembered: the package itself is not read again', async () => {
    const { provide, archive } = await cached('deb', [COPYRIGHT]);
    await provide();
    rmSync(archive);
    expect(await provide()).toMatchObject({ path: 'usr/share/doc/pkg/copyright' });
  });

  test('a remembered copy that was damaged or exchanged for something else is read anew', async () => {
    const { provide, place } = await cached('deb', [COPYRIGHT]);
    const expected = await provide();
    const whole = readFileSync(place);
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from('null\n'),
      whole.subarray(0, -1),
      Buffer.concat([whole, whole]),
    ]) {
      writeFileSync(place, bytes);
      expect(await provide()).toEqual(expected);
    }
    rmSync(place);
    mkdirSync(place);
    expect(await provide()).toEqual(expected);
  });

  test('offline, without the package and without a copy, it says so', async () => {
    const { provide, archive } = await cached('deb', [COPYRIGHT]);
    rmSync(archive);
    await expect(provide()).rejects.toMatchObject({ code: 'ERR_OFFLINE_MISSING', exitCode: 5 });
  });

  test('a package that was exchanged in the cache is not read', async () => {
    const { provide, archive } = await cached('deb', [COPYRIGHT]);
    writeFileSync(archive, makeDeb('data.tar.gz', gzipSync(await makeTar([{ ...COPYRIGHT, content: 'theirs' }]))));
    await expect(provide()).rejects.toMatchObject({ code: 'ERR_OFFLINE_MISSING' });
  });

  test('a copyright file of many megabytes, a directory and a device by that name state nothing', async () => {
    const huge = await cached('deb', [{ ...COPYRIGHT, content: Buffer.alloc(3 << 20, 'x') }]);
    expect(await huge.provide()).toBeNull();
    const directory = await cached('npm', [{ name: 'package/package.json', type: 'directory' }]);
    expect(await directory.provide()).toBeNull();
    const device = await cached('deb', [{ ...COPYRIGHT, content: '', type: 'character-device' }]);
    await expect(device.provide()).rejects.toMatchObject({ code: 'ERR_ARCHIVE_ENTRY' });
    expect(readdirSync(join(device.cache.dir, 'tmp'))).toEqual([]);
  });
});
