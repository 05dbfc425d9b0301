import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Rule } from '../../../src/image/lock-file.ts';
import { unpack } from '../../../src/image/unpack.ts';
import { unpackInWorker } from '../../../src/image/unpack-pool.ts';
import { type Entry, makeAr, makeDeb, makeNpm, makeTar, makeXz, sha256, temporaryDirectory } from './fixtures.ts';

const keep: Rule[] = [{ from: 'lib/a.so', to: 'lib/', part: 'root' }];
const good: Entry = { name: './lib/a.so', mode: 0o644, content: 'library' };
const kept = [{ part: 'root', path: 'lib/a.so', mode: '0644', size: 7, sha256: sha256('library') }];
const XZ = makeXz(Buffer.from('packed\n'));

function job(kind: 'npm' | 'deb', bytes: Buffer, rules = keep) {
  const dir = temporaryDirectory();
  const archive = join(dir, 'archive');
  writeFileSync(archive, bytes);
  return { kind, archive, keep: rules, what: 'thing@1', cacheDir: join(dir, 'cache') };
}

const unpackDeb = async (entries: Entry[], rules?: Rule[]) =>
  unpack(job('deb', makeDeb('data.tar.gz', gzipSync(await makeTar(entries))), rules));

describe('Debian packages', () => {
  test('give the selected files, whatever they are compressed with', async () => {
    const tar = await makeTar([{ name: './', type: 'directory' }, good, { name: './usr/share/doc', content: 'no' }]);
    for (const [name, data] of [
      ['data.tar', tar],
      ['data.tar.gz', gzipSync(tar)],
      ['data.tar.xz', makeXz(tar)],
      ['data.tar.zst', zstdCompressSync(tar)],
    ] as const) {
      const work = job('deb', makeDeb(name, data));
      expect(await unpack(work)).toEqual(kept);
      expect(readFileSync(join(work.cacheDir, 'files', sha256('library')), 'utf8')).toBe('library');
    }
  });

  test('a module compressed with xz is kept decompressed', async () => {
    const rules: Rule[] = [{ from: 'm/*.ko.xz', to: 'modules/m.ko', part: 'init', unpack: 'xz' }];
    expect(await unpackDeb([{ name: 'm/a.ko.xz', content: XZ }], rules)).toEqual([
      { part: 'init', path: 'modules/m.ko', mode: '0644', size: 7, sha256: sha256('packed\n') },
    ]);
  });

  test('a truncated xz stream is an error, not an endless wait', async () => {
    const rules: Rule[] = [{ from: 'm/*.ko.xz', to: 'modules/m.ko', part: 'init', unpack: 'xz' }];
    for (let length = 0; length < XZ.length; length++) {
      await expect(unpackDeb([{ name: 'm/a.ko.xz', content: XZ.subarray(0, length) }], rules)).rejects.toMatchObject({
        code: 'ERR_ARCHIVE_MALFORMED',
      });
    }
  });

  test('what is no package is refused', async () => {
    const tar = await makeTar([good]);
    const bad = [
      Buffer.from('hello'),
      Buffer.from('!<arch>\n'),
      makeAr([['control.tar', tar]]),
      makeAr([['debian-binary', Buffer.from('3.0\n')]]),
      makeDeb('data.tar.lzma', tar),
      makeDeb('other', tar),
    ];
    for (const bytes of bad) {
      await expect(unpack(job('deb', bytes))).rejects.toMatchObject({ code: 'ERR_DEB_MALFORMED', exitCode: 2 });
    }
  });

  test('a package cut off anywhere is refused', async () => {
    const data = gzipSync(await makeTar([good]));
    const whole = makeDeb('data.tar.gz', data);
    // Without the byte that pads the last member.
    for (let length = 0; length < whole.length - (data.length % 2); length++) {
      await expect(unpack(job('deb', whole.subarray(0, length)))).rejects.toMatchObject({ exitCode: 2 });
    }
  });
});

