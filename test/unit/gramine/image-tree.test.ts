import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { extract } from 'tar-stream';
import { expect, test } from 'vitest';
import { imageRoot, ordered, writeTree } from '../../../src/gramine/image-tree.ts';
import { checkOciLayout } from '../../../src/gramine/oci-check.ts';
import { writeOciLayout } from '../../../src/gramine/oci-image.ts';
import type { TreeEntry } from '../../../src/image/cpio.ts';
import { directory, ownEntry } from '../../../src/image/ramdisks.ts';
import { sha256, temporaryDirectory } from '../image/fixtures.ts';

const MTIME = 1_700_000_000;
const file = (path: string, content = path, mode = 0o644): TreeEntry =>
  ownEntry({ path, mode, content: Buffer.from(content) });
const symlink = (path: string, target: string): TreeEntry => ({ path, type: 'symlink', target, mode: 0o777, size: 0 });

/** As a container image has it: directories in directories, thousands of files, names of every kind, links. */
function large(count: number): TreeEntry[] {
  const entries = new Map<string, TreeEntry>();
  for (let i = 0; i < count; i++) {
    const parts = ['lib', `d${i % 17}`, `é${i % 5}`, 'x'.repeat(1 + (i % 90)), `f ${i}.js`];
    for (let n = 1; n < parts.length; n++) {
      const path = parts.slice(0, n).join('/');
      entries.set(path, directory(path));
    }
    const path = parts.join('/');
    entries.set(path, file(path, `${i}`, i % 3 ? 0o644 : 0o755));
  }
  const [first] = [...entries.values()].filter(({ type }) => type === 'file');
  entries.set('other', { path: 'other', type: 'link', target: first?.path ?? '', mode: 0o644, size: 0 });
  entries.set('ln', symlink('ln', 'other'));
  return ordered([...entries.values()]);
}

test('many files come out with their modes, times and bytes, whatever the umask', async () => {
  const entries = large(1500);
  const dir = temporaryDirectory();
  const before = process.umask(0o077);
  try {
    await writeTree(dir, entries, MTIME);
  } finally {
    process.umask(before);
  }
  expect(readdirSync(dir, { recursive: true, withFileTypes: true })).toHaveLength(entries.length);
  const wrong = entries.filter(({ path, type, mode, target }) => {
    const found = lstatSync(join(dir, path));
    if (found.mtimeMs !== MTIME * 1000) return true;
    return type === 'symlink' ? readlinkSync(join(dir, path)) !== target : (found.mode & 0o7777) !== mode;
  });
  const names = wrong.map(({ path }) => path);
  // One of two names of a file: the modes are those of the other.
  expect(names).toEqual(names.filter((path) => path === 'other'));
  const [path = ''] = entries.filter(({ type }) => type === 'file').map((entry) => entry.path);
  expect(readFileSync(join(dir, path), 'utf8')).toMatch(/^\d+$/);
});

test('the OCI layout holds the same entries in the same order, and is the same twice', async () => {
  const layers = [large(300), [file('added')]];
  const image = { layers, entrypoint: ['x'], workdir: '/', mtime: MTIME };
  const dirs = [temporaryDirectory(), temporaryDirectory()] as const;
  const digests = [];
  for (const dir of dirs) digests.push((await writeOciLayout(dir, image)).manifest);
  expect(digests[0]).toBe(digests[1]);
  const blobs = (dir: string) => readdirSync(join(dir, 'blobs/sha256')).sort();
  expect(blobs(dirs[0])).toEqual(blobs(dirs[1]));
  for (const name of blobs(dirs[0])) expect(sha256(readFileSync(join(dirs[0], 'blobs/sha256', name)))).toBe(name);
  expect(await checkOciLayout(dirs[0])).toEqual({ manifest: digests[0], extra: [] });

  const manifest = JSON.parse(readFileSync(join(dirs[0], 'blobs/sha256', digests[0] ?? ''), 'utf8'));
  const layer = readFileSync(join(dirs[0], 'blobs/sha256', manifest.layers[0].digest.slice(7)));
  const tar = extract();
  tar.end(layer);
  const names: string[] = [];
  for await (const entry of tar) {
    const { name, uid, gid, mtime, type } = entry.header;
    names.push(type === 'directory' ? name.replace(/\/$/, '') : name);
    expect([uid, gid, mtime?.getTime()]).toEqual([0, 0, MTIME * 1000]);
    entry.resume();
  }
  expect(names).toEqual(layers[0]?.map(({ path }) => path));
});

test('nothing is written through a link, neither one that is there nor one of the tree', async () => {
  const [dir, victim] = [temporaryDirectory(), temporaryDirectory()];
  symlinkSync(victim, join(dir, 'lib'));
  await expect(writeTree(dir, [directory('lib'), file('lib/x')], MTIME)).rejects.toMatchObject({ code: 'EEXIST' });
  const tree = [symlink('etc', victim), file('etc/x')];
  await expect(writeTree(temporaryDirectory(), tree, MTIME)).rejects.toMatchObject({ code: 'ERR_CPIO_PARENT' });
  symlinkSync(join(victim, 'made'), join(dir, 'y'));
  await expect(writeTree(dir, [file('y')], MTIME)).rejects.toMatchObject({ code: 'EEXIST' });
  expect(readdirSync(victim)).toEqual([]);
});

test('a file of another length than it said is refused, in a tree and in a layer, and leaves no layer', async () => {
  for (const size of [3, 5]) {
    const lying = { ...file('x', 'four'), size };
    const expected = { code: 'ERR_CPIO_CONTENT', exitCode: 2 };
    await expect(writeTree(temporaryDirectory(), [lying], MTIME)).rejects.toMatchObject(expected);
    const image = { layers: [[lying]], entrypoint: [], workdir: '/', mtime: MTIME };
    const dir = temporaryDirectory();
    await expect(writeOciLayout(dir, image)).rejects.toMatchObject(expected);
    expect(readdirSync(dir)).toEqual(['blobs']);
  }
});

test("a ramdisk's paths start at the image's root, without what only the kernel's unpacking needs", () => {
  const root = imageRoot([
    directory('rootfs'),
    file('rootfs/bin'),
    { path: 'rootfs/also', type: 'link', target: 'rootfs/bin', mode: 0o644, size: 0 },
    file('rootfs/~complete'),
  ]);
  expect(root.map(({ path, target }) => [path, target])).toEqual([
    ['also', 'bin'],
    ['bin', undefined],
  ]);
});

test('a tree is its owner’s to remove, though a directory of it was read-only', async () => {
  const dir = temporaryDirectory();
  mkdirSync(join(dir, 'out'));
  await writeTree(join(dir, 'out'), [{ ...directory('ro'), mode: 0o555 }, file('ro/x')], MTIME);
  expect(statSync(join(dir, 'out/ro')).mode & 0o777).toBe(0o755);
  chmodSync(join(dir, 'out'), 0o755);
});
