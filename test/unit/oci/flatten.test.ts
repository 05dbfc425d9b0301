import { describe, expect, test } from 'vitest';
import { cpioArchive } from '../../../src/image/cpio.ts';
import { listCpio } from '../../../src/image/cpio-list.ts';
import { flattenImage, imageTree } from '../../../src/oci/flatten.ts';
import { brief, flatten, layerOf, newCache, paths, type TarEntry, tar } from './layer-bytes.ts';

const code = (value: string) => expect.objectContaining({ code: value, exitCode: 2 });
const dir = (name: string, mode = 0o755): TarEntry => ({ name: `${name}/`, mode });
const file = (name: string, body = '', mode = 0o644): TarEntry => ({ name, body, mode });
const symlink = (name: string, link: string): TarEntry => ({ name, link });
const hardLink = (name: string, link: string): TarEntry => ({ name, link, type: '1' });
const whiteout = (name: string): TarEntry => {
  const slash = name.lastIndexOf('/') + 1;
  return file(`${name.slice(0, slash)}.wh.${name.slice(slash)}`);
};
const opaque = (name: string): TarEntry => file(`${name}/.wh..wh..opq`);

describe('one layer over the other', () => {
  test('files, directories and symlinks replace what has their name; a directory keeps what is in it', async () => {
    const lower = [dir('d', 0o700), file('d/a', 'old'), file('f', 'x'), symlink('l', 'd'), dir('x'), file('x/in', '')];
    const upper = [dir('d', 0o1777), file('d/b', 'new'), dir('f'), file('f/in', ''), dir('l'), file('x', 'file')];
    expect(brief(await flatten(lower, upper))).toEqual([
      'dir d 1777',
      'file d/a 644 3',
      'file d/b 644 3',
      'dir f 755',
      'file f/in 644 0',
      'dir l 755',
      'file x 644 4',
    ]);
  });

  test('the last of two entries of one name in one layer wins, as when it is unpacked', async () => {
    expect(brief(await flatten([file('a', 'first'), file('a', 'second')]))).toEqual(['file a 644 6']);
    expect(brief(await flatten([dir('a'), file('a/b', 'x'), file('a', 'y')]))).toEqual(['file a 644 1']);
  });

  test('names are brought to one form, missing directories are made, the root is never anything but 0755', async () => {
    const names = [{ name: './', mode: 0o700 }, file('./a//b/./c', 'x'), file('/etc/d', 'y')];
    expect(brief(await flatten(names as TarEntry[]))).toEqual([
      'dir a 755',
      'dir a/b 755',
      'file a/b/c 644 1',
      'dir etc 755',
      'file etc/d 644 1',
    ]);
  });

  test('entries are sorted by their bytes, not by UTF-16', async () => {
    const names = ['\u{1f600}', '\uffee', 'z', 'a-b', 'a', 'a/c'];
    const flat = await flatten([dir('a'), ...names.filter((name) => name !== 'a').map((name) => file(name))]);
    expect(paths(flat)).toEqual(['a', 'a-b', 'a/c', 'z', '\uffee', '\u{1f600}']);
  });
});

