import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { extractCpio } from '../../../src/image/cpio-extract.ts';
import { asOrdinaryUser, giveAway, isRoot } from '../../ordinary-user.ts';
import { DIR, LINK, pieces, type RawEntry, rawArchive } from './cpio-bytes.ts';

let base: string;
let root: string;
let outside: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'extract-'));
  root = join(base, 'root');
  outside = join(base, 'outside');
  mkdirSync(root);
  mkdirSync(outside);
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

const extract = (...entries: RawEntry[]) => extractCpio(pieces(rawArchive(...entries), 50), root);
const code = (value: string) => expect.objectContaining({ code: value });
const mode = (path: string) => lstatSync(join(root, path)).mode & 0o7777;

describe('extractCpio', () => {
  test('files, directories and links, with their modes whatever the umask', async () => {
    const before = process.umask(0o077);
    try {
      await extract(
        { name: 'closed', mode: 0o040555 },
        { name: 'closed/file', mode: 0o100666, body: 'x'.repeat(1000) },
        { name: 'tmp', mode: 0o041777 },
        { name: 'link', mode: LINK, body: '/etc/passwd' },
        { name: 'empty', mode: 0o100755 },
      );
    } finally {
      process.umask(before);
    }
    expect(readFileSync(join(root, 'closed/file'), 'utf8')).toBe('x'.repeat(1000));
    expect(readlinkSync(join(root, 'link'))).toBe('/etc/passwd');
    expect([mode('closed'), mode('closed/file'), mode('tmp'), mode('empty')]).toEqual([0o555, 0o666, 0o1777, 0o755]);
    // Whoever is not root could not remove it otherwise.
    chmodSync(join(root, 'closed'), 0o755);
  });

  test('two archives unpack into one tree, directories in common', async () => {
    await extract({ name: 'rootfs', mode: DIR }, { name: 'init', body: 'first' });
    await extract({ name: 'rootfs', mode: DIR }, { name: 'rootfs/app', body: 'second' });
    expect(readdirSync(root).sort()).toEqual(['init', 'rootfs']);
  });

  test('a later archive cannot replace the init', async () => {
    await extract({ name: 'init', body: 'ours' });
    await expect(extract({ name: 'init', body: 'theirs' })).rejects.toThrow(code('ERR_CPIO_EXISTS'));
    expect(readFileSync(join(root, 'init'), 'utf8')).toBe('ours');
  });

  test("a later archive cannot write through an earlier one's link", async () => {
    await extract({ name: 'rootfs', mode: LINK, body: outside });
    const attack = extract({ name: 'rootfs', mode: DIR }, { name: 'rootfs/x', body: 'out' });
    await expect(attack).rejects.toThrow(code('ERR_CPIO_EXISTS'));
    expect(readdirSync(outside)).toEqual([]);
  });

  test('a file is never written through a link that is there already', async () => {
    writeFileSync(join(outside, 'victim'), 'before');
    symlinkSync(join(outside, 'victim'), join(root, 'file'));
    await expect(extract({ name: 'file', body: 'after' })).rejects.toThrow(code('ERR_CPIO_EXISTS'));
    expect(readFileSync(join(outside, 'victim'), 'utf8')).toBe('before');
  });

  test.each<[string, RawEntry[]]>([
    ["'..'", [{ name: '../outside/x', body: 'out' }]],
    ['an absolute path', [{ name: '/tmp/atoma-escape', body: 'out' }]],
    [
      'a link',
      [
        { name: 'l', mode: LINK, body: '../outside' },
        { name: 'l/x', body: 'out' },
      ],
    ],
  ])('an entry that escapes by %s is refused and writes nothing outside', async (_, entries) => {
    await expect(extract(...entries)).rejects.toThrow(code('ERR_CPIO_ESCAPE'));
    expect(readdirSync(outside)).toEqual([]);
    expect(existsSync('/tmp/atoma-escape')).toBe(false);
  });

  test('a file with several names is one file', async () => {
    const entry = { nlink: 2, inode: 5 };
    await extract({ name: 'a', ...entry, body: 'one' }, { name: 'd', mode: DIR }, { name: 'd/b', ...entry });
    expect(lstatSync(join(root, 'd/b')).ino).toBe(lstatSync(join(root, 'a')).ino);
    expect(readFileSync(join(root, 'd/b'), 'utf8')).toBe('one');
  });

  test('a hard link is never made to what an earlier archive has left', async () => {
    writeFileSync(join(outside, 'victim'), 'before');
    symlinkSync(join(outside, 'victim'), join(root, 'b'));
    const entry = { nlink: 2, inode: 5 };
    const attack = extract({ name: 'a', ...entry, body: 'one' }, { name: 'b', ...entry });
    await expect(attack).rejects.toThrow(code('ERR_CPIO_EXISTS'));
    expect(readFileSync(join(outside, 'victim'), 'utf8')).toBe('before');
  });

  const owned: RawEntry[] = [
    { name: 'd', mode: 0o042755, uid: 1000, gid: 1001 },
    { name: 'd/f', mode: 0o100640, uid: 1000, gid: 1001, body: 'x' },
    { name: 'd/l', mode: LINK, uid: 1000, gid: 1001, body: 'f' },
    { name: 'd/s', mode: 0o104755, uid: 0, gid: 1001, body: 'x' },
  ];
  const owners = () => owned.map(({ name }) => lstatSync(join(root, String(name)))).map(({ uid, gid }) => [uid, gid]);
  const modes = () => ['d', 'd/f', 'd/s'].map(mode);

  test.runIf(isRoot)('root gives entries to their owners', async () => {
    await extract(...owned);
    expect(owners()).toEqual([
      [1000, 1001],
      [1000, 1001],
      [1000, 1001],
      [0, 1001],
    ]);
    expect(modes()).toEqual([0o2755, 0o640, 0o4755]);
  });

  test('somebody who may not give files away keeps them', async () => {
    const archive = join(base, 'archive');
    writeFileSync(archive, rawArchive(...owned));
    giveAway(root);
    chmodSync(base, 0o755);
    const module = resolve(import.meta.dirname, '../../../src/image/cpio-extract.ts');
    const script = `const { extractCpio } = await import(process.argv[1]);
      await extractCpio([(await import('node:fs')).readFileSync(process.argv[2])], process.argv[3]);`;
    const command = asOrdinaryUser([process.execPath, '--input-type=module', '-e', script, module, archive, root]);
    execFileSync(command[0] ?? '', command.slice(1), { stdio: 'pipe' });
    const { uid, gid } = lstatSync(root);
    expect(owners()).toEqual(owned.map(() => [uid, gid]));
    // Writing to a set-id file as its ordinary owner takes the bit away (inode(7)).
    expect(modes()).toEqual([0o2755, 0o640, 0o755]);
  });
});
