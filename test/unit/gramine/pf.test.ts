import { readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { openProtectedFile, ProtectedFileWriter } from '../../../src/gramine/pf/index.ts';
import {
  childrenOf,
  dataOffset,
  INLINE,
  MAX_SIZE,
  mhtOffset,
  NODE,
  normalisePath,
  parentOf,
  treeOf,
} from '../../../src/gramine/pf/layout.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { type MemoryFile, pattern, protect, source, wrapKey } from './pf-fixture.ts';

const GROUP = 97 * NODE;
const all = async (bytes: Uint8Array, key: Uint8Array = wrapKey) => {
  const chunks: Buffer[] = [];
  const file = await openProtectedFile(source(bytes), key);
  for await (const chunk of file.chunks()) chunks.push(chunk);
  return { file, data: Buffer.concat(chunks) };
};

describe.skipIf(!haveVectors)('files that other implementations wrote', () => {
  const names = ['enc', 'v1'].flatMap((dir) =>
    haveVectors ? readdirSync(vectors('gramine-pf', dir)).map((name) => [dir, name] as const) : [],
  );

  test('are all here', () => expect(names).toHaveLength(9));

  test.each(names)('%s/%s', async (dir, name) => {
    const bytes = readFileSync(vectors('gramine-pf', dir, name));
    const { file, data } = await all(bytes, readFileSync(vectors('gramine-pf/wrap.key')));
    const plain = readFileSync(vectors('gramine-pf/plain', name));
    expect(data.equals(plain)).toBe(true);
    expect(file).toMatchObject({ version: dir === 'v1' ? 1 : 2, path: `${dir}/${name}`, size: plain.length });
    // Ours is as long.
    expect((await protect(plain)).length).toBe(bytes.length);
  });
});

describe('round trips', () => {
  const sizes = [0, 1, 3071, 3072, 3073];
  for (const nodes of [1, 2, 95, 96, 97, 191, 192, 193]) {
    sizes.push(INLINE + nodes * NODE - 1, INLINE + nodes * NODE, INLINE + nodes * NODE + 1);
  }

  test.each([1, 2] as const)('version %i, at every boundary', async (version) => {
    const bytes = pattern(Math.max(...sizes));
    for (const size of sizes) {
      const { file, data } = await all(await protect(bytes.subarray(0, size), version));
      expect(data.equals(bytes.subarray(0, size)), `${size}`).toBe(true);
      expect(file).toMatchObject({ version, size, path: 'a/b' });
    }
  });

  test('where the second level of the tree begins and ends', async () => {
    const bytes = pattern(INLINE + (96 * 33 + 1) * NODE);
    for (const size of [INLINE + 96 * 33 * NODE, INLINE + 96 * 33 * NODE + 1]) {
      expect((await all(await protect(bytes.subarray(0, size)))).data.equals(bytes.subarray(0, size))).toBe(true);
    }
  });

  test.each([1, 1000, 4095, 4096, 4097])('pieces of %i bytes', async (step) => {
    const bytes = pattern(97 * NODE + 12_345).subarray(step === 1 ? 390_000 : 0);
    const { data } = await all(await protect(bytes, 1, 'x', step));
    expect(data.equals(bytes)).toBe(true);
  });

  test('three levels of tree (27 MB); any range can be read', async () => {
    const bytes = pattern(27_000_001);
    const sealed = await protect(bytes);
    const { file, data } = await all(sealed);
    expect(data.equals(bytes)).toBe(true);
    for (const [at, length] of [
      [0, 10],
      [3070, 5],
      [INLINE + GROUP, 1],
      [26_999_990, 100],
      [13_000_000, 500_000],
      [27_000_001, 5],
      [2 ** 50, 5],
      [5, 0],
    ] as const) {
      expect((await file.read(at, length)).equals(bytes.subarray(at, at + length))).toBe(true);
    }
  });

  test('every key is fresh: the same data twice has no node in common', async () => {
    const bytes = Buffer.alloc(200 * NODE);
    const nodes = new Set<string>();
    const files = [await protect(bytes), await protect(bytes)];
    for (const file of files) {
      for (let at = 0; at < file.length; at += NODE) nodes.add(file.toString('latin1', at, at + NODE));
    }
    expect(nodes.size).toBe(files.reduce((sum, file) => sum + file.length / NODE, 0));
  });
});

test('a full disk: the error comes out, whichever write it was', async () => {
  for (const groups of [0, 1, 2, 5]) {
    const full = await open('/dev/full', 'r+');
    const size = groups * 96 * NODE + 10;
    const writer = new ProtectedFileWriter(full, { wrapKey, path: 'x', size, version: 1 });
    const writing = (async () => {
      await writer.write(Buffer.alloc(size));
      await writer.finish();
    })();
    await expect(writing).rejects.toMatchObject({ code: 'ENOSPC' });
    await full.close();
  }
});

describe('the shape of the tree', () => {
  test('nodes lie one after the other without a gap, up to 2^40 bytes', () => {
    for (const size of [0, 3073, 2 ** 20, 2 ** 30 + 1, MAX_SIZE]) {
      const { data, mhts, fileSize } = treeOf(size);
      if (data > 0) expect(dataOffset(data - 1) + NODE).toBe(fileSize);
      if (mhts > 1) expect(mhtOffset(mhts - 1)).toBe(dataOffset((mhts - 1) * 96 - 1) + NODE);
      expect(Number.isSafeInteger(fileSize)).toBe(true);
    }
    expect(treeOf(3072)).toEqual({ data: 0, mhts: 0, interior: 0, fileSize: NODE });
    expect(() => treeOf(MAX_SIZE + 1)).toThrow('at most');
  });

  test('every tree node but the root is the child of one before it', () => {
    for (const mhts of [1, 2, 33, 34, 1057, 1058, 40_000]) {
      const slots = new Set<string>();
      for (let m = 1; m < mhts; m++) {
        const { parent, at } = parentOf(m);
        expect(parent).toBeLessThan(m);
        slots.add(`${parent} ${at}`);
        if (m === mhts - 1) expect(childrenOf(parent, mhts) * 32 + 96 * 32).toBe(at + 32);
      }
      expect(slots.size).toBe(mhts - 1);
      const counted = Array.from({ length: mhts }, (_, m) => childrenOf(m, mhts)).reduce((a, b) => a + b);
      expect(counted).toBe(mhts - 1);
    }
  });

  test('four levels: what the writer holds does not grow with the file', async () => {
    // 1100 tree nodes and the data nodes at their ends; what nobody will read is not kept.
    const size = INLINE + 1100 * 96 * NODE;
    const kept = new Map<number, Buffer>();
    const target = {
      write: (from: Uint8Array, at: number, length: number, position: number) => {
        if (position === 0 || (position / NODE - 1) % 97 === 0) {
          kept.set(position, Buffer.from(from.subarray(at, at + NODE)));
          if (length === GROUP) kept.set(position + 96 * NODE, Buffer.from(from.subarray(at + 96 * NODE, at + length)));
        }
        return Promise.resolve({ bytesWritten: length, buffer: from });
      },
      read: (into: Buffer, at: number, length: number, position: number) =>
        Promise.resolve({ bytesRead: kept.get(position)?.copy(into, at, 0, length) ?? 0, buffer: into }),
    } as unknown as MemoryFile;
    const writer = new ProtectedFileWriter(target, { wrapKey, path: 'x', size, version: 2 });
    const group = Buffer.alloc(96 * NODE);
    await writer.write(group.subarray(0, INLINE));
    for (let m = 0; m < 1100; m++) await writer.write(group.fill(m % 251, 95 * NODE));
    await writer.finish();
    expect(writer.mostHeld).toBeLessThanOrEqual(6);
    const file = await openProtectedFile(
      { size: treeOf(size).fileSize, read: async (at) => kept.get(at) ?? Buffer.alloc(0) },
      wrapKey,
    );
    for (const m of [0, 1, 31, 32, 33, 34, 1056, 1057, 1099]) {
      const node = await file.read(INLINE + (m * 96 + 95) * NODE, NODE);
      expect(node.equals(Buffer.alloc(NODE, m % 251)), `${m}`).toBe(true);
    }
  });
});

describe('the path inside', () => {
  test.each([
    ['model/a.bin', 'model/a.bin'],
    ['./model//a.bin', 'model/a.bin'],
    ['model/../a', 'a'],
    ['../a/./b/', '../a/b'],
    ['../../a/../../b', '../../../b'],
    ['/../a', '/a'],
    ['/a/b/../..', '/'],
    ['a/..', ''],
  ])('%s is %s', (path, expected) => expect(normalisePath(path)).toBe(expected));

  test('longer than 771 bytes, empty, with a NUL: refused', async () => {
    await expect(protect(Buffer.alloc(1), 1, 'x'.repeat(771))).resolves.toHaveLength(NODE);
    for (const path of ['x'.repeat(772), 'ä'.repeat(386), '', 'a\0b']) {
      await expect(protect(Buffer.alloc(1), 1, path)).rejects.toMatchObject({ code: 'ERR_PF_NAME' });
    }
  });
});
