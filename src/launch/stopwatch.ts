/** Times the steps of a launch, one after the other. */
export interface Stopwatch {
  /** Milliseconds per step, in order. */
  laps: Record<string, number>;
  /** Forgets what went by since the last step. */
  start(): void;
  /** Ends a step. */
  lap(name: string): void;
}

export function stopwatch(): Stopwatch {
  let since = performance.now();
  const laps: Record<string, number> = {};
  const start = () => {
    since = performance.now();
  };
  return {
    laps,
    start,
    lap(name) {
      laps[name] = performance.now() - since;
      start();
    },
  };
}
