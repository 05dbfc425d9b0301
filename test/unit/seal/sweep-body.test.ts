/** Integrity sweep of index and parts, exhaustive for a small model: bits, and whole sections in each other's places. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ParsedHeader } from '../../../src/seal/header.ts';
import { unsealFile } from '../../../src/seal/index.ts';
import { openIndex, readHeader, type SealIndex } from '../../../src/seal/open.ts';
import { readRange } from '../../../src/seal/range.ts';
import { open } from '../../reference/sealed.ts';
import { extractAll, flipEvery, memory, openFast, outcome, type Small, small } from './sweep-model.ts';

const SHAPE = { files: [20, 0, 15], partSize: 18, brokers: 1, threshold: 1, recovery: true };
const model = small(SHAPE);
const { bytes, ck, sections } = model;
const source = memory(bytes);
let parsed: ParsedHeader;
let index: SealIndex;
beforeAll(async () => {
  parsed = await readHeader(source);
  index = await openIndex(source, parsed, ck);
});

const starts = sections.map((_, i) => sections.slice(0, i).reduce((sum, s) => sum + s.length, 0));
const lengths = (header: ParsedHeader['header']) => [header.index.length, ...header.parts.map(({ length }) => length)];

test('untouched, it opens', async () => {
  expect(index.parts).toHaveLength(2);
  expect(await openFast(model, bytes, 'recovery')).toEqual(model.contents);
});

// The header is not touched, so it is read once. What lies in a part does not change how the index reads.
test.each(['the index', 'part 1', 'part 2'].map((name, i) => ({ name, i })))(
  'every bit of $name and of its padding, flipped',
  async ({ i }) => {
    const start = starts[i + 1] ?? 0;
    const end = start + (lengths(parsed.header)[i] ?? 0);
    const each = i === 0 ? () => openIndex(source, parsed, ck) : () => extractAll(source, parsed, index, ck);
    const stop = start + (sections[i + 1]?.length ?? 0);
    expect([...(await flipEvery(bytes, start, end, each)).keys()]).toEqual(['ERR_SEAL_TAMPERED']);
    expect([...(await flipEvery(bytes, end, stop, each)).keys()]).toEqual(['ERR_SEAL_PADDING']);
  },
);

/** Of this model, and of another one of the same shape by the same owner. */
describe("sections in each other's places", () => {
  const other = small(SHAPE, 'other');
  const names = ['index', 'part 1', 'part 2'];

  test('any of index and parts of both models in any place: swapped, repeated, spliced', async () => {
    const pool = [...sections.slice(1), ...other.sections.slice(1)];
    for (let choice = 0; choice < pool.length ** 3; choice++) {
      const picks = [0, 1, 2].map((place) => Math.floor(choice / pool.length ** place) % pool.length);
      const file = Buffer.concat([
        sections[0] ?? Buffer.alloc(0),
        ...picks.map((pick) => pool[pick] ?? Buffer.alloc(0)),
      ]);
      const code = await outcome(() => openFast(model, file, 'ck'));
      const own = picks.every((pick, i) => pick === i);
      if (code !== (own ? 'opened' : 'ERR_SEAL_TAMPERED'))
        expect({ code, picks: picks.map((p) => names[p % 3]) }).toBeNull();
    }
  });

  test('left out, or there once more', async () => {
    for (let i = 1; i < sections.length; i++) {
      const less = Buffer.concat(sections.filter((_, j) => j !== i));
      const more = Buffer.concat(sections.flatMap((section, j) => (j === i ? [section, section] : [section])));
      expect(await outcome(() => openFast(model, less, 'ck'))).toBe('ERR_SEAL_TRUNCATED');
      expect(await outcome(() => openFast(model, more, 'ck'))).toBe('ERR_SEAL_TRAILING');
    }
  });

  test("the other model's header before these sections", async () => {
    const file = Buffer.concat([other.sections[0] ?? Buffer.alloc(0), ...sections.slice(1)]);
    expect(await outcome(() => openFast(other, file, 'recovery'))).toBe('ERR_SEAL_TAMPERED');
  });
});

