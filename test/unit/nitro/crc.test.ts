import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import { crc32Combine } from '../../../src/nitro/crc.ts';

test("two CRCs put together are zlib's CRC of both", () => {
  for (let i = 0; i < 200; i++) {
    const bytes = randomBytes(i * 37);
    const cut = i === 0 ? 0 : bytes.readUInt8(0) % bytes.length;
    const [first, second] = [bytes.subarray(0, cut), bytes.subarray(cut)];
    expect(crc32Combine(crc32(first), crc32(second), second.length)).toBe(crc32(bytes));
  }
});

test('a second part of more than 4 GiB', () => {
  // 6 GiB and 3 bytes of zeros by doubling: the CRC of a run twice as long is combined from itself.
  const run = (length: number): number => {
    if (length < 1 << 20) return crc32(Buffer.alloc(length));
    const half = run(Math.floor(length / 2));
    const even = crc32Combine(half, half, Math.floor(length / 2));
    return length % 2 === 0 ? even : crc32(Buffer.alloc(1), even);
  };
  const length = 6 * 2 ** 30 + 3;
  // Known from elsewhere: appending in two ways must agree.
  const first = crc32(Buffer.from('header'));
  const parts = [2 ** 32, 2 ** 31, 3];
  const stepwise = parts.reduce((crc, size) => crc32Combine(crc, run(size), size), first);
  expect(crc32Combine(first, run(length), length)).toBe(stepwise);
});
