import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { readSmallFile } from '../core/files.ts';
import { type Cache, hashFile } from '../image/cache.ts';
import { inputDigest, type KernelInputs } from './inputs.ts';

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const tools = z.strictObject({
  gcc: z.string(),
  ld: z.string(),
  make: z.string(),
  flex: z.string(),
  bison: z.string(),
  gzip: z.string(),
});

/** kernel.json: what lies beside a built kernel. */
const record = z.strictObject({
  version: z.string(),
  sha256: digest,
  size: z.int().min(1),
  /** SHA-256 of the finished .config. */
  configSha256: digest,
  inputs: z.strictObject({
    recipe: z.int(),
    source: z.strictObject({ name: z.string(), version: z.string(), sha256: digest }),
    config: digest,
    variables: z.record(z.string(), z.string()),
    tools,
  }),
});

export type KernelRecord = z.infer<typeof record>;

/** A kernel in the cache whose bytes have just been compared with its record. */
export interface StoredKernel {
  record: KernelRecord;
  /** The bzImage. */
  path: string;
  /** The .config that it was built with. */
  config: string;
}

export const KERNEL_FILES = { image: 'bzImage', config: 'config', record: 'kernel.json' } as const;

const kernelsDir = (cache: Cache) => join(cache.dir, 'kernels');
const place = (cache: Cache, digest: string) => join(kernelsDir(cache), digest);

/** The kernel built from exactly these inputs, or null: what is damaged or was exchanged is no kernel. */
export async function storedKernel(cache: Cache, inputs: KernelInputs): Promise<StoredKernel | null> {
  const name = inputDigest(inputs);
  const found = await readRecord(place(cache, name));
  return found !== null && inputDigest(found.inputs) === name ? verified(cache, name, found) : null;
}

/** A kernel with these bytes, whatever it was built from, or null. */
export async function storedBySha256(cache: Cache, sha256: string): Promise<StoredKernel | null> {
  for (const name of (await readdir(kernelsDir(cache)).catch(() => [])).sort()) {
    const found = await readRecord(place(cache, name));
    if (found?.sha256 !== sha256) continue;
    const kernel = await verified(cache, name, found);
    if (kernel !== null) return kernel;
  }
  return null;
}

/**
 * Gives a directory with KERNEL_FILES, on the cache's file system, its place. Where another process was faster with the
 * same kernel, that one stays.
 */
export async function publishKernel(cache: Cache, dir: string, inputs: KernelInputs): Promise<StoredKernel> {
  await mkdir(kernelsDir(cache), { recursive: true, mode: 0o700 });
  for (let attempt = 0; ; attempt++) {
    try {
      await rename(dir, place(cache, inputDigest(inputs)));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if ((code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOTDIR') || attempt === 3) throw error;
    }
    const stored = await storedKernel(cache, inputs);
    if (stored !== null) return stored;
    const damaged = cache.temporary();
    await rename(place(cache, inputDigest(inputs)), damaged).catch(() => {});
    await rm(damaged, { recursive: true, force: true });
  }
}

async function readRecord(dir: string): Promise<KernelRecord | null> {
  try {
    const text = await readSmallFile(join(dir, KERNEL_FILES.record), 'kernel record', 1 << 16);
    return record.parse(JSON.parse(text.toString('utf8')));
  } catch {
    return null;
  }
}

async function verified(cache: Cache, name: string, found: KernelRecord): Promise<StoredKernel | null> {
  const dir = place(cache, name);
  const [path, config] = [join(dir, KERNEL_FILES.image), join(dir, KERNEL_FILES.config)];
  const same = (await hashFile(path, 'sha256')) === found.sha256;
  return same && (await hashFile(config, 'sha256')) === found.configSha256 ? { record: found, path, config } : null;
}
