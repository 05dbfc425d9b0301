import { execFileSync } from 'node:child_process';
import { createReadStream, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { usageError } from '../../../src/core/errors.ts';
import type { Cache } from '../../../src/image/cache.ts';
import { flattenImage } from '../../../src/oci/flatten.ts';
import { IMAGE_LIMITS } from '../../../src/oci/layer-index.ts';
import { LayerTar } from '../../../src/oci/layer-tar.ts';
import type { ImageLayer } from '../../../src/oci/source.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import {
  brief,
  digestOf,
  flatten,
  layerOf,
  newCache,
  paths,
  paxRecords,
  storedLayer,
  type TarEntry,
  tar,
  tarEnd,
  tarEntry,
} from './layer-bytes.ts';

const code = (value: string, exitCode = 2) => expect.objectContaining({ code: value, exitCode });
const file = (name: string | Buffer, body = ''): TarEntry => ({ name, body });
const good = tar({ name: 'd/' }, file('d/a', 'content'));
const left = (cache: Cache) => ['tmp', 'layers', 'images'].flatMap((name) => readdirSync(join(cache.dir, name)));

async function refusal(layer: ImageLayer, limits = IMAGE_LIMITS): Promise<unknown> {
  const cache = await newCache();
  const error = await flattenImage({ layers: [layer] }, cache, { limits }).catch((e) => e);
  expect(left(cache), 'left in the cache').toEqual([]);
  return error;
}

describe('a layer on its way into the cache', () => {
  test.each(['none', 'gzip', 'zstd'] as const)(
    'compression %s: unpacked once, then read from the cache',
    async (compression) => {
      const cache = await newCache();
      const layer = layerOf(good, compression);
      const first = await flattenImage({ layers: [layer] }, cache);
      expect(paths(first)).toEqual(['d', 'd/a']);
      expect(readFileSync(cache.layerPath(layer.diffId.slice(7)))).toEqual(good);
      expect(await flattenImage({ layers: [layer] }, cache)).toEqual(first);
      expect(layer.opened).toBe(1);
    },
  );

  test('a layer that occurs twice is unpacked once', async () => {
    const layer = layerOf(good, 'gzip');
    await flattenImage({ layers: [layer, layer, layer] }, await newCache());
    expect(layer.opened).toBe(1);
  });

  test('two builds may unpack the same layer into one cache at the same time', async () => {
    const cache = await newCache();
    const layers = [layerOf(good, 'gzip'), layerOf(tar(file('b', 'x')), 'gzip')];
    const [first, second] = await Promise.all([flattenImage({ layers }, cache), flattenImage({ layers }, cache)]);
    expect(second).toEqual(first);
  });

  test('a damaged copy in the cache is replaced', async () => {
    const cache = await newCache();
    const layer = layerOf(good);
    const first = await flattenImage({ layers: [layer] }, cache);
    const place = cache.layerPath(layer.diffId.slice(7));
    for (const damage of [Buffer.from(good).fill('X', 1024, 1030), Buffer.alloc(0), good.subarray(0, 700)]) {
      writeFileSync(place, damage);
      expect(await flattenImage({ layers: [layer] }, cache)).toEqual(first);
      expect(readFileSync(place)).toEqual(good);
    }
  });

  test('zstd frames one after the other, with skippable ones between, are one layer', async () => {
    const plain = tar(file('a', 'x'.repeat(300_000)), file('b', 'y'));
    const parts = [plain.subarray(0, 1000), plain.subarray(1000, 200_000), plain.subarray(200_000)].map((part) =>
      zstdCompressSync(part),
    );
    const skippable = Buffer.from('502a4d180500000068656c6c6f', 'hex');
    const stored = Buffer.concat([skippable, ...parts.flatMap((part) => [part, skippable])]);
    const flat = await flattenImage({ layers: [storedLayer(stored, 'zstd', digestOf(plain))] }, await newCache());
    expect(brief(flat)).toEqual(['file a 644 300000', 'file b 644 1']);
  });

  test.runIf(existsSync('/usr/bin/zstd'))('what zstd writes with every frame option is read', async () => {
    const plain = tar(file('a', Buffer.alloc(500_000, 'abc').toString()), file('b', '\0'.repeat(300_000)));
    for (const flags of [
      ['-19'],
      ['--no-check'],
      ['--fast=5'],
      ['-T2', '-B100K'],
      ['--content-size', `--stream-size=${plain.length}`],
    ]) {
      const stored = execFileSync('/usr/bin/zstd', [...flags, '-c', '-q'], { input: plain });
      expect(
        (await flattenImage({ layers: [storedLayer(stored, 'zstd', digestOf(plain))] }, await newCache())).entries,
      ).toHaveLength(2);
    }
  });

  test('another layer than the image names is refused', async () => {
    const layer = { ...layerOf(tar(file('evil', 'x'))), diffId: layerOf(good).diffId };
    expect(await refusal(layer)).toEqual(code('ERR_LAYER_DIGEST', 3));
  });

  test('a diff id that is a path is refused before anything is opened', async () => {
    const layer = { ...layerOf(good), diffId: 'sha256:../../../../etc/passwd' };
    expect(await refusal(layer)).toEqual(code('ERR_LAYER_MALFORMED'));
    expect(layer.opened).toBe(0);
  });

  test('an error of the source is passed on, and the other layers are given up', async () => {
    const cache = await newCache();
    const failing = { ...layerOf(good), open: async () => Readable.from(fails()) };
    const endless = { ...layerOf(tar(file('x', 'y'))), size: 1e12, open: async () => Readable.from(endlessly()) };
    await expect(flattenImage({ layers: [endless, failing] }, cache)).rejects.toThrow(code('ERR_OCI_DIGEST'));
    expect(left(cache)).toEqual([]);
  });

  test('when it is called off it ends, and leaves nothing', async () => {
    const cache = await newCache();
    const abort = new AbortController();
    const layer = { ...layerOf(good), size: 1e12, open: async () => Readable.from(endlessly(() => abort.abort())) };
    await expect(flattenImage({ layers: [layer] }, cache, { signal: abort.signal })).rejects.toThrow(/abort/);
    expect(left(cache)).toEqual([]);
  });
});

