import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { cpioFileSink, listCpio } from '../../../src/image/cpio-list.ts';
import { DIR, FILE, LINK, pieces, type RawEntry, rawArchive, rawEntry } from './cpio-bytes.ts';

const code = (value: string | RegExp) => expect.objectContaining({ code: expect.stringMatching(value), exitCode: 2 });
const good: RawEntry[] = [
  { name: 'd', mode: DIR, nlink: 2 },
  { name: 'd/file', body: 'content of thirteen and more' },
  { name: 'd/link', mode: LINK, body: '../elsewhere' },
  { name: 'e', body: '' },
];

describe('cpio reader', () => {
  test.each([1, 3, 7, 110, 113, 4096])('pieces of %d bytes make no difference', async (size) => {
    const whole = await listCpio([rawArchive(...good)]);
    expect(await listCpio(pieces(rawArchive(...good), size))).toEqual(whole);
    expect(whole.map((e) => e.path)).toEqual(['d', 'd/file', 'd/link', 'e']);
    expect(whole[1]?.sha256).toBe(createHash('sha256').update('content of thirteen and more').digest('hex'));
    expect(whole[2]?.target).toBe('../elsewhere');
  });

  test('a file with several names is told from files that only seem to be one', async () => {
    const entries: RawEntry[] = [
      { name: 'a', nlink: 3, inode: 7, uid: 5, gid: 6, body: 'content' },
      { name: 'b', nlink: 3, inode: 7, uid: 5, gid: 6 },
      { name: 'c', nlink: 1, inode: 7, body: 'other' },
      { name: 'd', nlink: 2, inode: 8 },
      { name: 'e', nlink: 3, inode: 7, uid: 5, gid: 6 },
    ];
    const list = await listCpio(pieces(rawArchive(...entries), 9));
    expect(list.map(({ path, type, target, uid, gid, size }) => [path, type, target, uid, gid, size])).toEqual([
      ['a', 'file', undefined, 5, 6, 7],
      ['b', 'link', 'a', 5, 6, 0],
      ['c', 'file', undefined, 0, 0, 5],
      ['d', 'file', undefined, 0, 0, 0],
      ['e', 'link', 'a', 5, 6, 0],
    ]);
  });

  test('truncation at every length is refused', async () => {
    const bytes = rawArchive(...good);
    for (let length = 0; length < bytes.length; length++) {
      await expect(listCpio([bytes.subarray(0, length)]), `${length} bytes`).rejects.toThrow(code('ERR_CPIO_'));
    }
  });

  test('no bit flip makes it fail other than cleanly', async () => {
    const bytes = rawArchive(...good);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const outcome = await listCpio([flipped]).catch((error) => error.code);
      if (typeof outcome === 'string') expect(outcome).toMatch(/^ERR_CPIO_/);
    }
  });

  test.each<[string, string, Buffer]>([
    ['an absolute path', 'ESCAPE', rawArchive({ name: '/etc/passwd' })],
    ["'..' at the start", 'ESCAPE', rawArchive({ name: '../up' })],
    ["'..' in the middle", 'ESCAPE', rawArchive({ name: 'd', mode: DIR }, { name: 'd/../../up' })],
    ['a way through an earlier symlink', 'ESCAPE', rawArchive({ name: 'l', mode: LINK, body: '/' }, { name: 'l/x' })],
    [
      'a symlink in the place of a directory',
      'DUPLICATE',
      rawArchive({ name: 'd', mode: DIR }, { name: 'd', mode: LINK, body: '/' }),
    ],
    ['a duplicate', 'DUPLICATE', rawArchive({ name: 'a', body: 'x' }, { name: 'a', body: 'y' })],
    ['a missing parent', 'PARENT', rawArchive({ name: 'd/x' })],
    ['a file as parent', 'PARENT', rawArchive({ name: 'd' }, { name: 'd/x' })],
    ['a NUL in a name', 'NAME', rawArchive({ name: 'a\0b' })],
    ['a name without its NUL', 'NAME', rawArchive({ name: 'abcd', nameSize: 4 })],
    ['an empty name', 'NAME', rawArchive({ name: '' })],
    ['a name size of 0', 'NAME', rawArchive({ name: 'a', nameSize: 0 })],
    ['a name of 4 GiB', 'NAME', rawArchive({ name: 'a', nameSize: 0xffffffff })],
    ['a name that is not UTF-8', 'NAME', rawArchive({ name: Buffer.from([0x61, 0xff]) })],
    ["a '.' component", 'NAME', rawArchive({ name: './a' })],
    ['an empty component', 'NAME', rawArchive({ name: 'd', mode: DIR }, { name: 'd//x' })],
    ['a NUL in a link target', 'NAME', rawArchive({ name: 'l', mode: LINK, body: 'a\0b' })],
    ['an empty link target', 'NAME', rawArchive({ name: 'l', mode: LINK })],
    ['a link target of a megabyte', 'NAME', rawArchive({ name: 'l', mode: LINK, body: 'x'.repeat(1 << 20) })],
    ['a symlink of two names', 'HARDLINK', rawArchive({ name: 'a', mode: LINK, nlink: 2, body: 'x' })],
    [
      'a hard link that would overwrite the file',
      'HARDLINK',
      rawArchive({ name: 'a', nlink: 2, body: 'x' }, { name: 'b', nlink: 2, body: 'y' }),
    ],
    [
      'a hard link whose content comes last',
      'HARDLINK',
      rawArchive({ name: 'a', nlink: 2 }, { name: 'b', nlink: 2, body: 'y' }),
    ],
    [
      'a hard link that would change the mode of the file',
      'HARDLINK',
      rawArchive({ name: 'a', nlink: 2 }, { name: 'b', nlink: 2, mode: 0o104755 }),
    ],
    [
      'a hard link that would give the file away',
      'HARDLINK',
      rawArchive({ name: 'a', nlink: 2 }, { name: 'b', nlink: 2, uid: 1000 }),
    ],
    ['a character device', 'SPECIAL', rawArchive({ name: 'mem', mode: 0o020666 })],
    ['a block device', 'SPECIAL', rawArchive({ name: 'sda', mode: 0o060660 })],
    ['a pipe', 'SPECIAL', rawArchive({ name: 'p', mode: 0o010644 })],
    ['a socket', 'SPECIAL', rawArchive({ name: 's', mode: 0o140644 })],
    ['a directory with content', 'MALFORMED', rawArchive({ name: 'd', mode: DIR, body: 'x' })],
    [
      'another format of cpio',
      'MAGIC',
      Buffer.from(rawArchive({ name: 'a' }).toString('latin1').replace('070701', '070702'), 'latin1'),
    ],
    [
      'a digit that is none',
      'MALFORMED',
      Buffer.from(rawArchive({ name: 'a' }).toString('latin1').replace('070701000', '070701+00'), 'latin1'),
    ],
    [
      'a second archive behind the first',
      'TRAILING',
      Buffer.concat([rawArchive({ name: 'a' }), rawArchive({ name: 'init' })]),
    ],
    ['content behind the end', 'TRAILING', Buffer.concat([rawArchive(), Buffer.alloc(511), Buffer.from('x')])],
    ['no end', 'TRUNCATED', rawEntry({ name: 'a' })],
    ['nothing at all', 'TRUNCATED', Buffer.alloc(0)],
    ['a file longer than the archive', 'TRUNCATED', rawArchive({ name: 'a', body: 'x', size: 0xffffffff })],
    ['an uneven length', 'MALFORMED', Buffer.concat([rawArchive(), Buffer.alloc(1)])],
  ])('%s is refused', async (_, expected, bytes) => {
    await expect(listCpio([bytes])).rejects.toThrow(code(`ERR_CPIO_${expected}`));
    await expect(listCpio(pieces(bytes, 5))).rejects.toThrow(code(`ERR_CPIO_${expected}`));
  });

  test.each<[string, RawEntry[]]>([
    [
      'an init beside it',
      [
        { name: 'rootfs', mode: DIR },
        { name: 'init', body: '#!' },
      ],
    ],
    ['a name that begins alike', [{ name: 'rootfs2', mode: DIR }]],
    ['the directory being a link', [{ name: 'rootfs', mode: LINK, body: '/' }]],
  ])('an application archive with %s is refused', async (_, entries) => {
    const options = { under: 'rootfs' };
    await expect(listCpio([rawArchive(...entries)], options)).rejects.toThrow(code('ERR_CPIO_OUTSIDE'));
  });
});

describe('cpioFileSink', () => {
  const read = (bytes: Buffer, path: string, max = 100) => {
    const sink = cpioFileSink(path, max);
    for (const piece of pieces(bytes, 9)) sink.write(piece);
    sink.end();
    return sink.content()?.toString();
  };

  test('keeps the one file', () => {
    expect(read(rawArchive(...good), 'd/file')).toBe('content of thirteen and more');
    expect(read(rawArchive(...good), 'e')).toBe('');
    expect(read(rawArchive(...good), 'd/link')).toBeUndefined();
    expect(read(rawArchive(...good), 'nothing')).toBeUndefined();
  });

  test('a file that is larger than expected is refused', () => {
    expect(() => read(rawArchive({ name: 'a', mode: FILE, body: 'xx' }), 'a', 1)).toThrow(code('ERR_CPIO_TOO_LARGE'));
  });

  test('what is wrong behind the file is not missed', () => {
    const bytes = rawArchive({ name: 'a', body: 'first' }, { name: 'a', body: 'second' });
    expect(() => read(bytes, 'a')).toThrow(code('ERR_CPIO_DUPLICATE'));
  });
});
