import { availableParallelism } from 'node:os';
import { sha256 } from '../core/bytes.ts';
import { AtomaError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { runWorkers, workerEntry } from '../core/workers.ts';
import type { JobFile } from './disk.ts';
import { segmentPlain } from './floe.ts';
import type { Piece } from './index-part.ts';
import { type Job, runHasher } from './job.ts';
import { newRing, RingView } from './ring.ts';
import { segmentTotal } from './segments.ts';
import { packFiles, packPieces } from './tables.ts';

/** Up to this many segments, starting threads costs more than it saves. */
const SMALL = 8;
/** One thread hashes and cannot keep more than two encrypting ones busy; without it, disks are what limits. */
const MAX_HASHING = 3;
const MAX_THREADS = 4;
const EMPTY = sha256();
const ENTRY = workerEntry(import.meta.url, 'worker');

export interface RunOptions {
  /** For people: "sealing". */
  phase: string;
  /** What failed, for an I/O error: "cannot write x.sealed". */
  doing: string;
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
  /** For a `stream`: puts all ciphertext into the ring; returns when it has, or when the work was stopped. */
  feed?: ((ring: RingView) => Promise<void>) | undefined;
  /** The module that threads run, where worker.ts is bundled into another. */
  entry?: URL | undefined;
}

/** A job as its caller has it. */
export type Work = Omit<Job, 'ring' | 'digests' | 'files' | 'fileSizes' | 'pieces'> & {
  files: JobFile[] | null;
  fileSizes: number[];
  pieces: Piece[];
};

/**
 * Runs a job to its end on several threads and returns the SHA-256 of each file that it is wanted of, computed over exactly the bytes that
 * were encrypted or decrypted; zeros for the others. Memory is bounded by the ring and by one segment or two for each thread. When any thread fails, all stop, and its error is
 * thrown; `ERR_INTERRUPTED` (exit 1) when `signal` aborted.
 */
export async function runJob(work: Work, options: RunOptions): Promise<Buffer[]> {
  const job: Job = {
    ...work,
    files: work.files && packFiles(work.files),
    fileSizes: Float64Array.from(work.fileSizes),
    pieces: packPieces(work.pieces),
    digests: new Uint8Array(new SharedArrayBuffer(32 * work.fileSizes.length)),
    ring: newRing(work.hash.includes(1), options.feed !== undefined),
  };
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
    const done = total <= SMALL && !options.feed ? runHasher(job) : await runThreads(job, ring, options);
    if (!done || ring.stopped) throw interrupted();
    report();
    const digests = Buffer.from(job.digests.slice());
    return work.fileSizes.map((size, i) => (size === 0 ? EMPTY : digests.subarray(i * 32, (i + 1) * 32)));
  } catch (error) {
    throw ioError(error, options.doing);
  } finally {
    clearInterval(timer);
    options.signal?.removeEventListener('abort', stop);
  }
}

async function runThreads(job: Job, ring: RingView, { feed, entry = ENTRY }: RunOptions): Promise<boolean | undefined> {
  const count = Math.min(job.ring.slots ? MAX_HASHING : MAX_THREADS, Math.max(2, availableParallelism()));
  const data = Array.from({ length: count }, (_, i) => ({ job, hashes: i === 0 }));
  const threads = runWorkers<boolean>(entry, data, () => ring.stop());
  // Threads that failed wait for no source that is silent; one that fails waits for the threads, which use its caller's files.
  const feeding = feed?.(ring).catch(async (error) => {
    ring.stop();
    await threads;
    throw error;
  });
  const [[done]] = await Promise.all([threads, feeding]);
  return done;
}

const interrupted = () => new AtomaError('unexpected', 'ERR_INTERRUPTED', 'interrupted; nothing was left half-written');
