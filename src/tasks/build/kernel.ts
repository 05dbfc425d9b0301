import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { hex, sha256 } from '../../core/bytes.ts';
import { missingError, negativeError, usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import type { Cache } from '../../image/cache.ts';
import type { FileEntry, Lock } from '../../image/lock-file.ts';
import { findKernel, type OwnFile } from '../../image/ramdisks.ts';
import type { TreeFile } from '../../image/tree.ts';
import { bytesPart, type EifPart } from '../../nitro/index.ts';
import type { Project } from '../../project/load.ts';

/** The kernel of an image, and what its command line and ramdisk 0 get because of it. */
export interface KernelChoice {
  kind: 'debian' | 'small' | 'file';
  /** "6.12.95"; "unknown" where the kernel does not say. Not measured. */
  version: string;
  /** Hex, of the kernel image. */
  sha256: string;
  part: EifPart;
  cmdline: string;
  /** In the order of loading; the Debian kernel's come with its package. */
  modules: OwnFile[];
  /** Whether a real Nitro host is expected to boot it; null: nobody knows. */
  expectedOnNitro: boolean | null;
}

/**
 * The command line of the Debian kernel: reset by the keyboard controller, which is what ends an enclave, and no probing
 * for PCI and PS/2 devices, of which there are none.
 */
const DEBIAN_CMDLINE =
  'reboot=k panic=30 pci=off console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on';
/** What nitro-cli 1.5 gives AWS's x86_64 kernel (nitro.md, B). */
const AWS_CMDLINE =
  'reboot=k panic=30 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on';
export const MAX_KERNEL = 256 << 20;
const MAX_MODULE = 64 << 20;

/**
 * The kernel that enclave.toml names, its bytes compared with the lock. Throws `ERR_LOCK_KERNEL`, `ERR_KERNEL_FILE` (exit 2),
 * `ERR_INPUT_DIGEST` (exit 3), `ERR_KERNEL_MISSING` (exit 5).
 */
export async function chooseKernel(
  { config, dir }: Project,
  lock: Lock,
  cache: Cache,
  files: TreeFile[],
): Promise<KernelChoice> {
  const { kernel } = config.nitro;
  if (kernel === 'small') return smallKernel(lock, cache);
  if (kernel !== 'debian') return fileKernel(kernel.cmdline ?? AWS_CMDLINE, dir, lock.file, cache);
  const file = findKernel(files);
  const version = lock.deb.map(({ name }) => /^linux-image-(\d+(?:\.\d+)*)/.exec(name)?.[1]).find((found) => found);
  return {
    kind: 'debian',
    version: version ?? 'unknown',
    sha256: file.sha256,
    part: { size: file.size, chunks: () => cache.read(file) },
    cmdline: DEBIAN_CMDLINE,
    modules: [],
    // It lacks VIRTIO_MMIO_CMDLINE_DEVICES, by which a Nitro host tells an enclave of its devices.
    expectedOnNitro: false,
  };
}

async function smallKernel({ kernel: pin }: Lock, cache: Cache): Promise<KernelChoice> {
  if (pin === undefined) throw usageError('ERR_LOCK_KERNEL', 'expected the lock to pin the small kernel, found none');
  const { openSmallKernel, SMALL_KERNEL_CMDLINE } = await import('../../kernel/index.ts');
  const found = await openSmallKernel(pin.sha256, cache);
  if (found === null) {
    throw missingError('ERR_KERNEL_MISSING', `the small kernel that the lock pins (sha256 ${pin.sha256}) is not here`, {
      hint: 'run `atoma-tee nitro kernel` once; another compiler makes other bytes, which `atoma-tee lock --local` takes',
    });
  }
  const { path, version, size } = found;
  if (version !== pin.version || size !== pin.size) {
    throw negativeError(
      'ERR_INPUT_DIGEST',
      `the small kernel is not what the lock says of it: expected ${pin.version} of ${pin.size} bytes, found ${version} of ${size}`,
      { hint: 'the lock was edited: restore it, or run `atoma-tee lock --local`' },
    );
  }
  const part = { path: 'the small kernel', offset: 0, size, sha256: pin.sha256 };
  return {
    kind: 'small',
    version,
    sha256: pin.sha256,
    // Compared once more while it is written.
    part: { size, chunks: () => cache.readPart(path, part) },
    cmdline: SMALL_KERNEL_CMDLINE,
    modules: [],
    expectedOnNitro: true,
  };
}

async function fileKernel(cmdline: string, dir: string, pins: FileEntry[], cache: Cache): Promise<KernelChoice> {
  const [kernel, ...modules] = pins;
  if (kernel === undefined) throw usageError('ERR_LOCK_KERNEL', 'expected the lock to pin the kernel file, found none');
  const { describeKernel } = await import('../../kernel/index.ts');
  const bytes = await readPinned(dir, kernel, MAX_KERNEL, cache);
  const { version, arch } = describeKernel(bytes, join(dir, kernel.path));
  if (arch !== 'x86_64') {
    throw usageError('ERR_KERNEL_FILE', `${kernel.path}: expected a kernel for x86_64, found one for ${arch}`);
  }
  return {
    kind: 'file',
    version,
    sha256: kernel.sha256,
    part: bytesPart(bytes),
    cmdline,
    modules: await Promise.all(
      modules.map(async (pin, i) => ({
        // Their names give the order in which the init loads them.
        path: `modules/${String(10 + i).padStart(3, '0')}.ko`,
        mode: 0o644,
        content: await readPinned(dir, pin, MAX_MODULE, cache),
      })),
    ),
    expectedOnNitro: null,
  };
}

/**
 * A file of the project, the one that the lock pins: read once, so that what was compared is what goes in. Where the project
 * has none, the copy that an archive of inputs brought does as well.
 */
export async function readPinned(dir: string, pin: FileEntry, most: number, cache: Cache): Promise<Buffer> {
  const here = join(dir, pin.path);
  const path = existsSync(here) || !existsSync(cache.filePath(pin.sha256)) ? here : cache.filePath(pin.sha256);
  const bytes = await readSmallFile(path, 'kernel', most);
  const found = hex(sha256(bytes));
  if (found === pin.sha256 && bytes.length === pin.size) return bytes;
  const text = (digest: string, size: number) => `${digest} of ${size} bytes`;
  throw negativeError(
    'ERR_INPUT_DIGEST',
    `${pin.path} is not the file that the lock pins: expected ${text(pin.sha256, pin.size)}, found ${text(found, bytes.length)}`,
    { hint: 'restore it, or run `atoma-tee lock --local` to take it as it is, which changes the measurement' },
  );
}
