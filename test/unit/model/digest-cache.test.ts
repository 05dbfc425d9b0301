import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/core/bytes.ts';
import { DigestCache, digestAndRecord, digestFiles, listModel } from '../../../src/model/index.ts';

let dir: string;
let cacheDir: string;
let model: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'atoma-digests-'));
  cacheDir = join(dir, 'cache');
  model = join(dir, 'model');
  mkdirSync(join(model, 'sub'), { recursive: true });
  writeFileSync(join(model, 'a'), 'a');
  writeFileSync(join(model, 'sub', 'b'), 'bb');
});
afterEach(() => rmSync(dir, { recursive: true }));

/** As if the files had lain there for a while. */
const LATER = Date.now() + 3_600_000;
async function record(since = LATER) {
  const files = await listModel(model);
  const digests = await digestFiles(files);
  await (await DigestCache.open(cacheDir, model)).record(files, digests, since);
  return files;
}
async function recall() {
  const files = await listModel(model);
  const cache = await DigestCache.open(cacheDir, model);
  return files.map((file) => cache.digest(file)?.toString('hex'));
}
const known = [sha256(Buffer.from('a')).toString('hex'), sha256(Buffer.from('bb')).toString('hex')];
const cacheFile = () => join(cacheDir, 'digests', readdirSync(join(cacheDir, 'digests'))[0] ?? '');

describe('digest cache', () => {
  test('remembers files as they are; in a file that is ours alone', async () => {
    expect(await recall()).toEqual([undefined, undefined]);
    await record();
    expect(await recall()).toEqual(known);
    expect(statSync(cacheFile()).mode & 0o777).toBe(0o600);
    expect(statSync(join(cacheDir, 'digests')).mode & 0o777).toBe(0o700);
    // By another name of the directory too.
    symlinkSync(model, join(dir, 'link'));
    const cache = await DigestCache.open(cacheDir, join(dir, 'link'));
    expect(cache.digest((await listModel(model))[0] ?? { identity: '' })?.toString('hex')).toBe(known[0]);
  });

  test('a file that grew, was written to, touched, replaced, even with its old time, is another one', async () => {
    const a = join(model, 'a');
    const { atime, mtime } = statSync(a);
    const changes: (() => void)[] = [
      () => writeFileSync(a, 'aa'),
      () => writeFileSync(a, 'b'),
      () => utimesSync(a, 1, 1),
      () => {
        writeFileSync(a, 'b');
        utimesSync(a, atime, mtime); // the ctime gives it away
      },
      () => {
        writeFileSync(join(dir, 'other'), 'a');
        renameSync(join(dir, 'other'), a);
      },
      () => chmodSync(a, 0o600),
      () => truncateSync(a, 0),
    ];
    for (const change of changes) {
      await record();
      expect(await recall()).toEqual([expect.any(String), known[1]]);
      change();
      expect(await recall()).toEqual([undefined, known[1]]);
    }
  });

  test('a file that had only just changed is not remembered: it could change again within the same tick of the clock', async () => {
    await record(Date.now());
    expect(await recall()).toEqual([undefined, undefined]);
    const { mtimeMs, ctimeMs } = statSync(join(model, 'a'));
    const newest = Math.max(mtimeMs, ctimeMs, statSync(join(model, 'sub', 'b')).ctimeMs);
    await record(Math.floor(newest) + 1999);
    expect(await recall()).toEqual([undefined, undefined]);
    await record(Math.ceil(newest) + 2001);
    expect(await recall()).toEqual(known);
    // A time in the future, from another machine's clock, is never old enough.
    utimesSync(join(model, 'a'), LATER, LATER);
    await record();
    expect(await recall()).toEqual([undefined, known[1]]);
  });

  test('digestAndRecord gives what digestModel gives, and records it', async () => {
    const { digest, files } = await digestAndRecord(cacheDir, model);
    expect(digest).toMatch(/^[0-9a-f]{64}$/);
    expect(files.map((f) => f.path)).toEqual(['a', 'sub/b']);
    expect(existsSync(cacheFile())).toBe(true);
  });

  test('damaged: every bit, every truncation, anything appended is a cache that knows nothing, or the same', async () => {
    await record();
    const bytes = readFileSync(cacheFile());
    const spoilt = [
      Buffer.alloc(0),
      Buffer.from('atoma-tee digests 1\n'),
      Buffer.concat([bytes, Buffer.from('\n')]),
      ...Array.from(bytes, (_, i) => bytes.subarray(0, i)),
      ...Array.from(bytes, (byte, i) => {
        const bad = Buffer.from(bytes);
        bad[i] = byte ^ (1 << (i % 8));
        return bad;
      }),
    ];
    for (const bad of spoilt) {
      writeFileSync(cacheFile(), bad);
      expect(await recall()).toEqual([undefined, undefined]);
    }
  });

  test('a line that is none, under a checksum that holds', async () => {
    await record();
    for (const line of ['x', '1 2 3 4 5', `1 2 3 4 5 ${'g'.repeat(64)}`, `-1 2 3 4 5 ${'0'.repeat(64)}`]) {
      const body = Buffer.from(`${readFileSync(cacheFile(), 'latin1').slice(0, -65)}${line}\n`);
      writeFileSync(cacheFile(), Buffer.concat([body, Buffer.from(`${sha256(body).toString('hex')}\n`)]));
      expect(await recall()).toEqual([undefined, undefined]);
      await record();
    }
  });

  test('something else in its place, or what others could have written, is no cache', async () => {
    await record();
    const good = cacheFile();
    chmodSync(good, 0o620);
    expect(await recall()).toEqual([undefined, undefined]);
    chmodSync(good, 0o600);
    renameSync(good, join(dir, 'elsewhere'));
    symlinkSync(join(dir, 'elsewhere'), good);
    expect(await recall()).toEqual([undefined, undefined]);
    rmSync(good);
    execFileSync('mkfifo', [good]);
    expect(await recall()).toEqual([undefined, undefined]);
    rmSync(good);
    mkdirSync(good);
    expect(await recall()).toEqual([undefined, undefined]);
    await record(); // and does not fail
  });

  test('a cache that cannot be written is done without', async () => {
    writeFileSync(cacheDir, 'a file');
    await record();
    expect(await recall()).toEqual([undefined, undefined]);
  });

  test('keeps a bounded number of models', async () => {
    await record();
    const mine = cacheFile();
    for (let i = 0; i < 70; i++) {
      const old = join(cacheDir, 'digests', sha256(Buffer.from([i])).toString('hex'));
      writeFileSync(old, '');
      utimesSync(old, 1, 1);
    }
    await record();
    expect(readdirSync(join(cacheDir, 'digests')).length).toBe(64);
    expect(existsSync(mine)).toBe(true);
  });

  test('its directory is a link to another one, prepared by somebody: nothing of what lies there is removed', async () => {
    const victim = join(dir, 'victim');
    mkdirSync(victim);
    mkdirSync(cacheDir);
    symlinkSync(victim, join(cacheDir, 'digests'));
    const names = Array.from({ length: 80 }, (_, i) => `letter-${i}`);
    for (const name of names) writeFileSync(join(victim, name), '');
    await record();
    expect(readdirSync(victim)).toEqual(expect.arrayContaining(names));
  });
});