describe('entries that would leave the root are refused', () => {
  const escapes: Record<string, Entry[]> = {
    'dot-dot in the name': [{ name: './lib/../../etc/passwd', content: 'x' }],
    'absolute name': [{ name: '/etc/passwd', content: 'x' }],
    'symbolic link above the root': [{ name: 'lib/out', type: 'symlink', linkname: '../../etc' }],
    'absolute symbolic link that climbs out': [{ name: 'lib/out', type: 'symlink', linkname: '/../etc' }],
    'symbolic link, then a file written through it': [
      { name: 'etc', type: 'symlink', linkname: '/tmp' },
      { name: 'etc/passwd', content: 'x' },
    ],
    'hard link to outside': [{ name: 'lib/hard', type: 'link', linkname: '../../etc/passwd' }],
    'hard link to an absolute path': [{ name: 'lib/hard', type: 'link', linkname: '/etc/passwd' }],
    'hard link to a symbolic link': [
      { name: 'lib/link', type: 'symlink', linkname: '/etc/passwd' },
      { name: 'lib/hard', type: 'link', linkname: 'lib/link' },
    ],
  };
  for (const [attack, entries] of Object.entries(escapes)) {
    test(`deb: ${attack}`, async () => {
      await expect(unpackDeb([...entries, good])).rejects.toMatchObject({ code: 'ERR_ARCHIVE_ESCAPE', exitCode: 2 });
    });
    test(`npm: ${attack}`, async () => {
      const bytes = await makeNpm([...entries, { name: 'package/lib/a.so', content: 'library' }]);
      await expect(unpack(job('npm', bytes))).rejects.toMatchObject({ code: 'ERR_ARCHIVE_ESCAPE' });
    });
  }

  test('links inside the root are no obstacle, absolute ones count from it', async () => {
    const links: Entry[] = [
      { name: './lib64/ld.so', type: 'symlink', linkname: '/lib/ld.so' },
      { name: './lib/b.so', type: 'symlink', linkname: '../lib/a.so' },
    ];
    expect(await unpackDeb([...links, good, { name: './lib/hard', type: 'link', linkname: './lib/a.so' }])).toEqual(
      kept,
    );
  });
});

describe('hostile or unexpected content', () => {
  test('the same path twice', async () => {
    await expect(unpackDeb([good, { ...good, name: 'lib//a.so', content: 'evil' }])).rejects.toMatchObject({
      code: 'ERR_ARCHIVE_DUPLICATE',
    });
  });

  test('a file below a file', async () => {
    await expect(unpackDeb([good, { name: 'lib/a.so/x', content: 'x' }])).rejects.toMatchObject({
      code: 'ERR_ARCHIVE_ENTRY',
    });
  });

  test('a device', async () => {
    await expect(unpackDeb([good, { name: 'dev/sda', type: 'block-device' }])).rejects.toMatchObject({
      code: 'ERR_ARCHIVE_ENTRY',
    });
  });

  test('a selected name that is a link', async () => {
    const entries: Entry[] = [{ name: 'lib/a.so', type: 'symlink', linkname: 'a.so.1' }];
    await expect(unpackDeb(entries)).rejects.toMatchObject({ code: 'ERR_INPUT_SELECTION' });
  });

  test('a rule that selects nothing, or two files where it names one place', async () => {
    await expect(unpackDeb([{ name: 'lib/b.so', content: 'x' }])).rejects.toMatchObject({
      code: 'ERR_INPUT_SELECTION',
    });
    const rules: Rule[] = [{ from: 'lib/*.so', to: 'lib/one.so', part: 'root' }];
    await expect(unpackDeb([good, { name: 'lib/b.so', content: 'x' }], rules)).rejects.toThrow(/expected one file/);
  });

  test('a failed unpacking does not keep the xz library from the next one', async () => {
    const tar = await makeTar([{ name: '../out', content: 'x' }, good]);
    const bad = job('deb', makeDeb('data.tar.xz', makeXz(tar)));
    const fine = job('deb', makeDeb('data.tar.xz', makeXz(await makeTar([good]))));
    await expect(Promise.all([unpack(bad), unpack(fine)])).rejects.toMatchObject({ code: 'ERR_ARCHIVE_ESCAPE' });
    expect(await unpack(fine)).toEqual(kept);
  });

  test('an error keeps its code on the way out of the worker thread', async () => {
    await expect(unpackInWorker(job('deb', Buffer.from('hello')))).rejects.toMatchObject({
      code: 'ERR_DEB_MALFORMED',
      exitCode: 2,
    });
  });
});

test('empty packages are refused', async () => {
  for (const work of [job('npm', Buffer.alloc(0)), job('deb', makeDeb('data.tar', Buffer.alloc(0)))]) {
    await expect(unpack(work)).rejects.toMatchObject({ code: 'ERR_ARCHIVE_MALFORMED', exitCode: 2 });
  }
});

test('npm tarballs are selected from below their top directory', async () => {
  const bytes = await makeNpm([
    { name: 'package/lib/a.so', mode: 0o755, content: 'library' },
    { name: 'package/README.md', content: 'no' },
  ]);
  expect(await unpackInWorker(job('npm', bytes))).toEqual([{ ...kept[0], mode: '0755' }]);
});
