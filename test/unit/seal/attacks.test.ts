import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { truncated } from '../../../src/seal/header.ts';
import { unsealFile, verifySealed } from '../../../src/seal/index.ts';
import { decodeIndex, encodeIndex, type IndexFile } from '../../../src/seal/index-part.ts';
import { type ByteSource, extract, openIndex, readHeader } from '../../../src/seal/open.ts';
import { forge, newOwner, xwing } from './fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-attacks-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const owner = newOwner();
const key = xwing();
let good: Awaited<ReturnType<typeof forge>>;
beforeAll(async () => {
  good = await forge(owner, key);
});

const memory = (bytes: Buffer): ByteSource => ({
  size: bytes.length,
  read: async (offset, length) => {
    if (offset + length > bytes.length) throw truncated('short');
    return bytes.subarray(offset, offset + length);
  },
  close: async () => {},
});

/** Opens in this thread, as the enclave does; returns what reached the sink. */
async function openInMemory(bytes: Buffer, ck = good.ck) {
  const source = memory(bytes);
  const parsed = await readHeader(source);
  const index = await openIndex(source, parsed, ck);
  const out: Record<string, Buffer> = {};
  const { digest } = await extract(source, parsed, index, ck, {
    open: async ({ path }) => {
      const chunks: Buffer[] = [];
      return {
        write: async (chunk) => void chunks.push(Buffer.from(chunk)),
        close: async () => {
          out[path] = Buffer.concat(chunks);
        },
      };
    },
  });
  return { out, digest };
}

/** Both ways of opening must refuse, with the same code, and leave nothing. */
async function refused(bytes: Buffer, code: string, exitCode = 3): Promise<void> {
  await expect(openInMemory(bytes)).rejects.toMatchObject({ code, exitCode });
  const path = join(dir, 'bad.sealed');
  writeFileSync(path, bytes);
  await expect(unsealFile({ sealed: path, key, owner: owner.publicRaw, out: join(dir, 'out') })).rejects.toMatchObject({
    code,
    exitCode,
  });
  expect(readdirSync(dir)).toEqual(['bad.sealed']);
}

const changed = (edit: (bytes: Buffer) => void): Buffer => {
  const bytes = Buffer.from(good.bytes);
  edit(bytes);
  return bytes;
};
/** Offset of section n: 0 header, 1 index, 2.. parts. */
const at = (section: number): number => good.offsets[section] ?? 0;
const SEGMENT = 2 ** 20 + 32;

test('the untouched file opens, and extract returns the model digest of what it decrypted', async () => {
  const { out, digest } = await openInMemory(good.bytes);
  expect(Object.keys(out)).toEqual(['a', 'b', 'c', 'd', 'e']);
  expect(out.c?.equals(good.plain[1] ?? Buffer.alloc(0))).toBe(true);
  const list = Object.entries(out).map(
    ([name, bytes]) => `{"algorithm":"sha256","digest":"${hex(sha256(bytes))}","name":"${name}"}`,
  );
  expect(digest).toBe(hex(sha256(Buffer.from(`[${list.join(',')}]`))));
});