describe('a part of three segments', () => {
  const MIB = 2 ** 20;
  const SEGMENT = MIB + 32;
  let large: Small;
  let first: number;
  let segments: Buffer[];
  beforeAll(() => {
    large = small({ files: [2 * MIB + 3000], partSize: 2 * MIB + 3000, brokers: 1, threshold: 1, recovery: true });
    first = (large.sections[0]?.length ?? 0) + (large.sections[1]?.length ?? 0) + 74;
    segments = [0, 1].map((i) => large.bytes.subarray(first + i * SEGMENT, first + (i + 1) * SEGMENT));
    segments.push(large.bytes.subarray(first + 2 * SEGMENT, first + 2 * SEGMENT + 3032));
  });
  const rebuilt = (order: number[]) => {
    const file = Buffer.from(large.bytes);
    const body = Buffer.concat(order.map((i) => segments[i] ?? Buffer.alloc(0)));
    body.copy(file, first, 0, Math.min(body.length, 2 * SEGMENT + 3032));
    return file;
  };

  test('segments in any other order, repeated, left out', async () => {
    for (let a = 0; a < 3; a++)
      for (let b = 0; b < 3; b++)
        for (let c = 0; c < 3; c++) {
          const code = await outcome(() => openFast(large, rebuilt([a, b, c]), 'ck'));
          expect({ order: [a, b, c], code }).toEqual({
            order: [a, b, c],
            code: [a, b, c].join() === '0,1,2' ? 'opened' : 'ERR_SEAL_TAMPERED',
          });
        }
  });

  test('bits here and there, by both ways of opening, by range and by the second reader', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'atoma-sweep-'));
    const [sealed, out] = [join(dir, 'bad.sealed'), join(dir, 'out')];
    try {
      // Mark, IV, ciphertext and tag of each segment, then the padding.
      const places = [0, 1, 2].flatMap((i) =>
        [0, 3, 4, 15, 16, 1500, 3000, 3031].map((at) => first + i * SEGMENT + at),
      );
      places.push(first - 74, first - 60, first - 1, large.bytes.length - 1);
      for (const [i, place] of places.entries()) {
        const bad = Buffer.from(large.bytes);
        bad.writeUInt8(bad.readUInt8(place) ^ (1 << (i % 8)), place);
        const expected = place === bad.length - 1 ? 'ERR_SEAL_PADDING' : 'ERR_SEAL_TAMPERED';
        expect(await outcome(() => openFast(large, bad, 'ck')), String(place)).toBe(expected);
        if (i % 4 === 3) {
          writeFileSync(sealed, bad);
          expect(await outcome(() => unsealFile({ sealed, key: large.recovery, out }))).toBe(expected);
          expect(readdirSync(dir)).toEqual(['bad.sealed']);
          const seed = new Uint8Array(large.recovery.seed);
          expect(await outcome(() => open(new Uint8Array(bad), { recovery: seed }))).toBe(expected);
        }
      }
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test('a range gives what is there or refuses, for a bit in each segment', async () => {
    for (const [i, at] of [0, 1, 2].map((n) => [n, first + n * SEGMENT + 20] as const)) {
      const bad = Buffer.from(large.bytes);
      bad.writeUInt8(bad.readUInt8(at) ^ 1, at);
      const opened = { source: memory(bad), parsed: await readHeader(memory(bad)) };
      const sealed = { ...opened, index: await openIndex(opened.source, opened.parsed, large.ck) };
      for (const j of [0, 1, 2]) {
        const code = await outcome(async () => {
          for await (const piece of readRange(sealed, 'd/0', j * MIB + 5, 100))
            expect(piece.equals(large.contents['d/0']?.subarray(j * MIB + 5, j * MIB + 105) ?? Buffer.alloc(0))).toBe(
              true,
            );
        });
        expect(code).toBe(i === j ? 'ERR_SEAL_TAMPERED' : 'opened');
      }
    }
  });
});
