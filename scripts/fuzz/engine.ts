import { setImmediate as nextTurn } from 'node:timers/promises';
import { AtomaError } from '../../src/core/errors.ts';
import { mutate, randomFrom, seedOf } from './mutate.ts';
import type { Seed, Target } from './target.ts';

export interface Finding {
  target: string;
  /** `crash`: anything thrown but AtomaError. `accepted`: changed bytes were taken for genuine. */
  kind: 'crash' | 'accepted' | 'hang' | 'memory';
  detail: string;
  /** Which input it was: the same target, seed and index make the same bytes from the same seed files. */
  index: number;
  input: Buffer;
}

export interface RunOptions {
  target: Target;
  seeds: Seed[];
  seed: string;
  /** The inputs with the numbers from, from + step, ... below `to`. */
  from: number;
  to: number;
  step: number;
  /** Told before each input, for a watchdog. */
  before?: (input: Buffer, index: number) => void;
  /** Told after each. */
  after?: (index: number) => void | Promise<void>;
}

/** Every seed must be taken for what it is, else nothing behind the first check is ever reached. */
export async function checkSeeds(target: Target, seeds: Seed[]): Promise<void> {
  if (seeds.length === 0) throw new Error(`${target.name}: no seeds`);
  for (const { name, bytes, accepts } of seeds) {
    if (!(await accepts(Buffer.from(bytes))))
      throw new Error(`${target.name}: the seed ${name} is not accepted unchanged`);
  }
}

/** Feeds mutated seeds to a parser. Returns what should not have happened, at most ten. */
export async function run(options: RunOptions): Promise<Finding[]> {
  const { target, seeds, seed, from, to, step, before, after } = options;
  const findings: Finding[] = [];
  const all = seeds.map(({ bytes }) => bytes);
  for (let index = from; index < to && findings.length < 10; index += step) {
    const random = randomFrom(seedOf(`${seed}/${target.name}`, index));
    const chosen = seeds[random(seeds.length)] as Seed;
    const input = mutate(chosen.bytes, all, random);
    before?.(input, index);
    const problem = await judge(target, chosen, input);
    if (problem) findings.push({ target: target.name, index, input, ...problem });
    await after?.(index);
    // Keys and certificates of OpenSSL's are freed between turns of the event loop only.
    if (index % 1024 < step) await nextTurn();
  }
  return findings;
}

async function judge(target: Target, seed: Seed, input: Buffer): Promise<Pick<Finding, 'kind' | 'detail'> | undefined> {
  // A parser that changes its input, or keeps a view of it, does so to a copy.
  const copy = Buffer.from(input);
  try {
    const result = seed.accepts(copy);
    const accepted = typeof result === 'boolean' ? result : await result;
    if (!accepted || !target.genuine || input.equals(seed.bytes) || seed.means?.(input) === true) return undefined;
    return { kind: 'accepted', detail: `a changed ${seed.name} was accepted` };
  } catch (error) {
    if (error instanceof AtomaError) return undefined;
    return { kind: 'crash', detail: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