describe('the file was changed', () => {
  test('truncated: anywhere', async () => {
    const cuts = [
      0,
      5,
      11,
      12,
      100,
      4095,
      4096,
      at(1) + 1,
      at(2),
      at(2) + 74,
      at(3) - 1,
      at(4),
      good.bytes.length - 4096,
      good.bytes.length - 1,
    ];
    for (const cut of cuts)
      await refused(good.bytes.subarray(0, cut), cut === 0 ? 'ERR_SEAL_MAGIC' : 'ERR_SEAL_TRUNCATED', 2);
  });

  test('trailing bytes', async () => {
    await refused(Buffer.concat([good.bytes, Buffer.alloc(1)]), 'ERR_SEAL_TRAILING', 2);
    await refused(Buffer.concat([good.bytes, Buffer.alloc(4096)]), 'ERR_SEAL_TRAILING', 2);
  });

  test('padding that is not zero: after the header, the index, each part', async () => {
    for (let section = 0; section < good.sections.length; section++) {
      const last = (good.offsets[section + 1] ?? good.bytes.length) - 1;
      await refused(
        changed((b) => b.writeUInt8(1, last)),
        'ERR_SEAL_PADDING',
        2,
      );
    }
  });

  test('a flipped bit in the index, in a part header, in length, IV, ciphertext and tag of segments', async () => {
    for (const place of [at(1), at(1) + 30, at(1) + 60, at(1) + 100])
      await refused(
        changed((b) => flip(b, place)),
        'ERR_SEAL_TAMPERED',
      );
    const first = at(2) + 74;
    const second = first + SEGMENT;
    const places = [
      at(2),
      at(2) + 5,
      at(2) + 20,
      at(2) + 50,
      first,
      first + 4,
      first + 16,
      first + 99_999,
      second - 1,
      second,
      second + 8,
      second + 531,
    ];
    for (const place of places)
      await refused(
        changed((b) => flip(b, place)),
        'ERR_SEAL_TAMPERED',
      );
  });
  const flip = (bytes: Buffer, place: number) => bytes.writeUInt8(bytes.readUInt8(place) ^ 0x10, place);

  test('swapped, duplicated, dropped segments', async () => {
    const first = at(2) + 74;
    const other = at(3) + 74;
    const segment = good.bytes.subarray(first, first + SEGMENT);
    // The same position of another part, and a copy of the first over the place of the last.
    await refused(
      changed((b) => b.set(segment, other)),
      'ERR_SEAL_TAMPERED',
    );
    await refused(
      changed((b) => b.set(segment.subarray(0, 532), first + SEGMENT)),
      'ERR_SEAL_TAMPERED',
    );
    await refused(
      changed((b) => b.copy(b, first, first + SEGMENT, first + SEGMENT + 532)),
      'ERR_SEAL_TAMPERED',
    );
  });

  test('swapped, duplicated, dropped parts', async () => {
    const { sections } = good;
    const [header, index, one, two, three] = sections as [Buffer, Buffer, Buffer, Buffer, Buffer];
    await refused(Buffer.concat([header, index, two, one, three]), 'ERR_SEAL_TAMPERED');
    await refused(Buffer.concat([header, index, one, one, three]), 'ERR_SEAL_TAMPERED');
    await refused(Buffer.concat([header, index, one, three]), 'ERR_SEAL_TRUNCATED', 2);
    await refused(Buffer.concat([header, index, one, two, three, three]), 'ERR_SEAL_TRAILING', 2);
  });

  test('the index of another model of the same owner and keys', async () => {
    const other = await forge(owner, key);
    const [, index, , ...rest] = other.sections as [Buffer, Buffer, Buffer, ...Buffer[]];
    const [header, , one] = good.sections as [Buffer, Buffer, Buffer];
    await refused(Buffer.concat([header, index, one, ...rest]), 'ERR_SEAL_TAMPERED');
  });

  test('wrong content key', async () => {
    await expect(openInMemory(good.bytes, Buffer.alloc(32))).rejects.toMatchObject({
      code: 'ERR_SEAL_KEY',
      exitCode: 3,
    });
  });

  test('verify says which check failed', async () => {
    const path = join(dir, 'bad.sealed');
    writeFileSync(
      path,
      changed((b) => flip(b, at(2) + 5000)),
    );
    const { checks } = await verifySealed(path, { owner: owner.publicRaw, key });
    expect(checks.filter((c) => c.status === 'fail').map((c) => c.id)).toEqual(['seal.contents']);
    writeFileSync(
      path,
      changed((b) => flip(b, at(1) + 90)),
    );
    const { checks: without } = await verifySealed(path, {});
    expect(without.filter((c) => c.status === 'fail').map((c) => c.id)).toEqual(['seal.index']);
  });
});

