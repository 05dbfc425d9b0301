import { constants } from 'node:fs';
import { copyFile, type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { type MeasuredEif, type RamdiskSink, type StreamOptions, streamEif } from '../nitro/index.ts';
import type { BootFiles } from './qemu-arguments.ts';

export interface ImageFiles {
  image: MeasuredEif;
  boot: BootFiles;
}

interface Taking {
  eif: string;
  /** A directory of this user's alone. */
  directory: string;
  tap?: StreamOptions['onRamdisk'];
  onProgress?: OnProgress | undefined;
}

/**
 * Measures an image while its kernel and its ramdisks (one after the other, as a loader has them in memory) are written
 * into `directory`: what is booted is what was measured, whatever happens to the image meanwhile.
 */
export async function takeApart({ eif, directory, tap, onProgress }: Taking): Promise<ImageFiles> {
  const [kernel, initrd] = [join(directory, 'kernel'), join(directory, 'initrd')];
  const files = { kernel: await create(kernel), ramdisk: await create(initrd) };
  try {
    const image = await streamEif(eif, {
      onProgress,
      ...(tap ? { onRamdisk: tap } : {}),
      onSection: ({ type }) => (type === 'kernel' || type === 'ramdisk' ? sink(files[type], directory) : undefined),
    });
    return { image, boot: { kernel, initrd, cmdline: image.cmdline } };
  } finally {
    await files.kernel.close();
    await files.ramdisk.close();
  }
}

/** Measures a private copy of an image: what is booted is what was measured, whatever happens to the image meanwhile. */
export async function takeCopy({
  eif,
  directory,
  tap,
  onProgress,
}: Taking): Promise<{ image: MeasuredEif; boot: { eif: string } }> {
  const copy = join(directory, 'image.eif');
  await copyFile(eif, copy, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE).catch((error) => {
    throw ioError(error, `cannot copy the image ${eif}`);
  });
  const image = await streamEif(copy, { onProgress, ...(tap ? { onRamdisk: tap } : {}) });
  return { image, boot: { eif: copy } };
}

const create = (path: string): Promise<FileHandle> => open(path, 'wx', 0o600);

/** Appends; nothing is to be done at a section's end. */
const sink = (file: FileHandle, directory: string): RamdiskSink => ({
  async write(chunk) {
    for (let done = 0; done < chunk.length; ) {
      const { bytesWritten } = await file.write(chunk, done, chunk.length - done).catch((error) => {
        throw ioError(error, `cannot write to ${directory}`);
      });
      done += bytesWritten;
    }
  },
  end() {},
});
