import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { AtomaError, EXIT, type ExitCode } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { segmentPlain } from './floe.ts';
import { type Job, runHasher } from './job.ts';
import { newRing, RingView } from './ring.ts';
import { segmentTotal } from './segments.ts';

/** What a thread says when it ends: the hashing one its digests, one that failed what its error was made of. */
export interface Report {
  digests: Uint8Array[] | null;
  failure: { ours: boolean; code: string; message: string; hint?: string; exitCode: ExitCode } | null;
}

/** Up to this many segments, starting threads costs more than it saves. */
const SMALL = 8;
/** One thread hashes and cannot keep more than two encrypting ones busy; without it, disks are what limits. */
const MAX_HASHING = 3;
const MAX_THREADS = 4;
const entry = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);

export interface RunOptions {
  /** For people: "sealing". */
  phase: string;
  /** What failed, for an I/O error: "cannot write x.sealed". */
  doing: string;
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Runs a job to its end on several threads and returns the SHA-256 of each file that it is wanted of, computed over exactly the bytes that
 * were encrypted or decrypted. Memory is bounded by the ring and by one segment or two for each thread. When any thread fails, all stop, and its error is
 * thrown; `ERR_INTERRUPTED` (exit 1) when `signal` aborted.
 */
export async function runJob(work: Omit<Job, 'ring'>, options: RunOptions): Promise<Buffer[]> {
  const job: Job = { ...work, ring: newRing(work.hash.includes(1)) };
  const total = segmentTotal(job);
  const ring = new RingView(job.ring, total);
  const bytes = job.parts.reduce((sum, part) => sum + part.length, 0);
  const report = () =>
    options.onProgress?.({ phase: options.phase, done: Math.min(ring.done * segmentPlain(), bytes), total: bytes });
  const stop = () => ring.stop();
  if (options.signal?.aborted) throw interrupted();
  options.signal?.addEventListener('abort', stop);
  const timer = setInterval(report, 100);
  try {
    const reports: Report[] = total <= SMALL ? [{ digests: runHasher(job), failure: null }] : await runThreads(job);
    const failure = reports.find((r) => r.failure)?.failure;
    if (failure) throw revive(failure);
    const digests = reports.find((r) => r.digests)?.digests;
    if (!digests) throw interrupted();
    report();
    return digests.map((digest) => Buffer.from(digest));
  } catch (error) {
    throw ioError(error, options.doing);
  } finally {
    clearInterval(timer);
    options.signal?.removeEventListener('abort', stop);
  }
}

async function runThreads(job: Job): Promise<Report[]> {
  const count = Math.min(job.ring.slots ? MAX_HASHING : MAX_THREADS, Math.max(2, availableParallelism()));
  // All have ended before anything is reported: the caller may close and remove the files.
  const ends = Array.from({ length: count }, (_, i) => thread(job, i === 0));
  const settled = await Promise.allSettled(ends);
  return settled.map((end) => {
    if (end.status === 'rejected') throw end.reason;
    return end.value;
  });
}

function thread(job: Job, hashes: boolean): Promise<Report> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(entry, { workerData: { job, hashes }, execArgv: [] });
    let report: Report | undefined;
    const fail = (error: unknown) => {
      new RingView(job.ring, 0).stop();
      reject(error);
    };
    worker.on('message', (message: Report) => {
      report = message;
    });
    worker.on('error', fail);
    worker.on('exit', (code) =>
      report ? resolve(report) : fail(new Error(`a worker thread ended with code ${code}`)),
    );
  });
}

const interrupted = () => new AtomaError('unexpected', 'ERR_INTERRUPTED', 'interrupted; nothing was left half-written');

function revive(failure: NonNullable<Report['failure']>): Error {
  const { ours, code, message, hint, exitCode } = failure;
  if (!ours) return Object.assign(new Error(message), { code });
  const exit = (Object.keys(EXIT) as (keyof typeof EXIT)[]).find((name) => EXIT[name] === exitCode) ?? 'unexpected';
  return new AtomaError(exit, code as `ERR_${string}`, message, hint ? { hint } : {});
}
