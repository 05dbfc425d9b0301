import { parentPort, workerData } from 'node:worker_threads';
import { AtomaError } from '../core/errors.ts';
import { type Job, runHasher, runWorker } from './job.ts';
import type { Report } from './threads.ts';

// Entry of a worker thread; see threads.ts.

const { job, hashes } = workerData as { job: Job; hashes: boolean };
let report: Report;
try {
  report = { digests: hashes ? runHasher(job) : null, failure: null };
  if (!hashes) runWorker(job);
} catch (error) {
  // A class instance would arrive as a plain error: send what it is made of.
  const { code, message, hint, exitCode } = error as AtomaError;
  report = {
    digests: null,
    failure: { ours: error instanceof AtomaError, code, message, ...(hint ? { hint } : {}), exitCode },
  };
}
parentPort?.postMessage(report);
