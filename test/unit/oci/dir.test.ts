import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { flattenDirectory } from '../../../src/oci/dir.ts';
import { imageTree } from '../../../src/oci/flatten.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import { brief, newCache } from './layer-bytes.ts';

const code = (value: string) => expect.objectContaining({ code: value, exitCode: 2 });
let root: string;
beforeEach(() => {
  root = temporaryDirectory();
  mkdirSync(join(root, 'bin'));
  mkdirSync(join(root, 'empty'), { mode: 0o700 });
  writeFileSync(join(root, 'bin/app'), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(join(root, 'a-file'), 'content', { mode: 0o600 });
  symlinkSync('/etc/passwd', join(root, 'link'));
});

const read = async () => {
  const flat = await flattenDirectory(root);
  const entry = imageTree(flat, await newCache(), 'r').find(({ path }) => path === 'r/a-file');
  return async () => {
    let text = '';
    for await (const chunk of entry?.open?.() ?? []) text += Buffer.from(chunk);
    return text;
  };
};

describe('a directory as a root file system', () => {
  test('is listed as git would: modes normalised, owners root, links kept; empty directories too', async () => {
    const flat = await flattenDirectory(root);
    expect(brief(flat)).toEqual([
      'file a-file 644 7',
      'dir bin 755',
      'file bin/app 755 10',
      'dir empty 755',
      'symlink link -> /etc/passwd',
    ]);
    expect(flat.entries.every(({ uid, gid }) => uid === 0 && gid === 0)).toBe(true);
    expect(await (await read())()).toBe('content');
  });

  test('its digest depends on names, types, what may be executed and content, and on nothing else', async () => {
    const { digest } = await flattenDirectory(root);
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    chmodSync(join(root, 'a-file'), 0o666);
    utimesSync(join(root, 'bin/app'), 1, 1);
    expect((await flattenDirectory(root)).digest).toBe(digest);
    const changes: (() => void)[] = [
      () => chmodSync(join(root, 'a-file'), 0o700),
      () => writeFileSync(join(root, 'a-file'), 'CONTENT'),
      () => mkdirSync(join(root, 'more')),
      () => rmSync(join(root, 'link')),
      () => linkSync(join(root, 'a-file'), join(root, 'second')),
    ];
    const seen = new Set([digest]);
    for (const change of changes) {
      change();
      seen.add((await flattenDirectory(root)).digest);
    }
    expect(seen.size).toBe(changes.length + 1);
  });

  test('a FIFO is left out and counted, and nobody waits for it', async () => {
    execFileSync('mkfifo', [join(root, 'pipe')]);
    const flat = await flattenDirectory(root);
    expect(flat.leftOut.special).toBe(1);
    expect(flat.notes).toHaveLength(1);
  });

  test.each<[string, () => void]>([
    ['was written to', () => appendFileSync(join(root, 'a-file'), 'x')],
    ['has other content of the same size', () => writeFileSync(join(root, 'a-file'), 'CONTENT')],
    ['was cut', () => writeFileSync(join(root, 'a-file'), 'con')],
    ['is gone', () => rmSync(join(root, 'a-file'))],
    [
      'was replaced by a link',
      () => {
        rmSync(join(root, 'a-file'));
        symlinkSync('/etc/passwd', join(root, 'a-file'));
      },
    ],
    [
      'was replaced by a FIFO',
      () => {
        rmSync(join(root, 'a-file'));
        execFileSync('mkfifo', [join(root, 'a-file')]);
      },
    ],
  ])('a file that %s since it was listed is refused, or read as it was', async (what, change) => {
    const content = await read();
    change();
    // What was appended is beyond what is read: the content is the one that was pinned.
    if (what === 'was written to') expect(await content()).toBe('content');
    else await expect(content()).rejects.toThrow(code('ERR_ROOTFS_CHANGED'));
  });

  test('a directory that changes while it is read is refused', async () => {
    for (let i = 0; i < 20; i++) writeFileSync(join(root, `f${i}`), 'x');
    const onProgress = () => writeFileSync(join(root, 'new'), 'x');
    await expect(flattenDirectory(root, { onProgress })).rejects.toThrow(code('ERR_ROOTFS_CHANGED'));
  });

  test('a file that is written to while it is read is refused', async () => {
    writeFileSync(join(root, '0'), Buffer.alloc(32 << 20));
    for (let i = 0; i < 300; i++) writeFileSync(join(root, `1-${i}`), 'x');
    // It is the first to be opened, and takes longer than the others, during which it grows.
    const onProgress = () => appendFileSync(join(root, '0'), 'x');
    await expect(flattenDirectory(root, { onProgress })).rejects.toThrow(code('ERR_ROOTFS_CHANGED'));
  });

  test('a name that is not UTF-8 is refused', async () => {
    writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0x61, 0xff])]), '');
    await expect(flattenDirectory(root)).rejects.toThrow(code('ERR_ROOTFS_ENTRY'));
  });

  test.each<[string, () => string, string]>([
    ['missing', () => join(root, 'nothing'), 'ERR_FILE_NOT_FOUND'],
    ['a file', () => join(root, 'a-file'), 'ERR_FILE_KIND'],
  ])('a root that is %s is refused', async (_, path, expected) => {
    await expect(flattenDirectory(path())).rejects.toThrow(code(expected));
  });

  test('it can be called off', async () => {
    await expect(flattenDirectory(root, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
  });

  test('more than any root file system has is refused', async () => {
    const limits = { bytes: 1000, entries: 4, names: 1000 };
    await expect(flattenDirectory(root, { limits })).rejects.toThrow(code('ERR_LAYER_TOO_LARGE'));
  });
});
