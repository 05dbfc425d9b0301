import type { OnProgress } from '../core/progress.ts';
import { type Cache, hashFile } from '../image/cache.ts';
import { mending, provideInputs } from '../image/inputs.ts';
import { buildKernel } from './build.ts';
import { readKernelFile } from './file.ts';
import { inputDigest, type KernelInputs, type KernelRecipe, kernelInputs, loadRecipe } from './inputs.ts';
import { type StoredKernel, storedBySha256, storedKernel } from './store.ts';
import { findTools } from './tools.ts';

/**
 * The command line of the small kernel: the console, and how an enclave ends. `reboot=k` is what AWS's own images say.
 * There is nothing to be told off: it has no PCI, no PS/2, no modules. QEMU's microvm and nitro-enclave have no keyboard
 * controller: their launchers append `reboot=t panic=-1`, and the last word counts.
 */
export const SMALL_KERNEL_CMDLINE = 'reboot=k panic=30 console=ttyS0';

/** How a lock pins a small kernel. */
export interface SmallKernelPin {
  version: string;
  /** Of the bzImage, hex. */
  sha256: string;
  size: number;
  /** Digest (hex) of all that it was built from. */
  inputs: string;
}

export interface SmallKernelOptions {
  cache: Cache;
  /** Default: as many as this machine has processors. */
  jobs?: number | undefined;
  /** Use the cache only, for the source too. */
  offline?: boolean | undefined;
  onProgress?: OnProgress | undefined;
  /** Default: this toolkit's. */
  recipe?: KernelRecipe;
}

export interface SmallKernel {
  pin: SmallKernelPin;
  inputs: KernelInputs;
  kernel: StoredKernel;
  /** False where it was built just now. */
  cached: boolean;
}

/**
 * The small kernel: from the cache, or built now, which takes about five minutes. A cached one whose bytes are not what
 * they were is built again. Throws `ERR_KERNEL_TOOLS`, `ERR_KERNEL_CONFIG`, `ERR_OFFLINE_MISSING` (exit 5),
 * `ERR_KERNEL_BUILD` (exit 1), and what fetching throws.
 */
export async function smallKernel(options: SmallKernelOptions): Promise<SmallKernel> {
  const { cache, onProgress } = options;
  const recipe = options.recipe ?? (await loadRecipe());
  const inputs = kernelInputs(recipe, await findTools());
  const found = await storedKernel(cache, inputs);
  if (found !== null) return { pin: pinOf(found), inputs, kernel: found, cached: true };
  const kernel = await mending(cache, async () => {
    const provide = { dir: process.cwd(), offline: options.offline ?? false, onProgress };
    const [source] = await provideInputs([recipe.source], cache, provide);
    if (source === undefined) throw new TypeError('the source of a kernel is one file');
    // First alone: xz's own complaint about a damaged file would hide that it is the cache that is damaged.
    for await (const _ of cache.read(source));
    const jobs = options.jobs ?? (await import('node:os')).availableParallelism();
    const archive = { size: source.size, chunks: () => cache.read(source) };
    return buildKernel({ cache, recipe, inputs, source: archive, jobs, onProgress });
  });
  return { pin: pinOf(kernel), inputs, kernel, cached: false };
}

/** The small kernel that this toolkit and this machine's compiler have built before, or null. */
export async function smallKernelPin(cache: Cache): Promise<SmallKernelPin | null> {
  const tools = await findTools().catch(() => null);
  if (tools === null) return null;
  const found = await storedKernel(cache, kernelInputs(await loadRecipe(), tools));
  return found && pinOf(found);
}

/** A small kernel whose bytes have just been compared with this digest, with what they say of themselves, or null. */
export async function openSmallKernel(
  sha256: string,
  cache: Cache,
): Promise<{ path: string; version: string; size: number } | null> {
  const found = await storedBySha256(cache, sha256);
  // Of an archive of inputs: without a record of what it was built from.
  const path = found?.path ?? cache.filePath(sha256);
  if (found === null && (await hashFile(path, 'sha256')) !== sha256) return null;
  const { version, size } = await readKernelFile(path);
  return { path, version, size };
}

const pinOf = ({ record }: StoredKernel): SmallKernelPin => ({
  version: record.version,
  sha256: record.sha256,
  size: record.size,
  inputs: inputDigest(record.inputs),
});
