import { randomFillSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { digestModel } from '../../../src/model/digest-files.ts';
import { truncated } from '../../../src/seal/errors.ts';
import { FLOE, FLOE_HEADER_LENGTH } from '../../../src/seal/floe.ts';
import { type ByteSource, openIndex, readHeader } from '../../../src/seal/open.ts';
import { unwrapContentKey } from '../../../src/seal/recipients.ts';
import { sealModel } from '../../../src/seal/seal.ts';
import { fileSource } from '../../../src/seal/source.ts';
import { extractOnThreads } from '../../../src/seal/stream.ts';
import { forge, newOwner, policy, xwing } from './fixture.ts';

// Opening as an enclave with two processors does: one thread reads, others decrypt and digest.

const owner = newOwner();
const key = xwing();
let good: Awaited<ReturnType<typeof forge>>;
beforeAll(async () => {
  good = await forge(owner, key);
});
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
  mkdirSync(join(dir, 'out'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const RUN = { phase: 'opening', doing: 'cannot open the model' };
const memory = (bytes: Buffer): ByteSource => ({
  size: bytes.length,
  read: async (offset, length) => {
    if (offset + length > bytes.length) throw truncated('short');
    return bytes.subarray(offset, offset + length);
  },
  close: async () => {},
});

async function openFrom(source: ByteSource, ck: Uint8Array) {
  const parsed = await readHeader(source);
  const index = await openIndex(source, parsed, ck);
  return extractOnThreads(source, parsed, index, ck, join(dir, 'out'), RUN);
}

test('more segments than slots, in several parts, from a file: every file is what it was', async () => {
  const model = join(dir, 'model');
  mkdirSync(model);
  const files: Record<string, Buffer> = {
    big: randomFillSync(Buffer.alloc((17 << 20) + 5)),
    exact: randomFillSync(Buffer.alloc(3 << 20)),
    small: Buffer.from('small'),
    zero: Buffer.alloc(0),
  };
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(model, name), bytes);
  const { digest } = await digestModel(model);
  await sealModel({
    model,
    policy: { ...policy, model: digest },
    ownerKey: owner.key,
    brokers: [xwing().publicRaw],
    threshold: 1,
    recovery: key.publicRaw,
    out: join(dir, 'sealed'),
    created: 1,
    expectDigest: digest,
    limits: { part: 3 << 20, large: 4 << 20 },
  });
  const source = await fileSource(join(dir, 'sealed'));
  try {
    const { header } = await readHeader(source);
    expect(header.parts.length).toBe(8);
    expect(await openFrom(source, await unwrapContentKey(header, key))).toEqual({ digest });
  } finally {
    await source.close();
  }
  // Empty files are the caller's.
  expect(readdirSync(join(dir, 'out')).sort()).toEqual(['big', 'exact', 'small']);
  for (const name of ['big', 'exact', 'small'])
    expect(readFileSync(join(dir, 'out', name)).equals(files[name] ?? Buffer.alloc(0))).toBe(true);
});

describe('refused', () => {
  const part = () => good.offsets[2] ?? 0;
  const flips: [string, () => number][] = [
    ["a part's header", () => part() + 20],
    ["a segment's length", () => part() + FLOE_HEADER_LENGTH],
    ["a segment's IV", () => part() + FLOE_HEADER_LENGTH + 5],
    ['ciphertext', () => part() + FLOE_HEADER_LENGTH + 5000],
    ['a tag', () => part() + FLOE_HEADER_LENGTH + FLOE.segmentLength - 1],
    ["the last segment's ciphertext", () => (good.offsets[4] ?? 0) + FLOE_HEADER_LENGTH + 17],
  ];
  test.each(flips)('a flipped bit in %s', async (_, at) => {
    const bytes = Buffer.from(good.bytes);
    bytes[at()] = (bytes[at()] ?? 0) ^ 1;
    await expect(openFrom(memory(bytes), good.ck)).rejects.toMatchObject({ code: 'ERR_SEAL_TAMPERED', exitCode: 3 });
  });

  test('swapped segments, swapped parts', async () => {
    const segments = Buffer.from(good.bytes);
    const [first, second] = [good.offsets[2] ?? 0, good.offsets[3] ?? 0];
    const from = first + FLOE_HEADER_LENGTH;
    segments.set(good.bytes.subarray(from + FLOE.segmentLength, from + FLOE.segmentLength + 532), from);
    await expect(openFrom(memory(segments), good.ck)).rejects.toMatchObject({ code: 'ERR_SEAL_TAMPERED' });
    const parts = Buffer.from(good.bytes);
    parts.set(good.bytes.subarray(second, second + (second - first)), first);
    parts.set(good.bytes.subarray(first, second), second);
    await expect(openFrom(memory(parts), good.ck)).rejects.toMatchObject({ code: 'ERR_SEAL_TAMPERED' });
  });

  test('padding that is not zero', async () => {
    const bytes = Buffer.from(good.bytes);
    bytes[bytes.length - 1] = 1;
    await expect(openFrom(memory(bytes), good.ck)).rejects.toMatchObject({ code: 'ERR_SEAL_PADDING', exitCode: 2 });
  });

  test('another digest than the content has, as a stale cache writes it', async () => {
    const files = (list: Parameters<NonNullable<Parameters<typeof forge>[2]>['files'] & {}>[0]) =>
      list.map((file) => (file.path === 'd' ? { ...file, sha256: Buffer.alloc(32) } : file));
    const stale = await forge(owner, key, { files });
    await expect(openFrom(memory(stale.bytes), stale.ck)).rejects.toMatchObject({
      code: 'ERR_SEAL_DIGEST',
      message: expect.stringContaining('d'),
    });
  });

  test('another content key, before anything is read', async () => {
    const source = memory(good.bytes);
    const parsed = await readHeader(source);
    const index = await openIndex(source, parsed, good.ck);
    const wrong = extractOnThreads(source, parsed, index, Buffer.alloc(32, 4), join(dir, 'out'), RUN);
    await expect(wrong).rejects.toMatchObject({ code: 'ERR_SEAL_KEY' });
    expect(readdirSync(join(dir, 'out'))).toEqual([]);
  });

  test('a source that ends while threads wait for it: its own error', async () => {
    const source = memory(good.bytes);
    const read = async (offset: number, length: number) => {
      if (offset > part() + FLOE.segmentLength) throw truncated('the host hung up');
      return source.read(offset, length);
    };
    await expect(openFrom({ ...source, read }, good.ck)).rejects.toMatchObject({ code: 'ERR_SEAL_TRUNCATED' });
  });

  test('a segment, by threads, while the source is silent: nobody waits for it', async () => {
    const bytes = Buffer.from(good.bytes);
    bytes[part() + 20] = (bytes[part() + 20] ?? 0) ^ 1;
    const source = memory(bytes);
    const read = (offset: number, length: number) =>
      offset > part() + FLOE.segmentLength ? new Promise<Uint8Array>(() => {}) : source.read(offset, length);
    await expect(openFrom({ ...source, read }, good.ck)).rejects.toMatchObject({ code: 'ERR_SEAL_TAMPERED' });
  });
});
