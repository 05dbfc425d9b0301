import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { missingError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { temporary } from '../core/temporary.ts';
import type { Cache } from '../image/cache.ts';
import { readKernelFile } from './file.ts';
import { encodeFragment, type Fragment, unmetSymbols } from './fragment.ts';
import type { KernelInputs, KernelRecipe } from './inputs.ts';
import { runMake } from './make.ts';
import { KERNEL_FILES, type KernelRecord, publishKernel, type StoredKernel } from './store.ts';
import { toolEnvironment } from './tools.ts';
import { type SourceArchive, unpackSource } from './unpack-source.ts';

export interface KernelBuild {
  cache: Cache;
  recipe: KernelRecipe;
  inputs: KernelInputs;
  source: SourceArchive;
  jobs: number;
  onProgress?: OnProgress | undefined;
}

/** Lines of make that tell of a step, in a whole build; only the progress bar believes it. */
const STEPS = 1360;

/**
 * Builds a kernel in a temporary directory of the cache and puts it into its place there. The directory is removed
 * whatever happens (about 0.6 GB while it exists). The bytes depend on the inputs alone.
 * Throws `ERR_KERNEL_CONFIG` (exit 5), `ERR_KERNEL_BUILD` (exit 1), `ERR_DISK_FULL`, and what the source throws.
 */
export async function buildKernel(build: KernelBuild): Promise<StoredKernel> {
  const { cache, recipe, inputs } = build;
  const out = cache.temporary();
  const dir = forMake(cache.temporary()) ?? (await mkdtemp(join(forMake(tmpdir()) ?? '/tmp', 'atoma-tee-kernel-')));
  const keep = [temporary(out), temporary(dir)];
  try {
    const source = join(dir, 'linux');
    for (const path of [out, dir]) await mkdir(path, { recursive: true, mode: 0o700 });
    await mkdir(source);
    await unpackSource(build.source, source, build.onProgress);
    const config = await configure(source, dir, recipe);
    await compile(source, build);
    const image = join(out, KERNEL_FILES.image);
    await copyFile(join(source, 'arch/x86/boot/bzImage'), image);
    await writeFile(join(out, KERNEL_FILES.config), config);
    const { version, sha256: digest, size } = await readKernelFile(image);
    const record: KernelRecord = { version, sha256: digest, size, configSha256: hex(sha256(config)), inputs };
    await writeFile(join(out, KERNEL_FILES.record), `${JSON.stringify(record, null, 2)}\n`);
    return await publishKernel(cache, out, inputs);
  } catch (error) {
    throw ioError(error, `cannot build the kernel in ${cache.dir}`);
  } finally {
    for (const path of [out, dir]) await rm(path, { recursive: true, force: true });
    for (const done of keep) done();
  }
}

/** The path, unless it has a character in it that means something to make: the kernel's refuses to build there. */
const forMake = (path: string): string | null => (/^[\w/.+@-]+$/.test(path) ? path : null);

/** The kernel's makefiles see the recipe's variables, and neither rustc nor pahole: their versions would be written down. */
const make = (dir: string, recipe: KernelRecipe, args: string[], onLine?: (line: string) => void) =>
  runMake(dir, ['ARCH=x86', 'RUSTC=false', 'PAHOLE=false', ...args], {
    env: { ...toolEnvironment(), HOME: '/nonexistent', ...recipe.variables },
    ...(onLine ? { onLine } : {}),
  });

async function configure(source: string, dir: string, recipe: KernelRecipe): Promise<Buffer> {
  const fragment = join(dir, 'fragment');
  await writeFile(fragment, encodeFragment(recipe.fragment));
  await make(source, recipe, [`KCONFIG_ALLCONFIG=${fragment}`, 'allnoconfig']);
  const config = await readFile(join(source, '.config'));
  requireSymbols(recipe.fragment, config.toString('utf8'));
  return config;
}

/** Throws `ERR_KERNEL_CONFIG` (exit 5) with every symbol that did not come out as the fragment says. */
export function requireSymbols(fragment: Fragment, config: string): void {
  const unmet = unmetSymbols(fragment, config);
  if (unmet.length === 0) return;
  const list = unmet.map(({ symbol, wanted, found }) => `${symbol} (expected ${wanted}, found ${found})`);
  throw missingError('ERR_KERNEL_CONFIG', `the kernel's configuration does not come out as asked: ${list.join(', ')}`, {
    hint: 'a compiler older than the source expects, or a symbol that this source does not know',
    details: { unmet },
  });
}

async function compile(source: string, { recipe, jobs, onProgress }: KernelBuild): Promise<void> {
  let done = 0;
  await make(source, recipe, [`-j${jobs}`, 'bzImage'], (line) => {
    if (/^ {2}[A-Z]/.test(line)) done++;
    onProgress?.({ phase: 'compiling the kernel', done: Math.min(done, STEPS), total: STEPS, unit: 'items' });
  });
}
