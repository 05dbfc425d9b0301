import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { negativeError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { CHANGED, type HashJob, type HashResult, hashFiles, NOT_A_FILE } from './hash-files.ts';

/** Starting threads takes about 30 ms of CPU: what hashing so many bytes does. */
const THREADS_PAY_FROM = 16 << 20;
/** Opening a file costs about what hashing so many bytes costs. */
const PER_FILE = 32 << 10;
const MAX_THREADS = 8;

export interface HashOptions {
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * SHA-256 (hex) of files, in their order, on all cores. Memory: 256 KiB per thread. Reads each file once; `size` is for sharing out
 * the work and for progress only.
 *
 * Errors: `ERR_GRAMINE_TRUSTED_CHANGED` for a file that changed meanwhile, `ERR_FILE_KIND`, `ERR_FILE_NOT_FOUND` and the like.
 */
export async function hashTrustedFiles(
  files: { path: string; size: number }[],
  { onProgress, signal }: HashOptions = {},
): Promise<string[]> {
  signal?.throwIfAborted();
  // The largest first, so that the threads end together.
  const order = files.map((_, index) => index).sort((a, b) => (files[b]?.size ?? 0) - (files[a]?.size ?? 0));
  const job: HashJob = { paths: order.map((index) => files[index]?.path ?? ''), next: new SharedArrayBuffer(4) };
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const digests = new Array<string>(files.length);
  let done = 0;
  const take = (results: HashResult[]) => {
    for (const result of results) {
      if ('failure' in result) throw failed(job.paths[result.index] ?? '', result.failure);
      digests[order[result.index] ?? -1] = result.sha256;
      done += result.bytes;
    }
    onProgress?.({ phase: 'hashing trusted files', done: Math.min(done, total), total });
  };
  if (total + files.length * PER_FILE < THREADS_PAY_FROM) take([...hashFiles(job)]);
  else await inThreads(job, take, signal);
  return digests;
}

async function inThreads(job: HashJob, take: (results: HashResult[]) => void, signal?: AbortSignal): Promise<void> {
  const url = new URL(`./hash-worker${extname(import.meta.url)}`, import.meta.url);
  const threads = Math.min(MAX_THREADS, availableParallelism(), job.paths.length);
  const workers = Array.from({ length: threads }, () => new Worker(url, { workerData: job }));
  let abort: (() => void) | undefined;
  try {
    const aborted = new Promise<never>((_, reject) => {
      abort = () => reject(signal?.reason);
      signal?.addEventListener('abort', abort, { once: true });
    });
    await Promise.race([aborted, Promise.all(workers.map((worker) => results(worker, take)))]);
  } finally {
    if (abort) signal?.removeEventListener('abort', abort);
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

const results = (worker: Worker, take: (results: HashResult[]) => void): Promise<void> =>
  new Promise((resolve, reject) => {
    worker.on('message', (message: HashResult[]) => {
      try {
        take(message);
      } catch (error) {
        reject(error);
      }
    });
    worker.once('error', reject);
    worker.once('exit', (code) => (code === 0 ? resolve() : reject(new Error('a hashing thread ended early'))));
  });

function failed(path: string, failure: string): Error {
  if (failure === CHANGED) {
    return negativeError(
      'ERR_GRAMINE_TRUSTED_CHANGED',
      `expected ${path} to stay as it is while it is hashed, found it changed`,
      {
        hint: 'stop what writes to it and run the command again',
      },
    );
  }
  if (failure === NOT_A_FILE)
    return usageError('ERR_FILE_KIND', `expected a regular file, found something else at ${path}`);
  return ioError(Object.assign(new Error(failure), { code: failure }), `cannot hash the trusted file ${path}`);
}
