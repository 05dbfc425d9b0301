import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import type { EifArch } from './layout.ts';
import type { EifSigner } from './signer.ts';
import { filePart, type WrittenEif, writeEif } from './write.ts';

export interface PackOptions {
  /** Paths. */
  kernel: string;
  ramdisks: string[];
  /** Text, or the path of a file with its bytes. */
  cmdline: string | { file: string };
  arch: EifArch;
  /** Path of the metadata section's bytes. */
  metadata?: string | undefined;
  sign?: EifSigner | undefined;
  out: string;
  onProgress?: OnProgress | undefined;
}

/** `nitro pack`: an image from files. Throws what `writeEif` throws and `ERR_FILE_*` (exit 2) for its inputs. */
export async function packEif(options: PackOptions): Promise<WrittenEif> {
  const { arch, sign, out, onProgress } = options;
  const cmdline =
    typeof options.cmdline === 'string'
      ? options.cmdline
      : await readSmallFile(options.cmdline.file, 'kernel command line', MAX_CMDLINE);
  const kernel = await filePart(options.kernel);
  const ramdisks = await Promise.all(options.ramdisks.map(filePart));
  const metadata =
    options.metadata === undefined ? undefined : await readSmallFile(options.metadata, 'metadata', MAX_METADATA);
  return writeEif({ kernel, cmdline, ramdisks, metadata, arch, sign, out, onProgress });
}

/** What the format's reader takes: see layout.ts. */
const MAX_METADATA = 1 << 22;
const MAX_CMDLINE = 1 << 16;
