import { parentPort, Worker, workerData } from 'node:worker_threads';
import { AtomaError, EXIT, type ExitCode } from './errors.ts';

// Worker threads that do one thing and end. An error of ours keeps its code and exit status on the way.

type Report<T> =
  | { value: T }
  | { failure: { ours: boolean; code: string; message: string; hint?: string; exitCode: ExitCode } };

/**
 * Runs the module `entry` (which calls `answer`) once for each of `data`, side by side. Returns what they answered, or throws the first
 * failure, when all have ended: then nobody uses the caller's descriptors any more. `stop` is called when one fails; it makes the others end.
 */
export async function runWorkers<T>(entry: URL, data: unknown[], stop: () => void): Promise<T[]> {
  const settled = await Promise.allSettled(data.map((item) => runWorker<T>(entry, item, stop)));
  return settled.map((end) => {
    if (end.status === 'rejected') throw end.reason;
    return end.value;
  });
}

function runWorker<T>(entry: URL, data: unknown, stop: () => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(entry, { workerData: data, execArgv: [] });
    let report: Report<T> | undefined;
    const fail = (error: unknown) => {
      stop();
      reject(error);
    };
    worker.on('message', (message: Report<T>) => {
      report = message;
    });
    worker.on('error', fail);
    worker.on('exit', (code) => {
      if (report === undefined) fail(new Error(`a worker thread ended with code ${code}`));
      else if ('failure' in report) fail(revive(report.failure));
      else resolve(report.value);
    });
  });
}

/** In a worker: does the work and says how it went. */
export function answer<D, T>(work: (data: D) => T): void {
  let report: Report<T>;
  try {
    report = { value: work(workerData as D) };
  } catch (error) {
    // A class instance would arrive as a plain error: send what it is made of.
    const { code, message, hint, exitCode } = error as AtomaError;
    report = { failure: { ours: error instanceof AtomaError, code, message, ...(hint ? { hint } : {}), exitCode } };
  }
  parentPort?.postMessage(report);
}

function revive({
  ours,
  code,
  message,
  hint,
  exitCode,
}: Extract<Report<unknown>, { failure: object }>['failure']): Error {
  if (!ours) return Object.assign(new Error(message), { code });
  const exit = (Object.keys(EXIT) as (keyof typeof EXIT)[]).find((name) => EXIT[name] === exitCode) ?? 'unexpected';
  return new AtomaError(exit, code as `ERR_${string}`, message, hint ? { hint } : {});
}

/** The module beside the caller's that a worker runs: the same name in the sources and in what is built. */
export const workerEntry = (from: string, name: string): URL =>
  new URL(`./${name}${from.endsWith('.ts') ? '.ts' : '.js'}`, from);
