import { parentPort, workerData } from 'node:worker_threads';
import { AtomaError } from '../core/errors.ts';
import { type UnpackJob, unpack } from './unpack.ts';

// An error loses its class on the way to another thread: what makes it ours is sent as data.
const reply = await unpack(workerData as UnpackJob).then(
  (files) => ({ files }),
  (error: unknown) => {
    if (!(error instanceof AtomaError)) throw error;
    return { error: error.toJSON(), exitCode: error.exitCode };
  },
);
parentPort?.postMessage(reply);