describe('whiteouts', () => {
  const lower = [dir('d'), file('d/a', 'lower'), dir('d/sub'), file('d/sub/x', 'lower'), file('f', 'lower')];

  test('remove files and whole directories of lower layers', async () => {
    expect(paths(await flatten(lower, [whiteout('d'), whiteout('f')]))).toEqual([]);
    expect(paths(await flatten(lower, [whiteout('d/sub')]))).toEqual(['d', 'd/a', 'f']);
    expect(paths(await flatten(lower, [whiteout('d/sub')], [dir('d/sub')]))).toEqual(['d', 'd/a', 'd/sub', 'f']);
  });

  test.each<[string, TarEntry[]]>([
    ['before', [whiteout('d'), dir('d', 0o700), file('d/new', 'x'), whiteout('f'), file('f', 'new')]],
    ['behind', [dir('d', 0o700), file('d/new', 'x'), whiteout('d'), file('f', 'new'), whiteout('f')]],
  ])('%s the same name of their own layer leave that alone', async (_, upper) => {
    expect(brief(await flatten(lower, upper))).toEqual(['dir d 700', 'file d/new 644 1', 'file f 644 3']);
  });

  test.each<[string, TarEntry[]]>([
    ['before', [whiteout('d'), file('d/new', 'x')]],
    ['behind', [file('d/new', 'x'), whiteout('d')]],
  ])('%s a file of their own layer whose directory they remove: the directory is a new one', async (_, upper) => {
    const owned = [{ ...dir('d', 0o700), uid: 5 }, file('d/a', '')];
    const flat = await flatten(owned, upper);
    expect(brief(flat)).toEqual(['dir d 755', 'file d/new 644 1']);
    expect(flat.entries[0]?.uid).toBe(0);
  });

  test.each<[string, TarEntry[]]>([
    ['first', [dir('d'), opaque('d'), file('d/new', 'x'), dir('d/sub'), file('d/sub/y', 'y')]],
    ['last', [dir('d'), file('d/new', 'x'), dir('d/sub'), file('d/sub/y', 'y'), opaque('d')]],
  ])('an opaque marker that comes %s hides lower siblings and not those of its own layer', async (_, upper) => {
    expect(paths(await flatten(lower, upper))).toEqual(['d', 'd/new', 'd/sub', 'd/sub/y', 'f']);
  });

  test('an opaque root hides everything below it', async () => {
    expect(paths(await flatten(lower, [file('.wh..wh..opq'), file('only', '')]))).toEqual(['only']);
  });

  test('an opaque directory through a symlinked parent hides what the link names, inside the root', async () => {
    const base = [dir('usr'), dir('usr/lib'), file('usr/lib/a', ''), symlink('lib', 'usr/lib')];
    expect(paths(await flatten(base, [opaque('lib')]))).toEqual(['lib', 'usr', 'usr/lib']);
    expect(paths(await flatten(base, [whiteout('lib/a')]))).toEqual(['lib', 'usr', 'usr/lib']);
    expect(paths(await flatten(base, [whiteout('lib')]))).toEqual(['usr', 'usr/lib', 'usr/lib/a']);
  });

  test('of nothing do nothing, and make nothing', async () => {
    expect(paths(await flatten([file('a', '')], [whiteout('b'), whiteout('no/such'), opaque('neither')]))).toEqual([
      'a',
    ]);
  });

  test('that are hard links of each other are whiteouts, as AUFS made them; its book-keeping is ignored', async () => {
    const aufs = [file('.wh..wh.aufs'), dir('.wh..wh.plnk'), file('.wh..wh.plnk/1.2', 'x')];
    const upper = [...aufs, whiteout('f'), { ...hardLink('d/.wh.a', '.wh.f') }];
    const flat = await flatten(lower, upper);
    expect(paths(flat)).toEqual(['d', 'd/sub', 'd/sub/x']);
    expect(flat.leftOut.metadata).toBe(3);
    expect(flat.notes).toEqual(['3 entries of AUFS metadata were ignored']);
  });

  test.each([
    ['nothing', '.wh.'],
    ['the directory itself', '.wh..'],
    ['the parent directory', '.wh...'],
    ['the parent directory, further down', 'd/.wh...'],
  ])('of %s are refused', async (_, name) => {
    await expect(flatten(lower, [file(name)])).rejects.toThrow(code('ERR_LAYER_ENTRY'));
  });

  test('with ".." in their path are refused', async () => {
    await expect(flatten(lower, [file('d/../../.wh.x')])).rejects.toThrow(code('ERR_LAYER_ESCAPE'));
  });

  test.each<[string, TarEntry[]]>([
    ['have content', [file('.wh.f', 'content')]],
    ['are directories', [dir('.wh.f')]],
    ['are symlinks', [symlink('.wh.f', 'x')]],
    ['are directories with files', [file('.wh.d/x', '')]],
  ])('that %s are refused', async (_, upper) => {
    await expect(flatten(lower, upper)).rejects.toThrow(code('ERR_LAYER_ENTRY'));
  });
});