async function* fails() {
  yield good.subarray(0, 600);
  throw usageError('ERR_OCI_DIGEST', 'not the blob of that digest');
}

/** A tar whose one file never ends. */
async function* endlessly(then = () => {}) {
  yield tarEntry({ ...file('x'), size: 8 ** 10 });
  for (let i = 0; ; i++) {
    if (i === 5) then();
    await new Promise((resolve) => setImmediate(resolve));
    yield Buffer.alloc(512);
  }
}

describe('bombs', () => {
  test.each(['gzip', 'zstd'] as const)('a small %s layer that unpacks to gigabytes is refused', async (compression) => {
    const zeros = Buffer.alloc(16 << 20);
    const pack = compression === 'gzip' ? gzipSync : zstdCompressSync;
    const [head, body] = [pack(tarEntry({ ...file('zeros'), size: 2 ** 32 })), pack(zeros)];
    const stored = Buffer.concat([head, ...Array.from({ length: 64 }, () => body)]);
    // As many members or frames: declared as no more than a few bytes.
    const layer = { ...storedLayer(stored, compression, digestOf(good)), size: 100 };
    expect(await refusal(layer)).toEqual(code('ERR_LAYER_TOO_LARGE'));
  });

  test('layers that together are too large are refused', async () => {
    const layers = ['a', 'b', 'c'].map((name) => layerOf(tar(file(name, 'x'.repeat(4000)))));
    const limits = { ...IMAGE_LIMITS, bytes: 15_000 };
    await expect(flattenImage({ layers }, await newCache(), { limits })).rejects.toThrow(code('ERR_LAYER_TOO_LARGE'));
    await flattenImage({ layers }, await newCache(), { limits: { ...limits, bytes: 20_000 } });
  });

  test('millions of entries are refused', async () => {
    const entries = Buffer.concat(Array.from({ length: 1000 }, (_, i) => tarEntry(file(`f${i}`))));
    const layer = storedLayer(Buffer.concat(Array.from({ length: 20 }, () => entries)), 'none', digestOf(good));
    expect(await refusal(layer, { ...IMAGE_LIMITS, entries: 19_999 })).toEqual(code('ERR_LAYER_TOO_LARGE'));
    expect(await refusal(layer, { ...IMAGE_LIMITS, entries: 20_000 })).toEqual(code('ERR_LAYER_DIGEST', 3));
  });

  test('names that fill the memory are refused', async () => {
    const entries = Array.from({ length: 50 }, (_, i) => ({
      ...file('x'),
      pax: { path: `${i}/${'y/'.repeat(100)}z` },
    }));
    expect(await refusal(layerOf(tar(...entries)), { ...IMAGE_LIMITS, names: 5000 })).toEqual(
      code('ERR_LAYER_TOO_LARGE'),
    );
  });

  test('an extended header of gigabytes is refused before it is read', async () => {
    for (const type of ['x', 'g', 'L', 'K'])
      expect(await refusal(layerOf(tarEntry({ ...file('h'), type, size: 2 ** 31 })))).toEqual(
        code('ERR_LAYER_TOO_LARGE'),
      );
  });

  test('entries below directories that nothing names are counted with them', async () => {
    const deep = (i: number) => file(`${String.fromCharCode(97 + i)}/1/2/3/4/5/6/7/8/9/f`);
    const layer = layerOf(tar(...Array.from({ length: 10 }, (_, i) => deep(i))));
    const flattened = (entries: number) =>
      newCache().then((cache) => flattenImage({ layers: [layer] }, cache, { limits: { ...IMAGE_LIMITS, entries } }));
    expect((await flattened(110)).entries).toHaveLength(110);
    for (const entries of [99, 105]) await expect(flattened(entries)).rejects.toThrow(code('ERR_LAYER_TOO_LARGE'));
  });

  test('a link that names a directory too long to exist is refused', async () => {
    const entries = [{ name: 'l', pax: { linkpath: 'x'.repeat(300) }, link: 'x' }, file('l/f')];
    await expect(flatten(entries)).rejects.toThrow(code('ERR_LAYER_ENTRY'));
  });

  test('whiteouts of the same directory again and again take no more time', async () => {
    const lower = [{ name: 'd/' }, ...Array.from({ length: 5000 }, (_, i) => file(`d/${i}`))];
    const upper = [...lower, ...Array.from({ length: 5000 }, () => file('.wh.d'))];
    expect((await flatten(lower, upper)).entries).toHaveLength(5001);
  });
});

