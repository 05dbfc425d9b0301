import { availableParallelism } from 'node:os';
import { AtomaError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { runWorkers, workerEntry } from '../core/workers.ts';
import { BYTES, type DigestJob, runDigests, STOP } from './digest-job.ts';
import { listModel, type ModelFile, modelDigest } from './model.ts';

/** Up to this many bytes, starting threads costs more than it saves. */
const SMALL = 16 << 20;
/** Disks are what limits more. */
const MAX_THREADS = 4;

export interface DigestOptions {
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * SHA-256 of each file, on several threads (a file on one of them). Refuses files that are not, or do not stay, those that were listed:
 * `ERR_MODEL_CHANGED` (exit 2). `ERR_INTERRUPTED` (exit 1) when `signal` aborted.
 */
export async function digestFiles(files: ModelFile[], { onProgress, signal }: DigestOptions = {}): Promise<Buffer[]> {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const order = Uint32Array.from(files.keys()).sort((a, b) => (files[b]?.size ?? 0) - (files[a]?.size ?? 0));
  const job: DigestJob = {
    files: files.map(({ absolute, identity }) => ({ absolute, identity })),
    order,
    sums: new SharedArrayBuffer(32 * files.length),
    control: new SharedArrayBuffer(24),
  };
  const control = new BigInt64Array(job.control);
  const stop = () => void Atomics.store(control, STOP, 1n);
  const report = () => onProgress?.({ phase: 'reading the model', done: Number(Atomics.load(control, BYTES)), total });
  if (signal?.aborted) throw interrupted();
  signal?.addEventListener('abort', stop);
  const timer = setInterval(report, 100);
  try {
    const count = Math.min(files.length, MAX_THREADS, Math.max(2, availableParallelism()));
    if (total <= SMALL) runDigests(job);
    else await runWorkers(workerEntry(import.meta.url, 'digest-worker'), Array(count).fill(job), stop);
    if (Atomics.load(control, STOP) !== 0n) throw interrupted();
    report();
  } catch (error) {
    throw ioError(error, 'cannot read the model');
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', stop);
  }
  const sums = Buffer.from(new Uint8Array(job.sums));
  return files.map((_, i) => sums.subarray(i * 32, (i + 1) * 32));
}

/** Reads every file once. Errors as listModel and digestFiles; `files` carry the hex SHA-256 of each. */
export async function digestModel(
  path: string,
  onProgress?: OnProgress,
): Promise<{ digest: string; files: (ModelFile & { sha256: string })[] }> {
  const list = await listModel(path);
  const digests = await digestFiles(list, { onProgress });
  const files = list.map((file, i) => ({ ...file, sha256: digests[i]?.toString('hex') ?? '' }));
  return { digest: modelDigest(files.map(({ path: name, sha256 }) => ({ name, sha256 }))), files };
}

const interrupted = () => new AtomaError('unexpected', 'ERR_INTERRUPTED', 'interrupted while the model was read');
