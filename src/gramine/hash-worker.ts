import { parentPort, workerData } from 'node:worker_threads';
import { type HashJob, type HashResult, hashFiles } from './hash-files.ts';

/** As many results go into one message, or what there is after so many bytes: progress is seen, and messages are few. */
const BATCH = 256;
const BATCH_BYTES = 32 << 20;

let batch: HashResult[] = [];
let bytes = 0;
for (const result of hashFiles(workerData as HashJob)) {
  batch.push(result);
  bytes += result.bytes;
  if (batch.length < BATCH && bytes < BATCH_BYTES) continue;
  parentPort?.postMessage(batch);
  batch = [];
  bytes = 0;
}
parentPort?.postMessage(batch);
