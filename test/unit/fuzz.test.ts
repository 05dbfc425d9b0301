import { describe, expect, test } from 'vitest';
import { checkSeeds, run } from '../../scripts/fuzz/engine.ts';
import { mutate, randomFrom, seedOf } from '../../scripts/fuzz/mutate.ts';
import type { Seed, Target } from '../../scripts/fuzz/target.ts';
import { TARGETS } from '../../scripts/fuzz/targets.ts';
import { usageError } from '../../src/core/errors.ts';

// `npm run fuzz` with millions of inputs; here some thousands of each fast target, and hundreds of those that check
// signatures, the same in every run.

const RUNS = 3000;
const LEAST = 200;

describe('changed bytes never crash a parser, and never pass for genuine', () => {
  test.each(TARGETS.map((target) => [target.name, target] as const))('%s', async (_, target) => {
    const seeds = await target.seeds();
    await checkSeeds(target, seeds);
    const to = Math.max(LEAST, Math.round(RUNS * target.share));
    const findings = await run({ target, seeds, seed: 'test', from: 0, to, step: 1 });
    expect(
      findings.map(({ input, ...finding }) => ({ ...finding, input: input.toString('hex').slice(0, 2000) })),
    ).toEqual([]);
  });
});

describe('the search finds what it is for', () => {
  const target = (genuine: boolean): Target => ({ name: 'made up', genuine, share: 1, seeds: async () => [] });
  const seed = (accepts: Seed['accepts']): Seed => ({ name: 'one', bytes: Buffer.from('0123456789abcdef'), accepts });
  const search = (genuine: boolean, accepts: Seed['accepts'], means?: Seed['means']) =>
    run({
      target: target(genuine),
      seeds: [{ ...seed(accepts), ...(means ? { means } : {}) }],
      seed: 'test',
      from: 0,
      to: 2000,
      step: 1,
    });

  test('a crash', async () => {
    const parse = (input: Buffer) => {
      if (input[3] === 0xff) throw new TypeError('of the parser');
      throw usageError('ERR_USAGE', 'malformed');
    };
    const [finding] = await search(false, parse);
    expect(finding?.kind).toBe('crash');
    expect(finding?.detail).toContain('of the parser');
    expect(finding?.input[3]).toBe(0xff);
  });

  test('a crash that comes later', async () => {
    const [finding] = await search(false, async () => Promise.reject(new RangeError('of a promise')));
    expect(finding?.kind).toBe('crash');
  });

  test('a signature that does not cover the last byte', async () => {
    const verify = (input: Buffer) => input.toString('latin1', 0, 15) === '0123456789abcde';
    const [finding] = await search(true, verify);
    expect(finding?.kind).toBe('accepted');
    expect(await search(false, verify)).toEqual([]);
    expect(await search(true, verify, verify)).toEqual([]);
  });

  test('a seed that is not accepted', async () => {
    await expect(checkSeeds(target(true), [seed(() => false)])).rejects.toThrow('not accepted unchanged');
    await expect(checkSeeds(target(true), [])).rejects.toThrow('no seeds');
  });

  test('the same numbers give the same bytes, other numbers others', () => {
    const bytes = Buffer.from('0123456789abcdef');
    const at = (index: number) => mutate(bytes, [bytes], randomFrom(seedOf('test', index))).toString('hex');
    const all = Array.from({ length: 1000 }, (_, index) => at(index));
    expect(all).toEqual(Array.from({ length: 1000 }, (_, index) => at(index)));
    expect(new Set(all).size).toBeGreaterThan(600);
  });
});
