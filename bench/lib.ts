/** What benchmarks share: interleaved runs, medians, one line per ratio. Nothing here asserts a time. */

/** The middle value. */
export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/**
 * Runs each contender once per round, in turn, so that a slow minute of the machine hits all of them.
 * Returns milliseconds per contender and round; the first round warms up and is dropped.
 */
export async function interleave<K extends string>(
  rounds: number,
  contenders: Record<K, () => unknown>,
): Promise<Record<K, number[]>> {
  const times = Object.fromEntries(Object.keys(contenders).map((name) => [name, [] as number[]])) as Record<
    K,
    number[]
  >;
  for (let round = 0; round <= rounds; round++) {
    for (const name of Object.keys(contenders) as K[]) {
      const before = performance.now();
      await contenders[name]();
      if (round > 0) times[name].push(performance.now() - before);
    }
  }
  return times;
}

/** "seal / limit: 1.21 (bar 1.40)". */
export function report(what: string, ratio: number, bar?: number): void {
  console.log(`${what}: ${ratio.toFixed(2)}x${bar === undefined ? '' : ` (bar ${bar.toFixed(2)}x)`}`);
}
