import { describe, expect, test } from 'vitest';
import { planParts } from '../../../src/seal/plan.ts';

const limits = { part: 100, large: 50 };

describe('planParts', () => {
  test('small files are packed, large ones get parts of their own, empty ones nothing', () => {
    const plan = planParts([30, 250, 40, 0, 45], limits);
    expect(plan.parts).toEqual([70, 45, 100, 100, 50]);
    expect(plan.extents).toEqual([
      [{ part: 0, offset: 0, length: 30 }],
      [
        { part: 2, offset: 0, length: 100 },
        { part: 3, offset: 0, length: 100 },
        { part: 4, offset: 0, length: 50 },
      ],
      [{ part: 0, offset: 30, length: 40 }],
      [],
      [{ part: 1, offset: 0, length: 45 }],
    ]);
    expect(plan.pieces.map((p) => [p.file, p.fileOffset])).toEqual([
      [0, 0],
      [2, 0],
      [4, 0],
      [1, 0],
      [1, 100],
      [1, 200],
    ]);
  });

  test('a change in one large file leaves the parts of another', () => {
    const parts = (sizes: number[]) =>
      planParts(sizes, limits)
        .extents.at(-1)
        ?.map((e) => e.length);
    expect(parts([250, 120])).toEqual(parts([90, 120]));
  });

  test('nothing but empty files: no parts', () => expect(planParts([0, 0]).parts).toEqual([]));
});
