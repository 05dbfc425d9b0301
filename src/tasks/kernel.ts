import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { writeFileAtomic } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { Cache } from '../image/cache.ts';
import { inputDigest, type KernelInputs, kernelInputs, loadRecipe } from '../kernel/inputs.ts';
import { type SmallKernelPin, smallKernel, smallKernelPin } from '../kernel/small.ts';
import { findTools } from '../kernel/tools.ts';

export interface NitroKernelOptions {
  /** Where to put a copy of the bzImage. */
  out?: string | undefined;
  jobs?: number | undefined;
  offline?: boolean;
  onProgress?: OnProgress;
  /** Default: the shared one. */
  cacheDir?: string;
}

/** The shape of `nitro kernel --json`. */
export interface NitroKernelResult {
  /** The bzImage: `out`, or its place in the cache. */
  path: string;
  sha256: string;
  size: number;
  version: string;
  /** Digest of `inputs`: what the cache and locks know it by. */
  inputDigest: string;
  inputs: KernelInputs;
  /** The .config that it was built with, in the cache. */
  config: string;
  cached: boolean;
}

/** Provides the small kernel, from the cache or built now. Throws what smallKernel throws, and file errors of `out`. */
export async function nitroKernel(options: NitroKernelOptions): Promise<NitroKernelResult> {
  const cache = await Cache.open(options.cacheDir);
  const { jobs, offline, onProgress } = options;
  const { pin, inputs, kernel, cached } = await smallKernel({ cache, jobs, offline, onProgress });
  if (options.out !== undefined) await writeFileAtomic(options.out, await readFile(kernel.path));
  return {
    path: options.out === undefined ? kernel.path : resolve(options.out),
    sha256: pin.sha256,
    size: pin.size,
    version: pin.version,
    inputDigest: pin.inputs,
    inputs,
    config: kernel.config,
    cached,
  };
}

/** What the kernel would be built from here, and the kernel if that has been done. Throws `ERR_KERNEL_TOOLS` (exit 5). */
export async function nitroKernelDigest(
  cacheDir?: string,
): Promise<{ inputDigest: string; inputs: KernelInputs; built: SmallKernelPin | null }> {
  const inputs = kernelInputs(await loadRecipe(), await findTools());
  return { inputDigest: inputDigest(inputs), inputs, built: await smallKernelPin(await Cache.open(cacheDir)) };
}
