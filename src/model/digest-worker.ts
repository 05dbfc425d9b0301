import { answer } from '../core/workers.ts';
import { runDigests } from './digest-job.ts';

// Entry of a worker thread; see digest-files.ts.

answer(runDigests);
