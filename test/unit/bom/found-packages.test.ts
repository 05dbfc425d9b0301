import { describe, expect, test } from 'vitest';
import { findPackages } from '../../../src/bom/index.ts';
import type { TreeEntry } from '../../../src/image/cpio.ts';

const PREFIX = 'rootfs/image/';
const file = (path: string, content: string): TreeEntry => ({
  ...{ path: PREFIX + path, type: 'file', mode: 0o644, size: Buffer.byteLength(content) },
  open: () => [Buffer.from(content)],
});
const symlink = (path: string, target: string): TreeEntry => ({
  ...{ path: PREFIX + path, type: 'symlink', mode: 0o777, size: 0, target },
});
const find = (...entries: TreeEntry[]) => findPackages(entries, PREFIX);
const STATUS = `Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: a library
 Package: not-a-field

Package: removed
Status: deinstall ok config-files
Version: 1.0
`;

describe('packages in a command’s file system', () => {
  test("Debian's, with release and licence", async () => {
    const found = await find(
      file('var/lib/dpkg/status', STATUS),
      symlink('etc/os-release', '../usr/lib/os-release'),
      file('usr/lib/os-release', 'NAME="Debian"\nID=debian\nVERSION_CODENAME=bookworm\n'),
      symlink('usr/share/doc/libc6', '/usr/share/doc/libc-common'),
      file('usr/share/doc/libc-common/copyright', 'prose'),
    );
    expect(found).toEqual([
      {
        ...{ type: 'deb', name: 'libc6', version: '2.36-9+deb12u10', architecture: 'amd64' },
        distribution: { id: 'debian', version: 'bookworm' },
        licence: { kind: 'deb', document: { path: 'usr/share/doc/libc6/copyright', bytes: Buffer.from('prose') } },
        path: '/var/lib/dpkg/status',
      },
    ]);
  });

  test("distroless images', in pieces; digests of files are no packages", async () => {
    const found = await find(
      file('var/lib/dpkg/status.d/tzdata', 'Package: tzdata\nVersion: 2026a-0+deb12u1\nArchitecture: all\n'),
      file('var/lib/dpkg/status.d/tzdata.md5sums', 'Package: fake\nVersion: 1\n'),
    );
    expect(found.map(({ name }) => name)).toEqual(['tzdata']);
  });

  test("Alpine's, and npm's through a link", async () => {
    const found = await find(
      file(
        'lib/apk/db/installed',
        'C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\nP:busybox\nV:1.37.0-r1\nL:GPL-2.0-only\n',
      ),
      file('etc/os-release', 'ID=alpine\nVERSION_ID=3.22.1\n'),
      file('app/node_modules/@a/b/package.json', '{"name":"@a/b","version":"1.0.0","license":"ISC"}'),
      file('store/c.json', '{"name":"c","version":"2.0.0"}'),
      symlink('app/node_modules/c/package.json', '/store/c.json'),
      file('app/node_modules/c/lib/package.json', '{"name":"lib","version":"9.9.9"}'),
    );
    expect(found.map(({ type, name, version }) => `${type} ${name} ${version}`)).toEqual([
      'npm @a/b 1.0.0',
      'npm c 2.0.0',
      'apk musl 1.2.5-r0',
      'apk busybox 1.37.0-r1',
    ]);
    expect(found[2]).toMatchObject({
      distribution: { id: 'alpine', version: 'alpine-3.22.1' },
      licence: { text: 'MIT' },
    });
  });

  test('what is not the command’s is not looked at', async () => {
    const own = { ...file('x', STATUS), path: 'rootfs/var/lib/dpkg/status' };
    expect(await find(own)).toEqual([]);
  });

  test('hostile files name nothing: links in a circle, names that are none, another name than the directory’s, no JSON, too much', async () => {
    const found = await find(
      symlink('var/lib/dpkg/status', 'status2'),
      symlink('var/lib/dpkg/status2', 'status'),
      symlink('lib/apk/db/installed', '../../../../../../../../etc/shadow'),
      file(
        'var/lib/dpkg/status.d/a',
        'Package: ../../x y\nVersion: 1\n\nPackage: a\u001b[31m\nVersion: 1\n\nPackage: b\nVersion: <script>\n',
      ),
      file('node_modules/a/package.json', '{"name":"b","version":"1.0.0"}'),
      file('node_modules/c/package.json', '{"name":{"toString":1},"version":[]}'),
      file('node_modules/d/package.json', '['.repeat(100_000)),
      { ...file('node_modules/e/package.json', '{"name":"e","version":"1.0.0"}'), size: 2 ** 40 },
    );
    expect(found).toEqual([]);
  });

  test('attack: a licence that is no text hides no package', async () => {
    const licence = '{"type":{"toString":1}}';
    const found = await find(
      file('node_modules/a/package.json', `{"name":"a","version":"1.0.0","license":${licence}}`),
      file('node_modules/b/package.json', `{"name":"b","version":"1.0.0","licenses":[${licence},"MIT"]}`),
    );
    expect(found.map(({ name }) => name)).toEqual(['a', 'b']);
  });

  test('a database that lists a package sixty thousand times', async () => {
    const line = (i: number) => `P:p${i}\nV:1\n`;
    const found = await find(
      file('lib/apk/db/installed', Array.from({ length: 60_000 }, (_, i) => line(i)).join('\n')),
    );
    expect(found).toHaveLength(50_000);
  });
});