describe('symlinks', () => {
  const usr = [dir('usr'), dir('usr/lib'), file('usr/lib/a', 'lower')];

  test.each(['usr/lib', '/usr/lib', '../../usr/./lib', 'usr/../usr/lib/'])(
    'a later layer writes through lib -> %s, as containerd has it',
    async (target) => {
      const flat = await flatten([...usr, symlink('lib', target)], [file('lib/b', 'upper'), dir('lib/c')]);
      expect(paths(flat)).toEqual(['lib', 'usr', 'usr/lib', 'usr/lib/a', 'usr/lib/b', 'usr/lib/c']);
      expect(flat.entries[0]?.target).toBe(target);
    },
  );

  test('a link out of the root is kept as it is, and what is written through it stays inside', async () => {
    const flat = await flatten(
      [symlink('out', '../../../etc')],
      [file('out/passwd', 'x'), symlink('abs', '/etc/shadow')],
    );
    expect(brief(flat)).toEqual([
      'symlink abs -> /etc/shadow',
      'dir etc 755',
      'file etc/passwd 644 1',
      'symlink out -> ../../../etc',
    ]);
  });

  test('a directory over a symlink replaces the link and leaves alone what it named', async () => {
    const flat = await flatten([...usr, symlink('lib', 'usr/lib')], [dir('lib'), file('lib/b', '')]);
    expect(brief(flat).slice(0, 2)).toEqual(['dir lib 755', 'file lib/b 644 0']);
    expect(paths(flat)).toEqual(['lib', 'lib/b', 'usr', 'usr/lib', 'usr/lib/a']);
  });

  test.each<[string, TarEntry[]]>([
    ['itself', [symlink('a', 'a')]],
    ['each other', [symlink('a', 'b/x'), symlink('b', 'a/x')]],
    ['ever more', [symlink('a', 'a/a/a/a')]],
    ['many', Array.from({ length: 60 }, (_, i) => symlink(i === 0 ? 'a' : `n${i}`, `n${i + 1}`))],
  ])('that lead to %s are refused as a way', async (_, links) => {
    await expect(flatten(links, [file('a/file', '')])).rejects.toThrow(code('ERR_LAYER_LINK'));
  });

  test('entries below a file are refused', async () => {
    await expect(flatten([file('a', 'x')], [file('a/b', '')])).rejects.toThrow(code('ERR_LAYER_ENTRY'));
  });
});

describe('hard links', () => {
  test('of one layer and over layers are names of one file', async () => {
    const flat = await flatten([file('b', 'content'), hardLink('c', './b')], [hardLink('a', '/c')]);
    expect(brief(flat)).toEqual(['file a 644 7', 'link b -> a', 'link c -> a']);
  });

  test.each<[string, TarEntry[]]>([
    ['replaced', [file('a', 'new!')]],
    ['removed', [whiteout('a')]],
  ])('keep the content of a file that is %s later', async (_, upper) => {
    const flat = await flatten([file('a', 'content'), hardLink('b', 'a')], upper);
    expect(flat.entries.find(({ path }) => path === 'b')).toMatchObject({ type: 'file', size: 7 });
  });

  test('to a symlink are that symlink; through one they name the file', async () => {
    const entries = [dir('d'), file('d/f', 'x'), symlink('s', 'd'), hardLink('t', 's'), hardLink('u', 's/f')];
    expect(brief(await flatten(entries))).toEqual([
      'dir d 755',
      'file d/f 644 1',
      'symlink s -> d',
      'symlink t -> d',
      'link u -> d/f',
    ]);
  });

  test('set mode and owner of the file, as when they are unpacked', async () => {
    const flat = await flatten([file('a', 'x'), { ...hardLink('b', 'a'), mode: 0o600, uid: 7 }]);
    expect(flat.entries.map(({ mode, uid }) => [mode, uid])).toEqual([
      [0o600, 7],
      [0o600, 7],
    ]);
  });

  test.each<[string, TarEntry[], string]>([
    ['nothing', [hardLink('a', 'b')], 'LINK'],
    ['a file that comes later', [hardLink('a', 'b'), file('b', 'x')], 'LINK'],
    ['a directory', [dir('b'), hardLink('a', 'b')], 'LINK'],
    ['itself', [file('a', 'x'), hardLink('a', './a')], 'LINK'],
    ['the root', [hardLink('a', '/')], 'ENTRY'],
    ['a file outside the root', [hardLink('a', '../../etc/shadow')], 'ESCAPE'],
    ['a file outside through a symlink', [symlink('s', '/etc'), hardLink('a', 's/shadow')], 'LINK'],
    ['what an earlier layer has removed', [hardLink('a', 'gone')], 'LINK'],
  ])('to %s are refused', async (_, entries, expected) => {
    await expect(flatten([file('gone', 'x')], [whiteout('gone')], entries)).rejects.toThrow(
      code(`ERR_LAYER_${expected}`),
    );
  });
});

