import { execFileSync } from 'node:child_process';
import { appendFileSync, chmodSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { hashTrustedFiles } from '../../../src/gramine/hash-pool.ts';
import { expandTrustedFiles } from '../../../src/gramine/trusted-files.ts';
import { resolveInside, uriPath } from '../../../src/gramine/trusted-files-path.ts';
import { thrown, withDirectory } from './manifest-cases.ts';

const uris = (entries: unknown[], directory: string, chroot?: string) =>
  expandTrustedFiles(entries, { directory, chroot }).files.map(({ uri }) => uri);
const A = 'aa'.repeat(32);
const B = 'bb'.repeat(32);

describe('URIs', () => {
  test.each([
    ['file:a', 'a'],
    ['file:./a//b/.', 'a/b'],
    ['file:a/../b', 'a/../b'],
    ['file:', '.'],
    ['file:/', '/'],
    ['file:///a', '/a'],
    ['file://a', '//a'],
  ])('%s is the path %s, as Python says', (uri, path) => {
    expect(uriPath(uri)).toBe(path);
  });

  test('of directories: normalised, in code points, depth first where the directory stands', () =>
    withDirectory((dir) => {
      mkdirSync(join(dir, 'd/sub/x'), { recursive: true });
      for (const name of ['sub/x/1', 'sub.c', 'sub-c', 'Z', 'a', '\u{ffff}', '\u{10000}', '.h'])
        writeFileSync(join(dir, 'd', name), '');
      const names = ['.h', 'Z', 'a', 'sub/x/1', 'sub-c', 'sub.c', '\u{ffff}', '\u{10000}'];
      expect(uris(['file:.//d/'], dir)).toEqual(names.map((name) => `file:d/${name}`));
      expect(uris(['file:./'], dir)).toEqual(names.map((name) => `file:d/${name}`));
      expect(uris([`file:${dir}/d/sub/../`], dir)[0]).toBe(`file:${dir}/d/sub/../.h`);
    }));

  test('equal ones: the first keeps its place, a digest replaces none', () =>
    withDirectory((dir) => {
      for (const name of ['a', 'b']) writeFileSync(join(dir, name), '');
      const { files } = expandTrustedFiles(['file:a', 'file:b', { uri: 'file:a', sha256: A }, 'file:a', 'file:./a'], {
        directory: dir,
      });
      expect(files.map(({ uri, sha256 }) => [uri, sha256])).toEqual([
        ['file:a', A],
        ['file:b', undefined],
        ['file:./a', undefined],
      ]);
    }));
});

describe('refused', () => {
  const refusal = (entries: unknown[], directory: string, chroot?: string) =>
    thrown(() => uris(entries, directory, chroot));

  test('missing files, all of them at once', () =>
    withDirectory(async (dir) => {
      writeFileSync(join(dir, 'there'), '');
      symlinkSync('nowhere', join(dir, 'dangling'));
      const error = await refusal(['file:b', 'file:there', 'file:a', 'file:no/', 'file:dangling', 'file:there/x'], dir);
      expect(error).toMatchObject({ code: 'ERR_GRAMINE_TRUSTED_MISSING', exitCode: 2 });
      const missing = ['file:b', 'file:a', 'file:no/', 'file:dangling', 'file:there/x'];
      expect(error.details).toEqual({ missing });
      for (const uri of missing) expect(error.message).toContain(`"${uri}"`);
    }));

  test('links in a circle, named or on the way', () =>
    withDirectory(async (dir) => {
      symlinkSync('b', join(dir, 'a'));
      symlinkSync('a', join(dir, 'b'));
      symlinkSync('.', join(dir, 'self'));
      for (const [uri, chroot] of [['file:a'], ['file:a/x'], ['file:/a', dir], ['file:/b/x', dir]] as const) {
        const error = await refusal([uri], dir, chroot);
        expect(error).toMatchObject({ code: 'ERR_GRAMINE_TRUSTED', message: expect.stringContaining('circle') });
      }
      // A link to a directory is not entered, so a directory in itself ends; links in a circle are no files.
      expect(uris(['file:./'], dir)).toEqual([]);
      expect(expandTrustedFiles(['file:./'], { directory: dir }).skipped).toEqual(['file:a', 'file:b']);
    }));

  test.each([
    [['http://x'], 'begins with "file:"'],
    [
      [
        { uri: 'file:a', sha256: A },
        { uri: 'file:a', sha256: B },
      ],
      'found two',
    ],
    [[{ uri: 'file:d/', sha256: A }], 'no sha256 for a directory'],
    [[{ uri: 'file:d', sha256: A }], 'found a directory'],
    [[{ uri: 'file:a', sha265: A }], 'sha265'],
    [[{ sha256: A }], 'as a URI'],
    [[1], 'as a URI'],
    [['file:a/'], 'found a file'],
    [['file:fifo'], 'found a device, a pipe'],
    [['file:/dev/zero'], 'found a device, a pipe'],
    [['file:a\0b'], 'NUL'],
  ])('%j', (entries, why) =>
    withDirectory(async (dir) => {
      mkdirSync(join(dir, 'd'));
      writeFileSync(join(dir, 'a'), '');
      execFileSync('mkfifo', [join(dir, 'fifo')]);
      const error = await refusal(entries, dir);
      expect(error).toMatchObject({ code: 'ERR_GRAMINE_TRUSTED', exitCode: 2 });
      expect(error.message).toContain(why);
    }),
  );

  test('a name that is not UTF-8', () =>
    withDirectory(async (dir) => {
      writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0x61, 0xff])]), '');
      expect((await refusal(['file:./'], dir)).message).toContain('UTF-8');
    }));
});

