import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { AtomaError } from '../core/errors.ts';
import type { AtomicFile } from '../core/files.ts';

// Writing something large.

/**
 * Starts writing to the disk early, so that the sync at the end finds little left to do. Call what it returns, and wait, to stop.
 */
export function flushWhile(file: AtomicFile): () => Promise<void> {
  const stop = new AbortController();
  const { signal } = stop;
  const flushing = (async () => {
    while (!signal.aborted) {
      await setTimeout(100, undefined, { signal }).catch(() => {});
      // An error comes again at the end, where it is reported.
      if (!signal.aborted) await file.handle.datasync().catch(() => {});
    }
  })();
  return () => {
    stop.abort();
    return flushing;
  };
}

/** Refuses to begin what cannot end: `ERR_DISK_FULL` (exit 1) unless `bytes` fit where `path` is to be. */
export async function requireSpace(path: string, bytes: number): Promise<void> {
  const found = await statfs(dirname(path), { bigint: true }).catch(() => null);
  // Some file systems do not say.
  if (found === null || found.blocks === 0n) return;
  const free = found.bavail * found.bsize;
  if (free >= BigInt(bytes)) return;
  throw new AtomaError(
    'unexpected',
    'ERR_DISK_FULL',
    `cannot write ${path}: expected ${bytes} free bytes, found ${free}`,
    {
      hint: 'free some space, or write to another disk',
    },
  );
}
