import { join } from 'node:path';
import { missingError } from '../../core/errors.ts';
import type { OnProgress } from '../../core/progress.ts';
import type { Cache } from '../../image/cache.ts';
import type { FileEntry, GramineEntry, KernelEntry, Lock, OciEntry } from '../../image/lock-file.ts';
import { gramineDefaults, type ProjectConfig } from '../../project/schema.ts';
import { pinFile } from './pin-file.ts';
import { projectFiles } from './select.ts';

export type Pins = Pick<Lock, 'file' | 'oci' | 'kernel' | 'gramine'>;

export interface PinOptions {
  /** The project's directory. */
  dir: string;
  /** Pins of the same thing are kept as they are; null: everything is looked at anew. */
  keep: Lock | null;
  cache: Cache;
  onProgress: OnProgress | undefined;
}

/**
 * Pins what a project adds to the base: its files, its container image (a tag is resolved here, once), the small kernel,
 * Gramine's libraries. Throws `ERR_FILE_*`, `ERR_OCI_*`, `ERR_KERNEL_MISSING` (exit 5), and what pinGramine throws.
 */
export async function pinProject(config: ProjectConfig, options: PinOptions): Promise<Pins> {
  const file: FileEntry[] = [];
  for (const path of projectFiles(config)) {
    const kept = options.keep?.file.find((entry) => entry.path === path);
    file.push(kept ?? { path, ...(await pinFile(join(options.dir, path))) });
  }
  const image = config.base?.image;
  return {
    file,
    oci: image === undefined ? [] : [await pinImage(image, options)],
    kernel: config.nitro.kernel === 'small' ? await pinKernel(options) : undefined,
    gramine: config.targets.includes('gramine')
      ? await pinLibraries((config.gramine ?? gramineDefaults()).from, options)
      : undefined,
  };
}

async function pinImage(reference: string, { dir, keep, cache, onProgress }: PinOptions): Promise<OciEntry> {
  const kept = keep?.oci.find((entry) => entry.reference === reference);
  if (kept !== undefined) return kept;
  const { resolveContainer } = await import('../../oci/index.ts');
  const { digest, tree } = await resolveContainer(reference, { dir, cache, onProgress });
  return { reference, platform: 'linux/amd64', digest, tree };
}

async function pinKernel({ keep, cache }: PinOptions): Promise<KernelEntry> {
  if (keep?.kernel !== undefined) return keep.kernel;
  const { smallKernelPin } = await import('../../kernel/index.ts');
  const pin = await smallKernelPin(cache);
  if (pin !== null) return pin;
  throw missingError('ERR_KERNEL_MISSING', 'the small kernel has not been built on this machine', {
    hint: 'run `atoma-tee nitro kernel` once; it takes about five minutes',
  });
}

async function pinLibraries(from: string, { dir, keep, cache }: PinOptions): Promise<GramineEntry> {
  if (keep?.gramine?.from === from) return keep.gramine;
  const { pinGramine } = await import('../../gramine/runtime-files.ts');
  return pinGramine(from, { dir, cache });
}
