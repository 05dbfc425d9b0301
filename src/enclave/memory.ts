import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AtomaError, usageError } from '../core/errors.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';

const MIB = 1 << 20;
/**
 * What a model needs at its height, in multiples of its sealed size: the opened files, and onnxruntime's own copy. What a
 * command makes of the files is its own affair.
 */
const TIMES: Record<MeasuredConfig['runtime']['kind'], number> = { onnx: 2, command: 1 };
/** Buffers of the channel and of the program itself; onnxruntime's library. */
const BESIDE: Record<MeasuredConfig['runtime']['kind'], number> = { onnx: 64 * MIB, command: 32 * MIB };

/**
 * Refuses to open a model that does not fit, instead of being killed half-way: `ERR_ENCLAVE_MEMORY` (exit 2). `size` is
 * the sealed model's, in bytes; `root` is the image's, with its /proc. Where that says nothing, nothing is refused.
 */
export function requireMemory(size: number, kind: MeasuredConfig['runtime']['kind'], root = '/'): void {
  const available = availableMemory(root);
  const needed = TIMES[kind] * size + BESIDE[kind];
  if (available === undefined || available >= needed) return;
  throw memoryError(
    `expected ${Math.ceil(needed / MIB)} MiB of free memory for a sealed model of ${Math.ceil(size / MIB)} MiB, found ${Math.floor(available / MIB)} MiB`,
  );
}

export const memoryError = (message: string, cause?: unknown): AtomaError =>
  usageError('ERR_ENCLAVE_MEMORY', message, { hint: 'give the enclave more memory', cause });

/** Bytes that can be had without swapping (proc(5), MemAvailable). */
function availableMemory(root: string): number | undefined {
  try {
    const text = readFileSync(join(root, 'proc/meminfo'), 'utf8');
    const [, kib] = /^MemAvailable:\s+(\d{1,12}) kB$/m.exec(text) ?? [];
    return kib === undefined ? undefined : Number(kib) * 1024;
  } catch {
    return undefined;
  }
}

/** The most memory that this process had at once, in MiB, the model in it. Gramine knows no peak: there it is what is used now. */
export function peakMemoryMb(): number {
  try {
    // ru_maxrss is in KiB.
    return Math.ceil(process.resourceUsage().maxRSS / 1024);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSYS') throw error;
    return Math.ceil(process.memoryUsage.rss() / MIB);
  }
}
