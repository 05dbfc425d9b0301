import { answer } from '../core/workers.ts';
import { type Job, runHasher, runWorker } from './job.ts';

// Entry of a worker thread; see threads.ts.

answer(({ job, hashes }: { job: Job; hashes: boolean }) => {
  if (hashes) return runHasher(job);
  runWorker(job);
  return true;
});
