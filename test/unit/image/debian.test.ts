import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { debianMirrors, parseDeb822, parseOneLine } from '../../../src/image/apt-sources.ts';
import { newestPackage } from '../../../src/image/deb-index.ts';
import { compareDebVersions } from '../../../src/image/deb-version.ts';
import { archiveOf, findMirrors } from '../../../src/image/mirrors.ts';
import { temporaryDirectory } from './fixtures.ts';

test.each([
  ['1.0', '1.0', 0],
  ['1.0-1', '1.0-2', -1],
  ['1.9', '1.10', -1],
  ['1:0.1', '9.9', 1],
  ['1.0~rc1', '1.0', -1],
  ['1.0', '1.0+b1', -1],
  ['6.12.90+deb12', '6.12.90+deb12.1', -1],
  ['2.36-9+deb12u9', '2.36-9+deb12u14', -1],
  ['1.0a', '1.0+', -1],
  ['1.01', '1.1', 0],
  ['1.0-1~bpo12+1', '1.0-1', -1],
])('Debian version %s against %s', (a, b, sign) => {
  expect(Math.sign(compareDebVersions(a, b))).toBe(sign);
  expect(Math.sign(compareDebVersions(b, a))).toBe(-sign || 0);
});

const DEB822 = `# comment
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
`;

test('mirrors of the main archive are told from security, vendors and other distributions', () => {
  expect(debianMirrors(parseDeb822(DEB822))).toEqual(['http://mirror.example/debian']);
  const oneLine = `deb cdrom:[Debian]/ bookworm main
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://vendor.example/apt vendor main
deb http://ubuntu.example/ubuntu noble main universe
deb [ arch=amd64 ] http://one.example/debian trixie main contrib # a comment
deb-src http://src.example/debian trixie main
deb http://nomain.example/debian trixie contrib
`;
  expect(debianMirrors(parseOneLine(oneLine))).toEqual(['http://one.example/debian']);
});

test('the variable wins over apt; neither is exit 5 with the mend', async () => {
  const apt = temporaryDirectory();
  mkdirSync(join(apt, 'sources.list.d'));
  await expect(findMirrors({}, apt)).rejects.toMatchObject({ code: 'ERR_MIRROR_MISSING', exitCode: 5 });
  writeFileSync(join(apt, 'sources.list'), 'deb http://list.example/debian sid main\n');
  writeFileSync(join(apt, 'sources.list.d', 'x.sources'), DEB822);
  writeFileSync(join(apt, 'sources.list.d', 'x.sources.save'), DEB822.replace('mirror', 'backup'));
  expect(await findMirrors({}, apt)).toEqual(['http://list.example/debian', 'http://mirror.example/debian']);
  expect(await findMirrors({ ATOMA_TEE_DEBIAN_MIRROR: 'http://mine.example/d/' }, apt)).toEqual([
    'http://mine.example/d',
  ]);
  await expect(findMirrors({ ATOMA_TEE_DEBIAN_MIRROR: 'mine' }, apt)).rejects.toMatchObject({
    code: 'ERR_MIRROR_URL',
    exitCode: 2,
  });
});

test('the newest of several versions is found by name or pattern', () => {
  const stanza = (name: string, version: string) =>
    `Package: ${name}\nVersion: ${version}\nFilename: pool/${name}_${version}.deb\nSize: 7\nSHA256: ${'a'.repeat(64)}\n`;
  const text = [stanza('k-6.12.9-cloud', '6.12.9-1'), stanza('k-6.12.10-cloud', '6.12.10-1'), stanza('k', '9')].join(
    '\n',
  );
  const index = { text, authenticated: false };
  expect(newestPackage(index, 'k-6.12.*-cloud')).toMatchObject({ name: 'k-6.12.10-cloud', size: 7 });
  expect(newestPackage(index, 'k')).toMatchObject({ version: '9' });
  expect(newestPackage(index, 'none')).toBeNull();
});

test('security updates come from the other archive, with a variable of its own', async () => {
  const apt = temporaryDirectory();
  mkdirSync(join(apt, 'sources.list.d'));
  writeFileSync(join(apt, 'sources.list.d', 'x.sources'), DEB822);
  const main = { ATOMA_TEE_DEBIAN_MIRROR: 'http://mine.example/d/' };
  expect(await findMirrors(main, apt, archiveOf('pool/updates/main/l/linux-6.12/x.deb'))).toEqual([
    'http://mirror.example/debian-security',
  ]);
  expect(await findMirrors(main, apt, archiveOf('pool/main/l/linux/x.deb'))).toEqual(['http://mine.example/d']);
  const both = { ...main, ATOMA_TEE_DEBIAN_SECURITY_MIRROR: 'http://mine.example/s' };
  expect(await findMirrors(both, apt, 'security')).toEqual(['http://mine.example/s']);
});
