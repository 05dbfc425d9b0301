import { createCipheriv } from 'node:crypto';
import { cmac } from '@noble/ciphers/aes.js';
import { describe, expect, test } from 'vitest';
import { openProtectedFile, ProtectedFileWriter } from '../../../src/gramine/pf/index.ts';
import { NODE } from '../../../src/gramine/pf/layout.ts';
import { MemoryFile, pattern, protect, source, wrapKey } from './pf-fixture.ts';

const data = pattern(96 * NODE * 3);
const sealed = await protect(data);
const small = await protect(Buffer.from('hello'));

async function drain(bytes: Uint8Array, options: { path?: string } = {}, key: Uint8Array = wrapKey): Promise<number> {
  const file = await openProtectedFile(source(bytes), key, options);
  let length = 0;
  for await (const chunk of file.chunks()) length += chunk.length;
  return length;
}
const codeOf = (bytes: Uint8Array, options = {}) =>
  drain(bytes, options).then(
    () => 'opened',
    (error) => error.code,
  );
const edit = (bytes: Buffer, change: (copy: Buffer) => void) => {
  const copy = Buffer.from(bytes);
  change(copy);
  return copy;
};
const swap = (a: number, b: number) =>
  edit(sealed, (copy) => {
    sealed.copy(copy, a * NODE, b * NODE, (b + 1) * NODE);
    sealed.copy(copy, b * NODE, a * NODE, (a + 1) * NODE);
  });

test('untouched, it opens', async () => {
  expect(await drain(sealed)).toBe(data.length);
  expect(await drain(sealed, { path: 'a/b' })).toBe(data.length);
});

describe('bytes that are not a protected file', () => {
  test('nothing, a beginning, something else', async () => {
    expect(await codeOf(Buffer.alloc(0))).toBe('ERR_PF_MAGIC');
    expect(await codeOf(Buffer.alloc(NODE))).toBe('ERR_PF_MAGIC');
    expect(await codeOf(Buffer.from('GRAFS_P'))).toBe('ERR_PF_MAGIC');
    expect(await codeOf(small.subarray(0, 100))).toBe('ERR_PF_SIZE');
  });

  test('a version, a minor version or features that are not known', async () => {
    for (const version of [0, 3, 255]) {
      expect(await codeOf(edit(small, (b) => b.writeUInt8(version, 8)))).toBe('ERR_PF_VERSION');
    }
    expect(await codeOf(edit(small, (b) => b.writeUInt8(1, 9)))).toBe('ERR_PF_VERSION');
    expect(await codeOf(edit(small, (b) => b.writeUInt8(2, 58)))).toBe('ERR_PF_VERSION');
  });

  test('one version called the other', async () => {
    expect(await codeOf(edit(small, (b) => b.writeUInt8(1, 8)))).toMatch(/ERR_PF_(KEY|PADDING)/);
    const one = await protect(Buffer.from('hello'), 1);
    expect(await codeOf(edit(one, (b) => b.writeUInt8(2, 8)))).not.toBe('opened');
  });

  test('an interrupted write of Gramine says so', async () => {
    expect(await codeOf(edit(small, (b) => b.writeUInt8(1, 58)))).toBe('ERR_PF_RECOVERY');
  });
});

