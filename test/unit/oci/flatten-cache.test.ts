import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { type Cache, CacheCorruption } from '../../../src/image/cache.ts';
import { mending } from '../../../src/image/inputs.ts';
import type { ImageConfig } from '../../../src/oci/config.ts';
import { flattenImage, imageTree } from '../../../src/oci/flatten.ts';
import { cachedImage, storeImage } from '../../../src/oci/flatten-cache.ts';
import { decodeListing, encodeListing } from '../../../src/oci/flatten-listing.ts';
import type { FlatImage } from '../../../src/oci/flatten-types.ts';
import { layerOf, newCache, tar } from './layer-bytes.ts';

const config: ImageConfig = {
  entrypoint: ['/bin/app'],
  cmd: null,
  env: ['A=b'],
  workingDir: '/',
  user: 'app',
  architecture: 'amd64',
  os: 'linux',
  raw: { config: { Labels: { z: '1', a: '2' } } },
};
const DIGEST = `sha256:${'a'.repeat(64)}`;
const layers = [
  layerOf(
    tar({ name: 'd/', mode: 0o3777 }, { name: 'd/f', body: 'content' }, { name: 'd/g', type: '1', link: 'd/f' }),
    'gzip',
  ),
  layerOf(tar({ name: 'l', link: '/elsewhere' }, { name: 'z', body: 'last' }, { name: 'dev', type: '3' })),
];

let cache: Cache;
let flat: FlatImage;
beforeEach(async () => {
  cache = await newCache();
  flat = await flattenImage({ layers }, cache);
});

describe('a flattened image in the cache', () => {
  test('comes back as it was, for its digest and its pin', async () => {
    const tree = await storeImage(DIGEST, flat, config, cache);
    expect(await cachedImage(DIGEST, tree, cache)).toEqual({ flat, config });
    expect(await cachedImage(DIGEST, 'b'.repeat(64), cache)).toBeNull();
    expect(await cachedImage(`sha256:${'b'.repeat(64)}`, tree, cache)).toBeNull();
    expect(readdirSync(join(cache.dir, 'tmp'))).toEqual([]);
  });

  test('the pin does not depend on how the layers were compressed, nor on the cache', async () => {
    const tree = await storeImage(DIGEST, flat, config, cache);
    const others = layers.map((layer) => layerOf(readFileSync(cache.layerPath(layer.diffId.slice(7))), 'zstd'));
    const other = await newCache();
    expect(await storeImage(DIGEST, await flattenImage({ layers: others }, other), config, other)).toBe(tree);
  });

  test('a listing that was tampered with is not believed', async () => {
    const tree = await storeImage(DIGEST, flat, config, cache);
    const [name = ''] = readdirSync(join(cache.dir, 'images'));
    const place = cache.imagePath(name);
    writeFileSync(place, readFileSync(place, 'utf8').replace('"d/f"', '"d/e"'));
    expect(await cachedImage(DIGEST, tree, cache)).toBeNull();
  });

  test.each([
    ['gone', (path: string) => rmSync(path)],
    ['cut', (path: string) => truncateSync(path, 600)],
  ])('a layer that is %s makes it missing, and unpacking again mends it', async (_, damage) => {
    const tree = await storeImage(DIGEST, flat, config, cache);
    damage(cache.layerPath(flat.diffIds[0]?.slice(7) ?? ''));
    expect(await cachedImage(DIGEST, tree, cache)).toBeNull();
    expect(await flattenImage({ layers }, cache)).toEqual(flat);
    expect(await cachedImage(DIGEST, tree, cache)).not.toBeNull();
  });

  test('a layer that was tampered with is found when it is read, and mended', async () => {
    const tree = await storeImage(DIGEST, flat, config, cache);
    const place = cache.layerPath(flat.diffIds[0]?.slice(7) ?? '');
    writeFileSync(place, readFileSync(place).toString('latin1').replace('content', 'evil!!!'), 'latin1');
    let attempts = 0;
    const read = async (): Promise<string> => {
      attempts++;
      const known = await cachedImage(DIGEST, tree, cache);
      const image = known?.flat ?? (await flattenImage({ layers }, cache));
      const file = imageTree(image, cache, 'r').find(({ path }) => path === 'r/d/f');
      let text = '';
      for await (const chunk of file?.open?.() ?? []) text += Buffer.from(chunk);
      return text;
    };
    await expect(read()).rejects.toThrow(CacheCorruption);
    expect(await mending(cache, read)).toBe('content');
    expect(attempts).toBe(3);
  });
});

describe('a listing', () => {
  const text = () => encodeListing(flat, config).toString();

  test('is what it was when it is read again', () => {
    expect(decodeListing(Buffer.from(text()))).toEqual({ flat, config });
  });

  test("without a configuration or layers is a directory's", () => {
    const { layer, offset, ...file } =
      flat.entries.find(({ type }) => type === 'file') ?? flat.entries[0] ?? ({} as never);
    const one: FlatImage = { ...flat, entries: [{ ...file, path: 'f' }], diffIds: [] };
    expect(decodeListing(encodeListing(one, null))).toEqual({ flat: one, config: null });
  });

  test.each<[string, (text: string) => string]>([
    ['an entry twice', (t) => t.replace(/(\["dir".*\n)/, '$1$1')],
    ['entries out of order', (t) => `${t}["dir","a",493,0,0]\n`],
    ['an entry without its parent', (t) => t.replace(/\["dir".*\n/, '')],
    ['an entry below a file', (t) => `${t}["dir","z/x",493,0,0]\n`],
    ['".." in a path', (t) => `${t}["dir","z..",493,0,0]\n["dir","z../../x",493,0,0]\n`],
    ['an absolute path', (t) => t.replace('"d/f"', '"/d/f"')],
    ['a link to nothing', (t) => t.replace('0,0,"d/f"]', '0,0,"d/x"]')],
    ['a link to a directory', (t) => t.replace('0,0,"d/f"]', '0,0,"d"]')],
    ['a layer that does not exist', (t) => t.replace(/,1,(\d+)\]/, ',2,$1]')],
    ['a negative place', (t) => t.replace(/,1,(\d+)\]/, ',1,-$1]')],
    ['a setuid file', (t) => t.replace('"d/f",420', '"d/f",2541')],
    ['an owner of no system', (t) => t.replace('"d/f",420,0', '"d/f",420,4294967295')],
    ['an unknown type', (t) => t.replace('["symlink"', '["device"')],
    ['a cell too many', (t) => t.replace('["dir","d",2047,0,0]', '["dir","d",2047,0,0,0]')],
    ['another version', (t) => t.replace('"version":1', '"version":2')],
    ['no end', (t) => t.slice(0, -1)],
    ['nothing', () => ''],
  ])('with %s is refused', (_, damage) => {
    const damaged = damage(text());
    expect(damaged).not.toBe(text());
    expect(decodeListing(Buffer.from(damaged))).toBeNull();
  });
});
