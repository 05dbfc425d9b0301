import { describe, expect, test } from 'vitest';
import { modelFormat } from '../../../src/model/format.ts';
import { type ByteSource, openIndex, readHeader } from '../../../src/seal/open.ts';
import { type OpenSealed, readRange } from '../../../src/seal/range.ts';
import { forge, newOwner, xwing } from './fixture.ts';

const SEGMENT = 2 ** 20;
const good = await forge(newOwner(), xwing());
/** `a` and `b` share a part of two segments; `c` has one of its own; `d` a small one; `e` is empty. */
const contents: Record<string, Buffer> = {
  a: good.plain[0]?.subarray(0, 100) ?? Buffer.alloc(0),
  b: good.plain[0]?.subarray(100) ?? Buffer.alloc(0),
  c: good.plain[1] ?? Buffer.alloc(0),
  d: good.plain[2] ?? Buffer.alloc(0),
  e: Buffer.alloc(0),
};

async function openBytes(bytes: Buffer = good.bytes) {
  const reads: { offset: number; length: number }[] = [];
  const source: ByteSource = {
    size: bytes.length,
    read: async (offset, length) => {
      reads.push({ offset, length });
      return bytes.subarray(offset, offset + length);
    },
    close: async () => {},
  };
  const parsed = await readHeader(source);
  const sealed: OpenSealed = { source, parsed, index: await openIndex(source, parsed, good.ck) };
  reads.length = 0;
  return { sealed, reads };
}
async function collect(sealed: OpenSealed, path: string, offset: number, length: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of readRange(sealed, path, offset, length)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

describe('readRange', () => {
  test('any bytes of any file; across segments', async () => {
    const { sealed } = await openBytes();
    for (const [path, bytes] of Object.entries(contents)) {
      const edges = [
        0,
        1,
        50,
        SEGMENT - 101,
        SEGMENT - 100,
        SEGMENT - 1,
        SEGMENT,
        SEGMENT + 1,
        bytes.length - 1,
        bytes.length,
      ];
      for (const from of edges) {
        for (const to of edges) {
          if (from < 0 || to < from || to > bytes.length) continue;
          expect((await collect(sealed, path, from, to - from)).equals(bytes.subarray(from, to))).toBe(true);
        }
      }
    }
  });

  test('a file in several parts', async () => {
    // c and d as if they were one file.
    const { sealed } = await openBytes();
    const both = sealed.index.files.filter(({ path }) => path === 'c' || path === 'd');
    const whole = Buffer.concat([contents.c ?? Buffer.alloc(0), contents.d ?? Buffer.alloc(0)]);
    const file = {
      path: 'cd',
      size: whole.length,
      mode: 0,
      sha256: Buffer.alloc(32),
      extents: both.flatMap((f) => f.extents),
    };
    const index = { ...sealed.index, files: [file] };
    for (const [from, length] of [
      [0, whole.length],
      [SEGMENT + 499, 3],
      [SEGMENT + 500, 5],
      [SEGMENT - 1, 502],
    ] as const) {
      const found = await collect({ ...sealed, index }, 'cd', from, length);
      expect(found.equals(whole.subarray(from, from + length))).toBe(true);
    }
  });

  test('reads and decrypts only the segments that it touches', async () => {
    const { sealed, reads } = await openBytes();
    await collect(sealed, 'c', SEGMENT + 10, 20);
    const part = good.offsets[3] ?? 0;
    expect(reads).toEqual([
      { offset: part, length: 74 },
      { offset: part + 74 + SEGMENT + 32, length: 500 + 32 },
    ]);
    // Spoilt elsewhere: not seen. Spoilt there: refused.
    const bytes = Buffer.from(good.bytes);
    bytes.writeUInt8((bytes[part + 200] ?? 0) ^ 1, part + 200);
    const { sealed: spoilt } = await openBytes(bytes);
    expect((await collect(spoilt, 'c', SEGMENT, 500)).equals(contents.c?.subarray(SEGMENT) ?? Buffer.alloc(1))).toBe(
      true,
    );
    const refused = { code: 'ERR_SEAL_TAMPERED', exitCode: 3 };
    await expect(collect(spoilt, 'c', 0, 1)).rejects.toMatchObject(refused);
    bytes.writeUInt8((bytes[part + 20] ?? 0) ^ 1, part + 20); // in the part's header
    await expect(collect((await openBytes(bytes)).sealed, 'c', SEGMENT, 500)).rejects.toMatchObject(refused);
  });

  test('refuses bytes and files that are not there', async () => {
    const { sealed } = await openBytes();
    for (const [path, offset, length] of [
      ['a', 0, 101],
      ['a', 101, 0],
      ['a', -1, 1],
      ['a', 0, -1],
      ['a', 0.5, 1],
      ['e', 0, 1],
      ['x', 0, 0],
      ['a', 2 ** 53, 2 ** 53],
    ] as const) {
      await expect(collect(sealed, path, offset, length)).rejects.toMatchObject({
        code: 'ERR_SEAL_RANGE',
        exitCode: 2,
      });
    }
  });
});

test('modelFormat knows a file by its first bytes', () => {
  const safetensors = Buffer.concat([Buffer.from([80, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{"__meta')]);
  expect(modelFormat('m', Buffer.from('GGUF\x03\0\0\0'))).toBe('GGUF version 3');
  expect(modelFormat('m', safetensors)).toBe('safetensors');
  expect(modelFormat('m.onnx', Buffer.from([8, 9, 0x12]))).toBe('ONNX');
  expect(modelFormat('m', Buffer.from('PK\x03\x04'))).toMatch(/ZIP/);
  expect(modelFormat('m', Buffer.from('\x89HDF\r\n\x1a\n', 'latin1'))).toBe('HDF5');
  for (const none of ['', 'GGUF', '{"a":1}', '\xff'.repeat(16)])
    expect(modelFormat('m', Buffer.from(none, 'latin1'))).toBeUndefined();
});
