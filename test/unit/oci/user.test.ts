import { beforeEach, describe, expect, test } from 'vitest';
import type { Cache } from '../../../src/image/cache.ts';
import { flattenImage } from '../../../src/oci/flatten.ts';
import type { FlatImage } from '../../../src/oci/flatten-types.ts';
import { resolveUser } from '../../../src/oci/user.ts';
import { layerOf, newCache, type TarEntry, tar } from './layer-bytes.ts';

const PASSWD = `root:x:0:0:root:/root:/bin/sh
# a comment
app:x:1000:1001:App:/home/app:/bin/sh
4242:x:77:78::/:/bin/sh
short:x:5
huge:x:99999999999:1::/:/bin/sh
negative:x:-1:-1::/:/bin/sh
`;
const GROUP = `root:x:0:
wheel:x:10:root,app
audio:x:29:other,app
app:x:1001:app
staff:x:50:application
broken:x
`;
const code = expect.objectContaining({ code: 'ERR_IMAGE_USER', exitCode: 2 });

let cache: Cache;
const image = async (...entries: TarEntry[]): Promise<FlatImage> => {
  cache = await newCache();
  return flattenImage({ layers: [layerOf(tar(...entries), 'gzip')] }, cache);
};
const passwd = { name: 'etc/passwd', body: PASSWD };
const group = { name: 'etc/group', body: GROUP };

describe("an image's USER", () => {
  let flat: FlatImage;
  beforeEach(async () => {
    flat = await image(passwd, group);
  });

  test.each<[string, { uid: number; gid: number; groups: number[] }]>([
    ['', { uid: 0, gid: 0, groups: [10] }],
    ['0', { uid: 0, gid: 0, groups: [10] }],
    ['root', { uid: 0, gid: 0, groups: [10] }],
    ['app', { uid: 1000, gid: 1001, groups: [10, 29] }],
    ['1000', { uid: 1000, gid: 1001, groups: [10, 29] }],
    ['1000:', { uid: 1000, gid: 1001, groups: [10, 29] }],
    ['app:staff', { uid: 1000, gid: 50, groups: [] }],
    ['app:7', { uid: 1000, gid: 7, groups: [] }],
    ['5000', { uid: 5000, gid: 0, groups: [] }],
    ['5000:6000', { uid: 5000, gid: 6000, groups: [] }],
    ['65534:65534', { uid: 65534, gid: 65534, groups: [] }],
    [':staff', { uid: 0, gid: 50, groups: [] }],
    // A name of digits is a name first.
    ['4242', { uid: 77, gid: 78, groups: [] }],
  ])('"%s"', async (user, expected) => {
    expect(await resolveUser(user, flat, cache)).toEqual(expected);
  });

  test.each([
    'nobody',
    'app:nogroup',
    'a:b:c',
    '-1',
    '4294967295',
    '99999999999',
    'huge',
    'negative',
    'short',
    '0x10',
    '1 ',
  ])('"%s", whom the image does not have, is refused', async (user) => {
    await expect(resolveUser(user, flat, cache)).rejects.toThrow(code);
  });
});

test('without an image numbers mean something, and names do not', async () => {
  cache = await newCache();
  expect(await resolveUser('65534:65534', null, cache)).toEqual({ uid: 65534, gid: 65534, groups: [] });
  expect(await resolveUser('', null, cache)).toEqual({ uid: 0, gid: 0, groups: [] });
  await expect(resolveUser('root', null, cache)).rejects.toThrow(code);
});

describe('hostile user files', () => {
  test('links inside the image are followed, and lead nowhere else', async () => {
    const real = { name: 'usr/share/passwd', body: PASSWD };
    const links: TarEntry[][] = [
      [real, { name: 'etc/passwd', link: '../usr/share/passwd' }],
      [real, { name: 'etc/passwd', link: '/usr/share/passwd' }],
      [real, { name: 'etc/passwd', link: '../../../../usr/./share/passwd' }],
      [
        real,
        { name: 'config/x' },
        { name: 'etc', link: 'config' },
        { name: 'config/passwd', link: '/usr/share/passwd' },
      ],
      [real, { name: 'etc/passwd', type: '1', link: 'usr/share/passwd' }],
    ];
    for (const entries of links) expect((await resolveUser('app', await image(...entries), cache)).uid).toBe(1000);
  });

  test.each<[string, TarEntry[]]>([
    ['to the file of this machine', [{ name: 'etc/passwd', link: '../../../../../../../../etc/hostname' }]],
    ['to itself', [{ name: 'etc/passwd', link: 'passwd' }]],
    [
      'in a circle',
      [
        { name: 'etc/passwd', link: '/a' },
        { name: 'a', link: 'etc/passwd' },
      ],
    ],
    ['to a directory', [{ name: 'etc/passwd', link: '/d' }, { name: 'd/' }]],
    [
      'below a file',
      [
        { name: 'etc/passwd', link: '/f/passwd' },
        { name: 'f', body: PASSWD },
      ],
    ],
  ])('a link %s has no users', async (_, entries) => {
    await expect(resolveUser('app', await image(...entries), cache)).rejects.toThrow(code);
  });

  test('a file of many megabytes is refused unread', async () => {
    const body = Buffer.alloc(5 << 20, 'x');
    await expect(resolveUser('app', await image({ name: 'etc/passwd', body }), cache)).rejects.toThrow(code);
  });

  test('more groups than the system takes are refused', async () => {
    const body = Array.from({ length: 100 }, (_, i) => `g${i}:x:${2000 + i}:app\n`).join('');
    await expect(resolveUser('app', await image(passwd, { name: 'etc/group', body }), cache)).rejects.toThrow(code);
  });
});
