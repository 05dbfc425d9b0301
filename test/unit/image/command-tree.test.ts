import { describe, expect, test } from 'vitest';
import type { TreeEntry } from '../../../src/image/cpio.ts';
import { cpioArchive } from '../../../src/image/cpio.ts';
import { CommandTree } from '../../../src/tasks/build/command-tree.ts';

const file = (path: string): TreeEntry => ({
  path: `r/${path}`,
  type: 'file',
  mode: 0o644,
  size: 1,
  open: () => [Buffer.from('x')],
});
const dir = (path: string): TreeEntry => ({ path: `r/${path}`, type: 'dir', mode: 0o755, size: 0 });
const link = (path: string, target: string): TreeEntry => ({
  path: `r/${path}`,
  type: 'link',
  target: `r/${target}`,
  mode: 0o644,
  size: 0,
});
const symlink = (path: string, target: string): TreeEntry => ({
  path: `r/${path}`,
  type: 'symlink',
  target,
  mode: 0o777,
  size: 0,
});
const top: TreeEntry = { path: 'r', type: 'dir', mode: 0o755, size: 0 };

/** What is there, and that a ramdisk can be made of it. */
function paths(tree: CommandTree): Record<string, string> {
  cpioArchive([top, ...tree.entries()], { mtime: 0 });
  return Object.fromEntries(
    tree.entries().map(({ path, type, target }) => [path, target === undefined ? type : `${type} ${target}`]),
  );
}

describe('the file system of a command', () => {
  test('what a mount point covers is left out; a hard link from elsewhere to it keeps the content', () => {
    const tree = new CommandTree('r', [
      dir('dev'),
      file('dev/a'),
      dir('keep'),
      link('keep/b', 'dev/a'),
      link('keep/c', 'dev/a'),
    ]);
    tree.empty('/dev');
    expect(paths(tree)).toEqual({ 'r/dev': 'dir', 'r/keep': 'dir', 'r/keep/b': 'file', 'r/keep/c': 'link r/keep/b' });
  });

  test('an included file takes the place of one name only: its other names keep the old content', () => {
    const tree = new CommandTree('r', [dir('bin'), file('bin/a'), link('bin/b', 'bin/a')]);
    tree.put({ ...file('bin/a'), size: 0 });
    const entries = tree.entries();
    expect(entries.find(({ path }) => path === 'r/bin/a')?.size).toBe(0);
    expect(entries.find(({ path }) => path === 'r/bin/b')).toMatchObject({ type: 'file', size: 1 });
  });

  test('an included file replaces a directory and everything in it', () => {
    const tree = new CommandTree('r', [dir('app'), file('app/old')]);
    tree.put(file('app'));
    expect(paths(tree)).toEqual({ 'r/app': 'file' });
  });

  test('a mount point that is a link would be mounted somewhere else: refused', () => {
    const tree = new CommandTree('r', [symlink('proc', '/etc')]);
    expect(() => tree.makeDirectory('/proc', 'a mount point')).toThrow(
      expect.objectContaining({ code: 'ERR_IMAGE_MOUNT_POINT' }),
    );
    expect(() => tree.makeDirectory('/proc/x', 'a mount point')).toThrow(/found a link to \/etc at \/proc/);
    expect(() => tree.makeDirectory('/a/../b', 'a mount point')).toThrow(/without "\.\."/);
  });

  test('what every program expects is made where it is missing, and left alone where it is a link', () => {
    const tree = new CommandTree('r', [symlink('tmp', 'var/tmp'), dir('run')]);
    tree.ensure('/tmp', 0o1777);
    tree.ensure('/tmp/below', 0o755);
    tree.ensure('/work/dir', 0o755);
    tree.ensure('/', 0o755);
    expect(paths(tree)).toEqual({ 'r/tmp': 'symlink var/tmp', 'r/run': 'dir', 'r/work': 'dir', 'r/work/dir': 'dir' });
  });
});
