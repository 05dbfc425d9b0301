import { basename, join, resolve } from 'node:path';
import { cpioArchive } from '../../image/cpio.ts';
import { initRamdisk } from '../../image/ramdisks.ts';
import { measuredFiles, type NitroImage } from '../../manifest/measurements.ts';
import { type EifSigner, encodeMetadata, readSignerFiles, type WrittenEif, writeEif } from '../../nitro/index.ts';
import type { Project } from '../../project/load.ts';
import type { ImageContent, ImageInputs } from './content.ts';
import { chooseKernel, type KernelChoice } from './kernel.ts';

export interface BuiltNitro {
  /** File name. */
  name: string;
  eif: WrittenEif;
  kernel: KernelChoice;
  /** What each ramdisk holds, by the part's name. */
  files: Record<string, NitroImage['parts'][number]['files']>;
}

/** The key that signs PCR0; an image is unsigned without. Throws `ERR_KEY_*`, `ERR_CERTIFICATE_*`. */
export async function nitroSigner({ config, dir }: Project): Promise<EifSigner | undefined> {
  const { sign } = config.nitro;
  if (sign === undefined) return undefined;
  return readSignerFiles({ certificate: resolve(dir, sign.cert), key: resolve(dir, sign.key) });
}

/** Writes NAME.eif into `dir`. */
export async function writeNitro(
  dir: string,
  inputs: ImageInputs,
  { files, root }: ImageContent,
  signer: EifSigner | undefined,
): Promise<BuiltNitro> {
  const { project, lock, toolkit, cache, onProgress } = inputs;
  const kernel = await chooseKernel(project, lock, cache, files);
  const init = initRamdisk(cache, files, [{ path: 'init', mode: 0o755, content: toolkit.init }, ...kernel.modules]);
  const name = `${project.name}.eif`;
  const eif = await writeEif({
    kernel: kernel.part,
    cmdline: kernel.cmdline,
    ramdisks: [init, root].map((entries) => cpioArchive(entries, { mtime: lock.timestamp })),
    metadata: encodeMetadata({
      imageName: project.name,
      imageVersion: project.version,
      buildTime: lock.timestamp,
      buildTool: 'atoma-tee',
      buildToolVersion: lock.toolkit.version,
      operatingSystem: 'Linux',
      kernelVersion: kernel.version,
    }),
    arch: 'x86_64',
    sign: signer,
    out: join(dir, basename(name)),
    onProgress,
  });
  return { name, eif, kernel, files: { ramdisk0: measuredFiles(init), ramdisk1: measuredFiles(root) } };
}