describe('hostile archives', () => {
  const bytes = (...parts: Buffer[]): Buffer => Buffer.concat(parts);
  const pax = (records: Record<string, string | Buffer>): TarEntry => ({ ...file('a'), pax: records });

  test.each<[string, string, Buffer]>([
    ['".." at the start', 'ESCAPE', tar(file('../a'))],
    ['".." in the middle', 'ESCAPE', tar(file('a/../../b'))],
    ['".." in a long name', 'ESCAPE', tar(pax({ path: '/../a' }))],
    ['".." that would stay inside', 'ESCAPE', tar(file('a/../b'))],
    ['a name that is not UTF-8', 'ENTRY', tar(file(Buffer.from([0x61, 0xff])))],
    ['a link target that is not UTF-8', 'ENTRY', tar({ name: 'a', link: Buffer.from([0xff]) })],
    ['an empty link target', 'ENTRY', tar({ name: 'a', link: '' })],
    ['a file for a root', 'ENTRY', tar({ ...file('./'), type: '7' })],
    ['a component of 256 bytes', 'ENTRY', tar(pax({ path: 'x'.repeat(256) }))],
    ['a path of 5000 bytes', 'ENTRY', tar(pax({ path: `${'x'.repeat(100)}/`.repeat(50) }))],
    ['a path of 200 directories', 'ENTRY', tar(pax({ path: 'x/'.repeat(200) }))],
    ['an owner that means "as it is"', 'ENTRY', tar(pax({ uid: '4294967295' }))],
    ['an owner that no system has', 'ENTRY', tar(pax({ gid: '99999999999' }))],
    ['a sparse file of GNU tar', 'ENTRY', tar({ ...file('a'), type: 'S' })],
    ['a sparse file in pax', 'ENTRY', tar(pax({ 'GNU.sparse.major': '1' }))],
    ['an unknown type', 'ENTRY', tar({ ...file('a'), type: 'V' })],
    ['a directory with content', 'ENTRY', tar({ name: 'd/', body: 'x' })],
    ['a hard link with content', 'ENTRY', tar(file('b'), { name: 'a', type: '1', link: 'b', body: 'x' })],
    ['a global header that changes names', 'MALFORMED', tar({ name: 'g', type: 'g', body: '10 path=x\n' }, file('a'))],
    [
      'two extended headers for one entry',
      'MALFORMED',
      bytes(tarEntry({ name: 'x', type: 'x' }), tar(pax({ path: 'b' }))),
    ],
    [
      'a long name of each kind',
      'MALFORMED',
      bytes(tarEntry({ name: 'L', type: 'L', body: 'c' }), tar(pax({ path: 'b' }))),
    ],
    ['an extended header that goes with nothing', 'MALFORMED', tarEntry({ name: 'x', type: 'x', body: '10 path=x\n' })],
    ['a NUL in a long name', 'MALFORMED', tar(pax({ path: 'a\0b' }))],
    ['a record longer than its header', 'MALFORMED', tar({ name: 'x', type: 'x', body: '99 path=x\n' }, file('a'))],
    ['a record without a key', 'MALFORMED', tar({ name: 'x', type: 'x', body: '5 =x\n' }, file('a'))],
    ['a record of no length', 'MALFORMED', tar({ name: 'x', type: 'x', body: '0 path=x\n' }, file('a'))],
    ['a negative size', 'MALFORMED', tar(pax({ size: '-1' }))],
    ['a size beyond all numbers', 'MALFORMED', tar(pax({ size: '9'.repeat(16) }))],
    ['a negative size in base 256', 'MALFORMED', tar({ ...file('a'), patch: (h) => h.fill(0xff, 124, 136) })],
    ['a size that is no number', 'MALFORMED', tar({ ...file('a'), patch: (h) => h.write('9z', 124) })],
    ['a damaged header', 'MALFORMED', bytes(tarEntry(file('a')).fill('b', 0, 1), tarEnd)],
    ['a second archive behind the first', 'MALFORMED', bytes(tar(file('a')), tar(file('b')))],
    [
      'a header behind one block of zeros',
      'MALFORMED',
      bytes(tarEntry(file('a')), Buffer.alloc(512), tarEntry(file('b'))),
    ],
    ['content that ends early', 'MALFORMED', tarEntry({ ...file('a'), size: 1000 })],
    ['a header that ends early', 'MALFORMED', tarEntry(file('a')).subarray(0, 300)],
    ['something that is no tar', 'MALFORMED', Buffer.alloc(5000, 'hello ')],
  ])('%s is refused', async (_, expected, plain) => {
    expect(await refusal(layerOf(plain))).toEqual(code(`ERR_LAYER_${expected}`));
  });

  test.each<[string, Buffer, ImageLayer['compression']]>([
    ['a truncated gzip stream', gzipSync(good).subarray(0, -9), 'gzip'],
    ['a damaged gzip stream', Buffer.from(gzipSync(good)).fill(0xff, 20, 30), 'gzip'],
    ['a gzip stream that is none', Buffer.from('hello, world'), 'gzip'],
    ['a truncated zstd frame', zstdCompressSync(good).subarray(0, -3), 'zstd'],
    ['a truncated skippable frame', Buffer.from('502a4d18ff00000061', 'hex'), 'zstd'],
    ['a zstd block of a type that does not exist', Buffer.from('28b52ffd0058070000', 'hex'), 'zstd'],
    ['a damaged zstd block', Buffer.from(zstdCompressSync(good)).fill(0xff, 12, 20), 'zstd'],
    ['a zstd stream that is none', Buffer.from('hello, world'), 'zstd'],
    ['content behind a zstd frame', Buffer.concat([zstdCompressSync(good), Buffer.from('hello')]), 'zstd'],
  ])('%s is refused', async (_, stored, compression) => {
    expect(await refusal(storedLayer(stored, compression, digestOf(good)))).toEqual(code('ERR_LAYER_MALFORMED'));
  });

  test('names and numbers that old and new archives write are read', async () => {
    const long = `${'long/'.repeat(30)}name`;
    const flat = await flattenImage(
      {
        layers: [
          layerOf(
            bytes(
              tarEntry({ name: 'g', type: 'g', body: paxRecords({ comment: 'a commit' }) }),
              tarEntry(pax({ path: 'pax', uid: '3000000', size: '1', mtime: '1.5', 'x.y': 'z' })).subarray(0, -512),
              tarEntry({ name: 'a', body: '!' }),
              tarEntry({ name: 'L', type: 'L', body: `${long}\0` }),
              tarEntry({ name: 'long', type: '\0', body: 'x' }),
              tarEntry({ name: 'K', type: 'K', body: `${long}2\0` }),
              tarEntry({ name: 'link', link: 'short' }),
              tarEntry({ name: 'b256', patch: (h) => void Buffer.from('8000000000100000', 'hex').copy(h, 108) }),
              tarEntry({ name: 'v7dir/', type: '\0', patch: (h) => h.fill(0, 257, 265) }),
              tarEntry({ name: 'name', patch: (h) => h.write('prefix', 345) }),
              tarEntry({ name: 'spaces', patch: (h) => h.write('   644 \0', 100) }),
            ),
          ),
        ],
      },
      await newCache(),
    );
    const entry = (path: string) => flat.entries.find((e) => e.path === path);
    expect(entry('pax')).toMatchObject({ uid: 3_000_000, size: 1 });
    expect(entry(long)).toMatchObject({ size: 1 });
    expect(entry('link')?.target).toBe(`${long}2`);
    expect(entry('b256')?.uid).toBe(1 << 20);
    expect(entry('v7dir')?.type).toBe('dir');
    expect(entry('prefix/name')?.type).toBe('file');
    expect(entry('spaces')?.mode).toBe(0o644);
  });

  test('pieces of any size make no difference, and no bit flip makes the reader fail other than cleanly', () => {
    const plain = tar(
      { name: 'd/' },
      { ...file('d/a', 'content'), pax: { path: 'd/other' } },
      { name: 'l', link: 'd' },
    );
    const read = (whole: Buffer, size: number): string => {
      const seen: string[] = [];
      const reader = new LayerTar(
        { entry: (e) => seen.push(JSON.stringify(e)), data: (d) => seen.push(d.toString()), done: () => {} },
        'it',
      );
      for (let at = 0; at < whole.length; at += size) reader.write(whole.subarray(at, at + size));
      reader.end();
      return seen.join('\n').replace(/\n(?=[a-z])/g, '');
    };
    const whole = read(plain, plain.length);
    for (const size of [7, 511, 512, 513])
      expect(read(plain, size).length, `${size}`).toBeGreaterThanOrEqual(whole.length);
    for (let bit = 0; bit < (plain.length - 1024) * 8; bit += 3) {
      const flipped = Buffer.from(plain);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      try {
        read(flipped, flipped.length);
      } catch (error) {
        expect(error).toEqual(expect.objectContaining({ code: expect.stringMatching(/^ERR_LAYER_/) }));
      }
    }
  });

  test('what GNU tar writes in each of its formats is read', async () => {
    const dir = temporaryDirectory();
    mkdirSync(join(dir, 'deep', 'x'.repeat(120)), { recursive: true });
    writeFileSync(join(dir, 'deep', 'x'.repeat(120), 'file'), 'content');
    for (const format of ['gnu', 'oldgnu', 'pax', 'posix']) {
      const path = join(dir, `${format}.tar`);
      execFileSync('tar', [`--format=${format}`, '--owner=x:70000', '-C', dir, '-cf', path, 'deep']);
      const plain = readFileSync(path);
      const layer = { ...layerOf(plain), open: async () => createReadStream(path) };
      const flat = await flattenImage({ layers: [layer] }, await newCache());
      expect(flat.entries.at(-1)).toMatchObject({ path: `deep/${'x'.repeat(120)}/file`, size: 7, uid: 70_000 });
    }
  });
});