describe('a chroot', () => {
  test('links stay inside, absolute ones and ".." too', () =>
    withDirectory((dir) => {
      mkdirSync(join(dir, 'r/usr/lib'), { recursive: true });
      writeFileSync(join(dir, 'outside'), 'outside');
      writeFileSync(join(dir, 'r/outside'), 'inside');
      symlinkSync('/usr/lib', join(dir, 'r/lib'));
      symlinkSync('../../../../outside', join(dir, 'r/usr/lib/up'));
      const chroot = join(dir, 'r');
      expect(resolveInside('/lib/up', chroot)).toBe('/outside');
      expect(resolveInside('/../../lib/./x', chroot)).toBe('/usr/lib/x');
      const { files } = expandTrustedFiles(['file:/lib/'], { directory: dir, chroot });
      expect(files).toEqual([{ uri: 'file:/usr/lib/up', source: { path: join(dir, 'r/outside'), size: 6 } }]);
    }));

  test('a link to what only the host has is dangling, and said, because gramine-manifest takes it', () =>
    withDirectory((dir) => {
      symlinkSync('/etc/passwd', join(dir, 'passwd'));
      const { files, skipped, hostLinks } = expandTrustedFiles(['file:/'], { directory: '/', chroot: dir });
      expect([files, skipped, hostLinks]).toEqual([[], ['file:/passwd'], ['file:/passwd']]);
    }));

  test('relative URIs and those with two slashes are refused', () =>
    withDirectory(async (dir) => {
      for (const uri of ['file:a', 'file://', 'file://a']) {
        expect(await thrown(() => uris([uri], dir, dir))).toMatchObject({ code: 'ERR_GRAMINE_TRUSTED' });
      }
    }));
});

describe('hashing', () => {
  const sizes = [0, 1, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 3 << 20];
  const expected = (dir: string, names: string[]) =>
    execFileSync(
      'sha256sum',
      names.map((name) => join(dir, name)),
      { encoding: 'utf8' },
    )
      .split('\n')
      .slice(0, -1)
      .map((line) => line.slice(0, 64));

  test.each([1, 6])('%i times files of all sizes: as sha256sum; with threads too', (times) =>
    withDirectory(async (dir) => {
      const names = sizes.flatMap((size, i) =>
        Array.from({ length: times }, (_, n) => {
          writeFileSync(join(dir, `${i}-${n}`), Buffer.alloc(size, `${i}${n}`));
          return `${i}-${n}`;
        }),
      );
      let last = { done: -1, total: 0 };
      const files = names.map((name) => ({ path: join(dir, name), size: 1 << 20 }));
      const digests = await hashTrustedFiles(files, {
        onProgress: ({ done, total = 0 }) => {
          last = { done, total };
        },
      });
      expect(digests).toEqual(expected(dir, names));
      expect(last.done).toBeGreaterThan(0);
    }),
  );

  test('a file that changes meanwhile is refused', () =>
    withDirectory(async (dir) => {
      const path = join(dir, 'log');
      writeFileSync(path, Buffer.alloc(32 << 20));
      // Another thread, because hashing leaves none of this one's time; whatever moment it hits, the file is written to.
      const writer = new Worker(
        `const { openSync, writeSync } = require('node:fs'); const { workerData, parentPort } = require('node:worker_threads');
         const fd = openSync(workerData, 'a');
         for (let i = 0; ; i++) { writeSync(fd, 'x'); if (i === 0) parentPort.postMessage(i); }`,
        { eval: true, workerData: path },
      );
      await new Promise((resolve) => writer.once('message', resolve));
      const attempt = () => hashTrustedFiles([{ path, size: 32 << 20 }]).catch((error) => error);
      let error = await attempt();
      // On a busy machine the writer may not have had its turn.
      for (let i = 0; i < 50 && Array.isArray(error); i++) error = await attempt();
      await writer.terminate();
      expect(error).toMatchObject({ code: 'ERR_GRAMINE_TRUSTED_CHANGED', exitCode: 3 });
    }));

  test('what became a pipe, vanished or was never a file after the look at it', () =>
    withDirectory(async (dir) => {
      execFileSync('mkfifo', [join(dir, 'fifo')]);
      for (const [name, code] of [
        ['fifo', 'ERR_FILE_KIND'],
        ['gone', 'ERR_FILE_NOT_FOUND'],
        ['.', 'ERR_FILE_KIND'],
      ]) {
        expect(await thrown(() => hashTrustedFiles([{ path: join(dir, String(name)), size: 1 }]))).toMatchObject({
          code,
        });
      }
    }));

  test('it can be stopped', () =>
    withDirectory(async (dir) => {
      const files = Array.from({ length: 4 }, (_, i) => ({ path: join(dir, String(i)), size: 1 << 30 }));
      for (const { path, size } of files) {
        writeFileSync(path, '');
        truncateSync(path, size);
      }
      const stop = new AbortController();
      const hashing = thrown(() => hashTrustedFiles(files, { signal: stop.signal }));
      stop.abort(new Error('stopped'));
      expect(await hashing).toMatchObject({ message: 'stopped' });
    }));
});

test('what this user may not read in a directory is left out, as Gramine leaves it out', () =>
  withDirectory((dir) => {
    writeFileSync(join(dir, 'a'), '');
    writeFileSync(join(dir, 'b'), '');
    appendFileSync(join(dir, 'b'), 'x');
    chmodSync(join(dir, 'b'), 0);
    const { files, skipped } = expandTrustedFiles(['file:./'], { directory: dir });
    // Root may read everything.
    const readable = process.getuid?.() === 0;
    expect(files.map(({ uri }) => uri)).toEqual(readable ? ['file:a', 'file:b'] : ['file:a']);
    expect(skipped).toEqual(readable ? [] : ['file:b']);
  }));