describe('changes', () => {
  test('every bit of the first node counts', async () => {
    const opened: number[] = [];
    for (let bit = 0; bit < 8 * NODE; bit += bit < 8 * 64 ? 1 : 61) {
      const hostile = edit(small, (b) => b.writeUInt8(b.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3));
      if ((await codeOf(hostile)) === 'opened') opened.push(bit);
    }
    expect(opened).toEqual([]);
  });

  test('a flipped bit in any node: which one is named', async () => {
    for (let node = 1; node < sealed.length / NODE; node += 16) {
      const hostile = edit(sealed, (b) => b.writeUInt8(b.readUInt8(node * NODE + 7) ^ 4, node * NODE + 7));
      const kind = (node - 1) % 97 === 0 ? 'tree' : 'data';
      await expect(drain(hostile)).rejects.toMatchObject({ code: 'ERR_PF_TAMPERED', exitCode: 3 });
      await expect(drain(hostile)).rejects.toThrow(`${kind} node`);
    }
  });

  test('swapped nodes: data with data, tree with tree, data with tree', async () => {
    for (const [a, b] of [
      [2, 3],
      [2, 99 + 1],
      [98, 195],
      [1, 98],
      [1, 2],
    ] as const) {
      expect(await codeOf(swap(a, b))).toBe('ERR_PF_TAMPERED');
    }
  });

  test('nodes of an older state of the same file', async () => {
    const older = await protect(data);
    expect(await codeOf(Buffer.concat([older.subarray(0, NODE), sealed.subarray(NODE)]))).toBe('ERR_PF_TAMPERED');
  });

  test('cut off, at a node and inside of one; extra nodes', async () => {
    for (const end of [sealed.length - NODE, NODE, 2 * NODE, sealed.length - 1]) {
      expect(await codeOf(sealed.subarray(0, end))).toBe('ERR_PF_SIZE');
    }
    expect(await codeOf(Buffer.concat([sealed, Buffer.alloc(NODE)]))).toBe('ERR_PF_SIZE');
    expect(await codeOf(Buffer.concat([small, small]))).toBe('ERR_PF_SIZE');
  });

  test('cut off while it is read', async () => {
    const file = await openProtectedFile(
      { size: sealed.length, read: async (at, length) => sealed.subarray(at, Math.min(at + length, 50 * NODE)) },
      wrapKey,
    );
    await expect(file.read(0, data.length)).rejects.toMatchObject({ code: 'ERR_PF_SIZE' });
  });

  test('another wrap key; the file of another path', async () => {
    await expect(drain(small, {}, Buffer.alloc(16))).rejects.toMatchObject({ code: 'ERR_PF_KEY', exitCode: 3 });
    for (const path of ['a/c', 'a', 'a/b/', '/a/b', '']) {
      await expect(drain(small, { path })).rejects.toMatchObject({ code: 'ERR_PF_PATH', exitCode: 3 });
    }
  });
});

test('a tree node that was put aside is changed, or swapped for another, before it comes back', async () => {
  for (const change of [
    (copy: Buffer) => copy.writeUInt8(copy.readUInt8(3) ^ 1, 3),
    (copy: Buffer) => sealed.copy(copy, 0, NODE, 2 * NODE),
    (copy: Buffer) => copy.fill(0),
  ]) {
    const file = new MemoryFile();
    const hostile = {
      write: file.write,
      read: (async (into: Buffer, at: number, length: number, position: number) => {
        const result = await file.read(into, at, length, position);
        change(into);
        return result;
      }) as typeof file.read,
    };
    const writer = new ProtectedFileWriter(hostile, { wrapKey, path: 'x', size: data.length, version: 1 });
    const writing = writer.write(data).then(() => writer.finish());
    await expect(writing).rejects.toMatchObject({ code: 'ERR_PF_TAMPERED' });
    expect(file.bytes.subarray(0, NODE).equals(Buffer.alloc(NODE))).toBe(true); // never became valid
  }
});

describe('nonsense by somebody who holds the wrap key', () => {
  /** A version 1 file whose secret part is this, written without our writer. */
  function forge(secret: Buffer): Buffer {
    const node = Buffer.alloc(NODE);
    node.write('GRAFS_PF\x01', 'latin1');
    const input = Buffer.alloc(104);
    input.writeUInt32LE(1);
    input.write('SGX-PROTECTED-FS-METADATA-KEY', 4);
    input.writeUInt32LE(128, 100);
    const cipher = createCipheriv('aes-128-gcm', cmac(input, wrapKey), Buffer.alloc(12));
    cipher.update(secret).copy(node, 58);
    cipher.final();
    cipher.getAuthTag().copy(node, 42);
    return node;
  }
  const secret = (size: bigint, path = Buffer.from('a')) => {
    const bytes = Buffer.alloc(3884);
    path.copy(bytes);
    bytes.writeBigUInt64LE(size, 772);
    return bytes;
  };

  test('a sane one opens', async () => expect(await drain(forge(secret(5n)), { path: 'a' })).toBe(5));

  test('sizes near 2^64 and beyond what is supported', async () => {
    for (const size of [2n ** 64n - 1n, 2n ** 63n, 2n ** 53n, 2n ** 40n + 1n]) {
      expect(await codeOf(forge(secret(size)))).toBe('ERR_PF_MALFORMED');
    }
    expect(await codeOf(forge(secret(2n ** 40n)))).toBe('ERR_PF_SIZE');
  });

  test('a path without an end, or that is not UTF-8', async () => {
    expect(await codeOf(forge(secret(5n, Buffer.alloc(772, 'a'))))).toBe('ERR_PF_MALFORMED');
    expect(await codeOf(forge(secret(5n, Buffer.from([0xc3, 0x28]))))).toBe('ERR_PF_MALFORMED');
  });
});