describe('what a ramdisk or an enclave has no use for', () => {
  test('devices, FIFOs, attributes and set-id bits are left out and counted; the rest is kept', async () => {
    const flat = await flatten([
      dir('dev'),
      { name: 'dev/sda', type: '4', mode: 0o660 },
      { name: 'dev/mem', type: '3' },
      { name: 'dev/pipe', type: '6' },
      hardLink('dev/mem2', 'dev/mem'),
      {
        ...file('bin', 'x', 0o6755),
        uid: 1,
        gid: 2,
        pax: { 'SCHILY.xattr.security.capability': Buffer.from([1, 0, 255]) },
      },
      { ...hardLink('bin2', 'bin'), mode: 0o6755, uid: 1, gid: 2 },
      { ...file('sh', 'x', 0o4755), pax: { 'LIBARCHIVE.xattr.user.a': 'eA==' } },
      { ...dir('shared', 0o7777), gid: 50 },
    ]);
    expect(brief(flat)).toEqual([
      'file bin 755 1',
      'link bin2 -> bin',
      'dir dev 755',
      'file sh 755 1',
      'dir shared 3777',
    ]);
    expect(flat.entries[0]).toMatchObject({ uid: 1, gid: 2 });
    expect(flat.entries.at(-1)).toMatchObject({ gid: 50 });
    expect(flat.leftOut).toEqual({ special: 4, xattrs: 2, setid: 2, metadata: 0 });
    expect(flat.notes).toHaveLength(3);
  });

  test('a device hides what lower layers have in its place', async () => {
    const flat = await flatten([file('a', 'lower')], [{ name: 'a', type: '3' }]);
    expect(brief(flat)).toEqual([]);
  });
});

test('the entries go into a ramdisk and come out of it, contents and all', async () => {
  const cache = await newCache();
  const big = Buffer.alloc(700_000, 'abc');
  const lower = tar(dir('d'), { ...file('d/big', '', 0o755), body: big, uid: 1000, gid: 1001 }, file('empty'));
  const upper = tar(hardLink('c', 'd/big'), symlink('l', '/d'), file('small', 'text'));
  const flat = await flattenImage({ layers: [layerOf(lower, 'gzip'), layerOf(upper, 'zstd')] }, cache);
  const top = ['r', 'r/image'].map((path) => ({ path, type: 'dir' as const, mode: 0o755, size: 0 }));
  const archive = cpioArchive([...top, ...imageTree(flat, cache, 'r/image')], { mtime: 0 });
  const list = await listCpio(archive.chunks());
  expect(list.slice(2).map(({ path, type, uid, target }) => [path, type, uid, target])).toEqual([
    ['r/image/c', 'file', 0, undefined],
    ['r/image/d', 'dir', 0, undefined],
    ['r/image/d/big', 'link', 0, 'r/image/c'],
    ['r/image/empty', 'file', 0, undefined],
    ['r/image/l', 'symlink', 0, '/d'],
    ['r/image/small', 'file', 0, undefined],
  ]);
  expect(list[2]?.sha256).toBe(flat.entries[0]?.sha256);
  expect(list[2]?.size).toBe(700_000);
});