describe('the owner was hostile', () => {
  test('another model inside than the policy names: verify with the key says so', async () => {
    const path = join(dir, 'bad.sealed');
    writeFileSync(path, good.bytes);
    const { checks } = await verifySealed(path, { owner: owner.publicRaw, key });
    expect(checks.filter((c) => c.status === 'fail')).toEqual([
      expect.objectContaining({ id: 'seal.model', expected: 'ab'.repeat(32) }),
    ]);
  });

  const edit = (n: number, change: Partial<IndexFile>) => (files: IndexFile[]) =>
    files.map((f, i) => (i === n ? { ...f, ...change } : f));

  test.each<[string, (files: IndexFile[]) => IndexFile[]]>([
    ['path traversal', edit(0, { path: '../a' })],
    ['path traversal inside', edit(0, { path: 'A/../../a' })],
    ['an absolute path', edit(0, { path: '/etc/a' })],
    ['an empty path', edit(0, { path: '' })],
    ['a path in NFD', edit(4, { path: 'e\u0301' })],
    ['a control character', edit(0, { path: 'a\u001b[2J' })],
    ['a case collision', edit(0, { path: 'B' })],
    ['the same path twice', edit(1, { path: 'a' })],
    ['a file that is a directory', edit(1, { path: 'a/b' })],
    ['paths out of order', (files) => [...files].reverse()],
    ['a set-user-id mode', edit(0, { mode: 0o4755 })],
    ['a size beyond its extents', edit(0, { size: 101 })],
    ['an extent beyond its part', edit(3, { size: 6, extents: [{ part: 2, offset: 0, length: 6 }] })],
    ['an extent in a part that is not there', edit(3, { extents: [{ part: 3, offset: 0, length: 5 }] })],
    ['overlapping extents', edit(1, { extents: [{ part: 0, offset: 99, length: 2 ** 20 + 400 }] })],
    ['a gap', edit(0, { size: 99, extents: [{ part: 0, offset: 0, length: 99 }] })],
    ['a part that nothing covers', (files) => files.filter((f) => f.path !== 'c')],
    ['an oversized length', edit(0, { size: 2 ** 52, extents: [{ part: 0, offset: 0, length: 2 ** 52 }] })],
    ['a file in two runs', interleaved],
  ])('%s', async (_name, files) => {
    await refused((await forge(owner, key, { files })).bytes, 'ERR_SEAL_INDEX');
  });
  function interleaved(files: IndexFile[]): IndexFile[] {
    const runs = [
      { part: 0, offset: 0, length: 50 },
      { part: 0, offset: 100, length: 50 },
    ];
    const rest = [
      { part: 0, offset: 50, length: 50 },
      { part: 0, offset: 150, length: 2 ** 20 + 350 },
    ];
    return files.map((f, i) => (i === 0 ? { ...f, extents: runs } : i === 1 ? { ...f, extents: rest } : f));
  }

  test('a digest that is not the content', async () => {
    for (const n of [0, 2, 4]) {
      const { bytes } = await forge(owner, key, { files: edit(n, { sha256: Buffer.alloc(32, 1) }) });
      await refused(bytes, 'ERR_SEAL_DIGEST');
    }
  });

  test('an index whose parts are not those of the header', async () => {
    const first = (change: object) =>
      forge(owner, key, { parts: (parts) => parts.map((p, i) => (i === 0 ? { ...p, ...change } : p)) });
    await refused((await first({ id: Buffer.alloc(16, 99) })).bytes, 'ERR_SEAL_INDEX');
    await refused((await first({ length: 2 ** 20 + 499 })).bytes, 'ERR_SEAL_INDEX');
    await refused((await first({ key: Buffer.alloc(32, 99) })).bytes, 'ERR_SEAL_TAMPERED');
    await refused((await forge(owner, key, { parts: (parts) => parts.slice(1) })).bytes, 'ERR_SEAL_INDEX');
  });

  test('an index truncated at every length, every bit flipped: refused or read as something else, never a crash', () => {
    const files: IndexFile[] = [
      { path: 'a', size: 5, mode: 0o644, sha256: Buffer.alloc(32), extents: [{ part: 0, offset: 0, length: 5 }] },
    ];
    const parts = [{ id: Buffer.alloc(16), key: Buffer.alloc(32), length: 5 }];
    const header = { parts: [{ id: Buffer.alloc(16), length: 74 + 5 + 32 }] };
    const bytes = Buffer.from(encodeIndex({ files, parts }));
    expect(decodeIndex(bytes, header).pieces).toEqual([{ part: 0, offset: 0, length: 5, file: 0, fileOffset: 0 }]);
    const refusedIndex = expect.objectContaining({ code: 'ERR_SEAL_INDEX', exitCode: 3 });
    for (let i = 0; i < bytes.length; i++)
      expect(() => decodeIndex(bytes.subarray(0, i), header)).toThrow(refusedIndex);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const bad = Buffer.from(bytes);
      bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      try {
        expect(encodeIndex(decodeIndex(bad, header))).not.toEqual(new Uint8Array(bytes));
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_SEAL_INDEX' });
      }
    }
  });
});
