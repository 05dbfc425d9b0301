import { stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { TreeFile } from './tree.ts';
import type { UnpackJob } from './unpack.ts';

type Reply = { files: TreeFile[] } | { error: { code: `ERR_${string}`; message: string; hint?: string } };

let free = Math.max(2, Math.min(8, availableParallelism()));
const waiting: (() => void)[] = [];

/** Below this a thread takes longer to start than the package to unpack. */
const SMALL = 256 << 10;

/**
 * `unpack`, in a thread of its own unless the package is small: inflating and xz keep a core busy. At most one thread
 * per core at a time.
 */
export async function unpackInPool(job: UnpackJob): Promise<TreeFile[]> {
  const { size } = await stat(job.archive);
  if (size < SMALL) return (await import('./unpack.ts')).unpack(job);
  return unpackInWorker(job);
}

export async function unpackInWorker(job: UnpackJob): Promise<TreeFile[]> {
  if (free > 0) free--;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    return await run(job);
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
}

function run(job: UnpackJob): Promise<TreeFile[]> {
  const file = import.meta.url.endsWith('.ts') ? './unpack-worker.ts' : './unpack-worker.js';
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(file, import.meta.url), { workerData: job });
    worker.once('message', (reply: Reply) => {
      if ('files' in reply) resolve(reply.files);
      else
        reject(usageError(reply.error.code, reply.error.message, reply.error.hint ? { hint: reply.error.hint } : {}));
    });
    worker.once('error', (error) => reject(ioError(error, `cannot write to the cache ${job.cacheDir}`)));
    worker.once('exit', () => reject(new Error(`unpacking ${job.what} ended without a result`)));
  });
}
