/**
 * `npm run fuzz -- [--target NAME]... [--runs N] [--seed S]`: changed seeds into every parser of hostile bytes, on all cores.
 * Prints inputs per second, and ends with 1 if anything was a crash (any error but AtomaError), an acceptance of changed
 * bytes that are signed or have a checksum, a hang, or memory that grows; the input is then in the directory that it names.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import type { Finding } from './fuzz/engine.ts';
import { TARGETS } from './fuzz/targets.ts';
import { SLOT, type WorkerReport, type WorkerTask } from './fuzz/worker.ts';

/** Over all targets, by their shares. */
const RUNS = 4_000_000;
/** An input of a megabyte at most takes milliseconds; other work on the machine must not look like a hang. */
const HANG_MS = 20_000;
/** What a worker may keep after a run; caches of parsers are bounded, and full by then. */
const GROWTH = 48 << 20;
const HEAP_MB = 1024;
const MOST_INPUT = 1 << 20;

const { values } = parseArgs({
  options: {
    target: { type: 'string', multiple: true },
    runs: { type: 'string' },
    seed: { type: 'string', default: 'atoma-tee' },
    workers: { type: 'string' },
    out: { type: 'string', default: join(tmpdir(), 'atoma-tee-fuzz') },
    input: { type: 'string' },
  },
});

const names = values.target ?? TARGETS.map(({ name }) => name);
const unknown = names.find((name) => TARGETS.every((target) => target.name !== name));
const runs = Number(values.runs ?? (values.target ? 1_000_000 : RUNS));
if (unknown !== undefined || !Number.isSafeInteger(runs) || runs < 1) {
  console.error(unknown === undefined ? 'expected --runs to be a number' : `no target ${unknown}`);
  console.error(`targets: ${TARGETS.map(({ name }) => name).join(' ')}`);
  process.exit(2);
}
process.exit(values.input === undefined ? await fuzz() : await again(values.input));

/** One input, such as a finding that was saved, through every seed of a target. */
async function again(path: string): Promise<number> {
  const input = readFileSync(path);
  for (const target of TARGETS.filter(({ name }) => names.includes(name))) {
    for (const { name, accepts } of await target.seeds()) {
      const result = await Promise.resolve()
        .then(() => accepts(Buffer.from(input)))
        .catch((error: unknown) => error);
      console.log(`${target.name}, ${name}:`, result);
    }
  }
  return 0;
}

async function fuzz(): Promise<number> {
  const workers = Math.max(1, Number(values.workers ?? availableParallelism()));
  const chosen = TARGETS.filter(({ name }) => names.includes(name));
  // With targets named, each gets all the runs.
  const shares = values.target ? 1 : chosen.reduce((sum, { share }) => sum + share, 0);
  const targets = chosen.map(({ name, share }) => ({
    name,
    runs: Math.max(workers * 10, Math.round(values.target ? runs : (runs * share) / shares)),
  }));
  const begin = performance.now();
  const reports: WorkerReport[] = [];
  const findings: Finding[] = [];
  await Promise.all(
    Array.from({ length: workers }, (_, index) =>
      oneWorker({ seed: values.seed, index, workers, targets }, reports, findings, () => printTarget(reports, workers)),
    ),
  );
  const inputs = reports.reduce((sum, report) => sum + report.inputs, 0);
  const seconds = (performance.now() - begin) / 1000;
  console.log(`${inputs} inputs in ${seconds.toFixed(0)} s with seed "${values.seed}": ${findings.length} findings`);
  for (const finding of findings.filter(({ kind }) => kind !== 'hang')) save(finding);
  return findings.length === 0 ? 0 : 1;
}

function printTarget(reports: WorkerReport[], workers: number): void {
  const target = reports.at(-1)?.target ?? '';
  const own = reports.filter((report) => report.target === target);
  if (own.length < workers) return;
  const inputs = own.reduce((sum, report) => sum + report.inputs, 0);
  const rate = own.reduce((sum, report) => sum + report.inputs / report.seconds, 0);
  const slowest = Math.max(...own.map(({ slowestMs }) => slowestMs));
  const growth = Math.max(...own.map((report) => report.growth)) / 2 ** 20;
  console.log(
    `${target.padEnd(16)} ${String(inputs).padStart(8)} inputs, ${rate.toFixed(0).padStart(6)}/s, slowest ${slowest.toFixed(0)} ms, memory ${growth >= 0 ? '+' : ''}${growth.toFixed(1)} MiB`,
  );
}

function save({ target, kind, detail, index, input }: Finding): void {
  const directory = resolve(values.out);
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${target}-${kind}-${index}`);
  writeFileSync(path, input);
  console.error(`\n${kind} in ${target}, input ${index} (${input.length} bytes): ${path}\n${detail}`);
}

/** Runs a worker to its end, or to a hang. */
function oneWorker(
  task: Omit<WorkerTask, 'shared'>,
  reports: WorkerReport[],
  findings: Finding[],
  printed: () => void,
): Promise<void> {
  const shared = new SharedArrayBuffer(SLOT.bytes + MOST_INPUT);
  const numbers = new Int32Array(shared, 0, 4);
  const current = (kind: Finding['kind'], detail: string): Finding => ({
    target: task.targets[numbers[SLOT.target] ?? 0]?.name ?? '',
    kind,
    detail,
    index: numbers[SLOT.index] ?? 0,
    input: Buffer.from(new Uint8Array(shared, SLOT.bytes, numbers[SLOT.length])),
  });
  const worker = new Worker(new URL('./fuzz/worker.ts', import.meta.url), {
    workerData: { ...task, shared } satisfies WorkerTask,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
  });
  return new Promise((resolve) => {
    let seen = -1;
    let since = performance.now();
    const watchdog = setInterval(() => {
      const count = Atomics.load(numbers, SLOT.count);
      if (count !== seen) {
        seen = count;
        since = performance.now();
      } else if (count > 0 && performance.now() - since > HANG_MS) {
        const hang = current('hang', `no answer within ${HANG_MS} ms`);
        findings.push(hang);
        // At once: whatever does not answer may take the memory of the whole process.
        save(hang);
        clearInterval(watchdog);
        void worker.terminate();
      }
    }, 500);
    worker.on('message', (report: WorkerReport) => {
      reports.push(report);
      findings.push(...report.findings.map((finding) => ({ ...finding, input: Buffer.from(finding.input) })));
      if (report.growth > GROWTH) {
        const detail = `${(report.growth / 2 ** 20).toFixed(0)} MiB stayed after ${report.inputs} inputs; the last is saved`;
        findings.push({ ...current('memory', detail), target: report.target });
      }
      // Between targets there is no input that could hang; seeds take their time.
      since = performance.now();
      printed();
    });
    worker.on('error', (error: Error & { code?: string }) => {
      const kind = error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'memory' : 'crash';
      findings.push(current(kind, error.stack ?? error.message));
    });
    worker.on('exit', () => {
      clearInterval(watchdog);
      resolve();
    });
  });
}