describe('digestFiles refuses a file that is not the one that was listed', () => {
  test('rewritten, replaced, removed, a link or a FIFO in its place', async () => {
    const a = join(model, 'a');
    const changes: (() => void)[] = [
      () => writeFileSync(a, 'b'),
      () => rmSync(a),
      () => {
        rmSync(a);
        symlinkSync('sub/b', a);
      },
      () => {
        rmSync(a);
        execFileSync('mkfifo', [a]);
      },
    ];
    for (const change of changes) {
      rmSync(a, { force: true });
      writeFileSync(a, 'a');
      const files = await listModel(model);
      change();
      await expect(digestFiles(files)).rejects.toMatchObject({ code: 'ERR_MODEL_CHANGED', exitCode: 2 });
    }
  });

  test('large files are digested on threads, which stop when one fails', async () => {
    for (const [name, size] of [
      ['x', 20],
      ['y', 9],
    ] as const) {
      writeFileSync(join(model, name), name);
      truncateSync(join(model, name), size * 2 ** 20 + 1);
    }
    const files = await listModel(model);
    const digests = await digestFiles(files);
    expect(digests.map((d) => d.toString('hex'))).toEqual(
      files.map(({ absolute }) => sha256(readFileSync(absolute)).toString('hex')),
    );
    writeFileSync(join(model, 'y'), 'changed');
    await expect(digestFiles(files)).rejects.toMatchObject({ code: 'ERR_MODEL_CHANGED', exitCode: 2 });
    await expect(digestFiles(files, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_INTERRUPTED',
    });
  });
});
