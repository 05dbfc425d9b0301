import { describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/core/bytes.ts';
import { type Plan, planParts } from '../../../src/seal/plan.ts';
import { type NewFile, planReuse } from '../../../src/seal/reuse-plan.ts';

const limits = { part: 100, large: 50 };
const file = (path: string, size: number, content: string): NewFile => ({
  path,
  size,
  sha256: sha256(Buffer.from(content)),
});

/** The index of what planParts makes of files. */
function index(
  files: NewFile[],
  plan: Plan = planParts(
    files.map(({ size }) => size),
    limits,
  ),
) {
  return {
    files: files.map((f, i) => ({ ...f, mode: 0o644, extents: plan.extents[i] ?? [] })),
    pieces: plan.pieces,
  };
}
/** Parts in order: which old one, or the files in a new one. */
const shape = ({ parts, old, pieces }: Plan) =>
  parts.map((_, part) => old[part] ?? pieces.filter((p) => p.part === part).map((p) => p.file));
const plan = (before: NewFile[], after: NewFile[], changed: number[] = []) =>
  planReuse(index(before), after, limits).finish(new Set(changed));

/** What layOut of index-part.ts asks of every index. */
function checkLayout(files: NewFile[], { parts, extents, pieces }: Plan): void {
  const left = [...parts];
  for (const [i, { size }] of files.entries()) expect(extents[i]?.reduce((sum, e) => sum + e.length, 0)).toBe(size);
  let open: { file: number; next: number } | null = null;
  let at = { part: 0, offset: 0 };
  for (const piece of pieces) {
    if (at.offset === parts[at.part]) at = { part: at.part + 1, offset: 0 };
    expect(piece).toMatchObject(at);
    expect(piece).toMatchObject(open ? { file: open.file, fileOffset: open.next } : { fileOffset: 0 });
    at.offset += piece.length;
    left[piece.part] = (left[piece.part] ?? 0) - piece.length;
    const next: number = piece.fileOffset + piece.length;
    open = next === files[piece.file]?.size ? null : { file: piece.file, next };
  }
  expect(left.every((n) => n === 0)).toBe(true);
}

const base = [
  file('a', 30, 'a'),
  file('b', 40, 'b'),
  file('c', 45, 'c'),
  file('big', 250, 'big'),
  file('empty', 0, ''),
  file('huge', 120, 'huge'),
];
// Parts: 0 = a b, 1 = c, 2 3 4 = big, 5 6 = huge.

describe('planReuse', () => {
  test('nothing changed: every part stays', () => {
    const p = plan(base, base);
    expect(shape(p)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    checkLayout(base, p);
  });

  test('a small file changed, grew, shrank: its part alone is new, its neighbours in it', () => {
    for (const size of [40, 41, 1, 0]) {
      const after = base.map((f) => (f.path === 'b' ? file('b', size, 'B') : f));
      const p = plan(base, after);
      expect(shape(p)).toEqual([1, 2, 3, 4, 5, 6, size ? [0, 1] : [0]]);
      checkLayout(after, p);
    }
  });

  test('files added and removed: new ones join the part that changed anyway', () => {
    const added = [...base, file('new', 10, 'new'), file('new-large', 60, 'l')];
    expect(shape(plan(base, added))).toEqual([0, 1, 2, 3, 4, 5, 6, [6], [7]]);
    const both = added.filter(({ path }) => path !== 'a');
    const p = plan(base, both);
    expect(shape(p)).toEqual([1, 2, 3, 4, 5, 6, [0, 5], [6]]);
    checkLayout(both, p);
  });

  test('of a large file that changed, the parts that did not stay', () => {
    const after = base.map((f) => (f.path === 'big' ? file('big', 250, 'BIG') : f));
    const { candidates, finish } = planReuse(index(base), after, limits);
    expect(candidates).toEqual([
      { part: 2, file: 3, fileOffset: 0, length: 100 },
      { part: 3, file: 3, fileOffset: 100, length: 100 },
      { part: 4, file: 3, fileOffset: 200, length: 50 },
    ]);
    const p = finish(new Set([3]));
    expect(shape(p)).toEqual([0, 1, 2, [3], 4, 5, 6]);
    checkLayout(after, p);
  });

  test('a large file that grew or shrank is cut where it was', () => {
    for (const [size, expected] of [
      [390, [0, 1, 2, 3, 4, [3], [3], 5, 6]],
      [210, [0, 1, 2, 3, [3], 5, 6]],
      [100, [0, 1, 2, 5, 6]],
    ] as const) {
      const after = base.map((f) => (f.path === 'big' ? file('big', size, 'BIG') : f));
      const p = plan(base, after);
      expect(shape(p)).toEqual(expected);
      checkLayout(after, p);
    }
  });

  test('renamed files, large and packed, keep their parts', () => {
    const after = base.map((f) => ({ ...f, path: `${f.path}-v2` }));
    const p = plan(base, after);
    expect(shape(p)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    checkLayout(after, p);
  });

  test('two files with one content are each taken once', () => {
    const twins = [file('x', 60, 'same'), file('y', 60, 'same')];
    expect(shape(plan(twins, twins))).toEqual([0, 1]);
    const one = [file('x', 60, 'same')];
    expect(shape(plan(one, twins))).toEqual([0, [1]]);
    expect(shape(plan(twins, one))).toEqual([0]);
  });

  test('large becomes small and the other way round; nothing in common', () => {
    const after = [file('a', 70, 'A'), file('big', 20, 'B')];
    const p = plan(base, after);
    expect(shape(p)).toEqual([[1], [0]]);
    checkLayout(after, p);
  });

  test('an older layout of another kind: files across parts that they share', () => {
    // One part holds x and the beginning of y, another the rest of y and z.
    const files = [file('x', 30, 'x'), file('y', 60, 'y'), file('z', 10, 'z')];
    const odd: Plan = {
      parts: [50, 50],
      old: [null, null],
      extents: [
        [{ part: 0, offset: 0, length: 30 }],
        [
          { part: 0, offset: 30, length: 20 },
          { part: 1, offset: 0, length: 40 },
        ],
        [{ part: 1, offset: 40, length: 10 }],
      ],
      pieces: [
        { part: 0, offset: 0, length: 30, file: 0, fileOffset: 0 },
        { part: 0, offset: 30, length: 20, file: 1, fileOffset: 0 },
        { part: 1, offset: 0, length: 40, file: 1, fileOffset: 20 },
        { part: 1, offset: 40, length: 10, file: 2, fileOffset: 0 },
      ],
    };
    expect(shape(planReuse(index(files, odd), files, limits).finish(new Set()))).toEqual([0, 1]);
    const after = [file('x', 30, 'X'), ...files.slice(1)];
    const p = planReuse(index(files, odd), after, limits).finish(new Set());
    expect(shape(p)).toEqual([[0, 2], [1]]);
    checkLayout(after, p);
  });

  test('any two versions make a layout that an index can have', () => {
    let seed = 1;
    const random = (n: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % n;
    };
    for (let round = 0; round < 300; round++) {
      const before = Array.from({ length: random(12) + 1 }, (_, i) =>
        file(`f${i}`, random(3) ? random(60) : random(400), `${i}`),
      );
      const after = before
        .filter(() => random(6) > 0)
        .map((f) => (random(3) ? f : file(f.path, random(3) ? f.size : random(300), `${round}`)))
        .map((f) => (random(5) ? f : { ...f, path: `${f.path}m` }));
      if (after.length === 0) continue;
      const old = index(before);
      const { candidates, finish } = planReuse(old, after, limits);
      const p = finish(new Set(candidates.filter(() => random(2)).map(({ part }) => part)));
      checkLayout(after, p);
      const taken = p.old.filter((part) => part !== null);
      expect(new Set(taken).size).toBe(taken.length);
      const lengths = planParts(
        before.map(({ size }) => size),
        limits,
      ).parts;
      for (const [i, part] of p.old.entries()) if (part !== null) expect(p.parts[i]).toBe(lengths[part]);
    }
  });
});
