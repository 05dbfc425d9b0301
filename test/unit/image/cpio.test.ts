import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cpioArchive, requireUnder, type TreeEntry } from '../../../src/image/cpio.ts';
import { listCpio } from '../../../src/image/cpio-list.ts';
import { collect } from './cpio-bytes.ts';

const file = (path: string, text: string, mode = 0o644): TreeEntry => ({
  path,
  type: 'file',
  mode,
  size: Buffer.byteLength(text),
  open: () => [Buffer.from(text)],
});
const dir = (path: string, mode = 0o755): TreeEntry => ({ path, type: 'dir', mode, size: 0 });
const link = (path: string, target: string): TreeEntry => ({ path, type: 'symlink', mode: 0, target, size: 0 });

const tree = [
  dir('rootfs'),
  file('rootfs/hello', 'hello, world'),
  file('rootfs/empty', ''),
  dir('rootfs/a'),
  dir('rootfs/a-b', 0o1777),
  file('rootfs/a/tool', '#!/bin/sh\n', 0o755),
  link('rootfs/a/up', '../hello'),
  file('rootfs/ünï', 'utf-8'),
];
const hardLink = (path: string, target: string): TreeEntry => ({ path, type: 'link', mode: 0, target, size: 0 });
const linked: TreeEntry[] = [
  { ...dir('d'), uid: 1, gid: 2 },
  { ...file('d/a', 'content', 0o750), uid: 1000, gid: 4294967294 },
  hardLink('d/c', 'd/a'),
  hardLink('d/b', 'd/a'),
  file('d/d', ''),
  hardLink('d/e', 'd/d'),
  { ...link('d/f', 'a'), uid: 3, gid: 4 },
];
const mtime = 1_700_000_000;
const code = (value: string) => expect.objectContaining({ code: value, exitCode: 2 });

