import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import type { EifArch } from './layout.ts';
import type { EifSigner } from './signer.ts';
import { filePart, type WrittenEif, writeEif } from './write.ts';

export interface PackOptions {
  /** Paths. */
  kernel: string;
  ramdisks: string[];
  cmdline: string | Uint8Array;
  arch: EifArch;
  /** Path of the metadata section's bytes. */
  metadata?: string | undefined;
  sign?: EifSigner | undefined;
  out: string;
  onProgress?: OnProgress | undefined;
}

/** `nitro pack`: an image from files. Throws what `writeEif` throws and `ERR_FILE_*` (exit 2) for its inputs. */
export async function packEif(options: PackOptions): Promise<WrittenEif> {
  const { cmdline, arch, sign, out, onProgress } = options;
  const kernel = await filePart(options.kernel);
  const ramdisks = await Promise.all(options.ramdisks.map(filePart));
  const metadata =
    options.metadata === undefined ? undefined : await readSmallFile(options.metadata, 'metadata', MAX_METADATA);
  return writeEif({ kernel, cmdline, ramdisks, metadata, arch, sign, out, onProgress });
}

/** What the format's reader takes: see layout.ts. */
const MAX_METADATA = 4 << 20;
