import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { usageError } from '../core/errors.ts';
import type { TreeFile } from './tree.ts';
import type { UnpackJob } from './unpack.ts';

type Reply = { files: TreeFile[] } | { error: { code: `ERR_${string}`; message: string; hint?: string } };

let free = Math.max(2, Math.min(8, availableParallelism()));
const waiting: (() => void)[] = [];

/** `unpack` in a thread of its own: inflating and xz keep a core busy. At most one thread per core at a time. */
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
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error(`unpacking ${job.what} ended without a result`)));
  });
}
