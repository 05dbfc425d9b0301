import { realpath, stat } from 'node:fs/promises';
import { ioError, withAtomicFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { EifFileWriter } from './file-writer.ts';
import { planEif, sectionHeader } from './layout.ts';
import type { EifSigner } from './signer.ts';
import { fileSource } from './source.ts';
import { requireCrc, streamEif } from './stream.ts';
import { remeasure, type WrittenEif } from './write.ts';

export interface SignOptions {
  /** Path. */
  image: string;
  sign: EifSigner;
  /** Default: over `image`, whose mode it keeps. It appears whole or not at all. */
  out?: string | undefined;
  onProgress?: OnProgress | undefined;
}

/**
 * `nitro sign`: an image with this signature in place of any that it had. What is measured is copied as it is, in its
 * order, and so is the metadata; the signature comes last, and the format becomes version 4. One pass copies, checks and
 * measures; a second one, by the same reader, checks the result before it appears. Memory is bounded.
 *
 * Throws what `streamEif` throws for a malformed image (a signature section that cannot be read is no obstacle),
 * `ERR_EIF_CRC` (exit 3), `ERR_DISK_FULL`.
 */
export async function signEif({ image, sign, out, onProgress }: SignOptions): Promise<WrittenEif> {
  const source = await fileSource(image);
  try {
    // Through a link, the image is replaced and not the link.
    const path = out ?? (await realpath(image));
    const mode = out === undefined ? (await stat(path)).mode & 0o777 : undefined;
    const written = await withAtomicFile(
      path,
      async (file) => {
        const writer = new EifFileWriter(file, source.size, onProgress);
        const measured = await streamEif(source, {
          fileDigests: [],
          tolerant: true,
          async onSection({ type, size }) {
            if (type === 'signature') return undefined;
            await writer.write(sectionHeader(type, size));
            return { write: (chunk) => writer.write(chunk), end() {} };
          },
        });
        requireCrc(measured);
        const signature = sign.section(measured.measurement.pcr0);
        await writer.write(sectionHeader('signature', signature.length));
        await writer.write(signature);
        const kept = measured.layout.sections.filter(({ type }) => type !== 'signature');
        const sections = [...kept, { type: 'signature' as const, size: signature.length }];
        await writer.finish(planEif(sections, measured.layout).header);
        const synced = file.handle.datasync();
        synced.catch(() => {});
        const checked = await remeasure(file.partial, onProgress);
        await synced;
        return checked;
      },
      mode,
    );
    return { path: out ?? image, ...written };
  } catch (error) {
    throw ioError(error, `cannot sign ${image}`);
  } finally {
    await source.close();
  }
}
