import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort, workerData } from 'node:worker_threads';
import { checkSeeds, type Finding, run } from './engine.ts';
import { TARGETS } from './targets.ts';

export interface WorkerTask {
  seed: string;
  /** This one of so many workers: it takes every so-manieth input. */
  index: number;
  workers: number;
  targets: { name: string; runs: number }[];
  /** What the worker is at, for the watchdog: see `slot`. */
  shared: SharedArrayBuffer;
}

/** A target is done with. `growth` is bytes of memory that stayed, after the first fifth of the inputs. */
export interface WorkerReport {
  target: string;
  inputs: number;
  seconds: number;
  slowestMs: number;
  growth: number;
  findings: Finding[];
}

/** Numbers at the start of the shared memory; the input follows. */
export const SLOT = { count: 0, index: 1, length: 2, target: 3, bytes: 16 } as const;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

async function held(): Promise<number> {
  for (let times = 0; times < 3; times++) {
    collect();
    await nextTurn();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function work({ seed, index, workers, targets, shared }: WorkerTask): Promise<void> {
  const numbers = new Int32Array(shared, 0, 4);
  const memory = new Uint8Array(shared, SLOT.bytes);
  for (const [number, { name, runs }] of targets.entries()) {
    const target = TARGETS.find((one) => one.name === name);
    if (target === undefined) throw new Error(`no target ${name}`);
    const seeds = await target.seeds();
    await checkSeeds(target, seeds);
    let inputs = 0;
    let slowestMs = 0;
    let before = 0;
    let last = performance.now();
    const begin = last;
    const fifth = Math.ceil(runs / workers / 5);
    const findings = await run({
      target,
      seeds,
      seed,
      from: index,
      to: runs,
      step: workers,
      before: (input, at) => {
        memory.set(input.subarray(0, memory.length));
        numbers[SLOT.index] = at;
        numbers[SLOT.length] = Math.min(input.length, memory.length);
        numbers[SLOT.target] = number;
        Atomics.add(numbers, SLOT.count, 1);
        last = performance.now();
      },
      after: async () => {
        slowestMs = Math.max(slowestMs, performance.now() - last);
        inputs++;
        if (inputs === fifth) before = await held();
      },
    });
    const seconds = (performance.now() - begin) / 1000;
    // Findings end a run early.
    const growth = inputs > fifth ? (await held()) - before : 0;
    const report: WorkerReport = { target: name, inputs, seconds, slowestMs, growth, findings };
    parentPort?.postMessage(report);
  }
}

if (parentPort) await work(workerData as WorkerTask);