describe('cpio writer', () => {
  test('the order in which entries come does not matter; the size is known beforehand', async () => {
    const first = cpioArchive(tree, { mtime });
    const second = cpioArchive([...tree].reverse(), { mtime });
    const bytes = await collect(first.chunks());
    expect(bytes.length).toBe(first.size);
    expect(bytes.length % 512).toBe(0);
    expect(await collect(second.chunks())).toEqual(bytes);
  });

  test('entries are sorted bytewise, numbered from 1, owned by 0:0, with normalised nlink and the mtime given', async () => {
    const bytes = await collect(cpioArchive([dir('b'), file('b/x', 'x'), dir('a', 0o700)], { mtime: 0x1234 }).chunks());
    const text = bytes.toString('latin1');
    const z = '00000000';
    //                 ino      mode     uid,gid   nlink    mtime    size       dev, rdev       namesize  check
    expect(text.slice(0, 110)).toBe(`07070100000001000041c0${z}${z}0000000200001234${z}${z}${z}${z}${z}00000002${z}`);
    expect(text.slice(224, 334)).toBe(
      `07070100000003000081a4${z}${z}000000010000123400000001${z}${z}${z}${z}00000004${z}`,
    );
    expect((await listCpio([bytes])).map((e) => e.path)).toEqual(['a', 'b', 'b/x']);
  });

  test('what is read back is what was written', async () => {
    const entries = await listCpio(cpioArchive(tree, { mtime }).chunks());
    expect(entries.map(({ path, type, mode, target, size }) => ({ path, type, mode, target, size }))).toEqual([
      { path: 'rootfs', type: 'dir', mode: 0o755, target: undefined, size: 0 },
      { path: 'rootfs/a', type: 'dir', mode: 0o755, target: undefined, size: 0 },
      { path: 'rootfs/a-b', type: 'dir', mode: 0o1777, target: undefined, size: 0 },
      { path: 'rootfs/a/tool', type: 'file', mode: 0o755, target: undefined, size: 10 },
      { path: 'rootfs/a/up', type: 'symlink', mode: 0o777, target: '../hello', size: 0 },
      { path: 'rootfs/empty', type: 'file', mode: 0o644, target: undefined, size: 0 },
      { path: 'rootfs/hello', type: 'file', mode: 0o644, target: undefined, size: 12 },
      { path: 'rootfs/ünï', type: 'file', mode: 0o644, target: undefined, size: 5 },
    ]);
  });

  test('owners are kept, and a file with several names has its content with the first', async () => {
    const bytes = await collect(cpioArchive(linked, { mtime }).chunks());
    const list = await listCpio([bytes]);
    expect(
      list.map(({ path, type, target, uid, gid, mode, size }) => [path, type, target, uid, gid, mode, size]),
    ).toEqual([
      ['d', 'dir', undefined, 1, 2, 0o755, 0],
      ['d/a', 'file', undefined, 1000, 4294967294, 0o750, 7],
      ['d/b', 'link', 'd/a', 1000, 4294967294, 0o750, 0],
      ['d/c', 'link', 'd/a', 1000, 4294967294, 0o750, 0],
      ['d/d', 'file', undefined, 0, 0, 0o644, 0],
      ['d/e', 'link', 'd/d', 0, 0, 0o644, 0],
      ['d/f', 'symlink', 'a', 3, 4, 0o777, 0],
    ]);
    expect(
      bytes
        .toString('latin1')
        .match(/070701.{32}(.{8})/g)
        ?.map((h) => Number.parseInt(h.slice(38), 16)),
    ).toEqual([2, 3, 3, 3, 2, 2, 1, 1]);
  });

  test.skipIf(!existsSync('/usr/bin/cpio'))('GNU cpio, where it is installed, makes the same hard links', async () => {
    const out = mkdtempSync(join(tmpdir(), 'cpio-'));
    try {
      const input = await collect(cpioArchive(linked, { mtime }).chunks());
      execFileSync('/usr/bin/cpio', ['-idm', '--quiet', '--no-preserve-owner'], { cwd: out, input });
      const inode = (path: string) => statSync(join(out, path)).ino;
      expect([inode('d/b'), inode('d/c')]).toEqual([inode('d/a'), inode('d/a')]);
      expect(inode('d/e')).toBe(inode('d/d'));
      expect(inode('d/d')).not.toBe(inode('d/a'));
      expect(readFileSync(join(out, 'd/c'), 'utf8')).toBe('content');
    } finally {
      rmSync(out, { recursive: true });
    }
  });

  test.skipIf(!existsSync('/usr/bin/cpio'))('GNU cpio, where it is installed, unpacks the same tree', async () => {
    const out = mkdtempSync(join(tmpdir(), 'cpio-'));
    try {
      const input = await collect(cpioArchive(tree, { mtime }).chunks());
      execFileSync('/usr/bin/cpio', ['-idm', '--quiet'], { cwd: out, input });
      expect(readFileSync(join(out, 'rootfs/hello'), 'utf8')).toBe('hello, world');
      expect(readlinkSync(join(out, 'rootfs/a/up'))).toBe('../hello');
      expect(statSync(join(out, 'rootfs/a/tool')).mode & 0o777).toBe(0o755);
      expect(statSync(join(out, 'rootfs/hello')).mtimeMs).toBe(mtime * 1000);
    } finally {
      rmSync(out, { recursive: true });
    }
  });

  test.each<[string, string, TreeEntry[]]>([
    ['an absolute path', 'ERR_CPIO_NAME', [file('/etc/passwd', '')]],
    ["a path with '..'", 'ERR_CPIO_NAME', [dir('a'), file('a/../b', '')]],
    ["a '.' component", 'ERR_CPIO_NAME', [file('./a', '')]],
    ['an empty name', 'ERR_CPIO_NAME', [file('', '')]],
    ['a NUL in a name', 'ERR_CPIO_NAME', [file('a\0b', '')]],
    ['a lone surrogate in a name', 'ERR_CPIO_NAME', [file('a\ud800', '')]],
    ['a component of 256 bytes', 'ERR_CPIO_NAME', [file('x'.repeat(256), '')]],
    ['the name that ends archives', 'ERR_CPIO_NAME', [file('TRAILER!!!', '')]],
    ['a NUL in a link target', 'ERR_CPIO_NAME', [link('a', 'b\0c')]],
    ['an empty link target', 'ERR_CPIO_NAME', [link('a', '')]],
    ['a missing parent', 'ERR_CPIO_PARENT', [file('a/b', '')]],
    ['a file as parent', 'ERR_CPIO_PARENT', [file('a', ''), file('a/b', '')]],
    ['a link as parent', 'ERR_CPIO_PARENT', [link('a', 'c'), dir('c'), file('a/b', '')]],
    ['a duplicate', 'ERR_CPIO_DUPLICATE', [file('a', 'x'), file('a', 'y')]],
    ['a file of 4 GiB', 'ERR_CPIO_TOO_LARGE', [{ path: 'a', type: 'file', mode: 0o644, size: 2 ** 32 }]],
    ['a negative size', 'ERR_CPIO_TOO_LARGE', [{ path: 'a', type: 'file', mode: 0o644, size: -1 }]],
    ['an owner that means "as it is"', 'ERR_CPIO_TOO_LARGE', [{ ...file('a', ''), uid: 2 ** 32 - 1 }]],
    ['a negative group', 'ERR_CPIO_TOO_LARGE', [{ ...file('a', ''), gid: -1 }]],
    ['a hard link to nothing', 'ERR_CPIO_HARDLINK', [hardLink('b', 'a')]],
    ['a hard link to what sorts behind it', 'ERR_CPIO_HARDLINK', [hardLink('a', 'b'), file('b', '')]],
    ['a hard link to a directory', 'ERR_CPIO_HARDLINK', [dir('a'), hardLink('b', 'a')]],
    ['a hard link to a hard link', 'ERR_CPIO_HARDLINK', [file('a', ''), hardLink('b', 'a'), hardLink('c', 'b')]],
    ['a hard link with content of its own', 'ERR_CPIO_MALFORMED', [file('a', ''), { ...hardLink('b', 'a'), size: 1 }]],
    ['type bits in the mode', 'ERR_CPIO_MALFORMED', [file('a', '', 0o100644)]],
  ])('%s is refused before anything is written', (_, expected, entries) => {
    expect(() => cpioArchive(entries, { mtime })).toThrow(code(expected));
  });

  test.each([-1, 2 ** 32, 1.5, Number.NaN])('an mtime of %d, which the format cannot hold, is refused', (bad) => {
    expect(() => cpioArchive(tree, { mtime: bad })).toThrow(code('ERR_CPIO_TOO_LARGE'));
  });

  test.each([
    ['shrank', 'abc', 4],
    ['grew', 'abcde', 4],
  ])('a file that %s while it was read is refused', async (_, text, size) => {
    const archive = cpioArchive([{ ...file('a', text), size }], { mtime });
    await expect(collect(archive.chunks())).rejects.toThrow(code('ERR_CPIO_CONTENT'));
  });
});

describe('requireUnder', () => {
  test('accepts a tree in its directory', () => {
    expect(() => requireUnder(tree, 'rootfs')).not.toThrow();
  });

  test.each([
    ['init beside rootfs', file('init', '')],
    ['a directory whose name only begins alike', dir('rootfs2')],
    ['rootfs as a link', link('rootfs', '/')],
  ])('%s, which could replace our init, is refused', (_, entry) => {
    expect(() => requireUnder([entry], 'rootfs')).toThrow(code('ERR_CPIO_OUTSIDE'));
  });
});
