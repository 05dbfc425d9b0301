import { basename, join } from 'node:path';
import { hex } from '../../core/bytes.ts';
import { MEASURED_CONFIG_PATH } from '../../core/layout.ts';
import { encodeMeasuredConfig, type MeasuredConfig } from '../../core/measured-config.ts';
import type { OnProgress } from '../../core/progress.ts';
import type { Cache } from '../../image/cache.ts';
import { cpioArchive } from '../../image/cpio.ts';
import { provideInputs } from '../../image/inputs.ts';
import { type Lock, lockEntries } from '../../image/lock-file.ts';
import { initRamdisk, rootRamdisk } from '../../image/ramdisks.ts';
import type { Toolkit } from '../../image/toolkit.ts';
import { type Measurements, measuredFiles } from '../../manifest/measurements.ts';
import { type EifSigner, encodeMetadata, type WrittenEif, writeEif } from '../../nitro/index.ts';
import type { Project } from '../../project/load.ts';
import { commandRoot } from './command.ts';
import { chooseKernel, type KernelChoice } from './kernel.ts';

export interface ImageInputs {
  project: Project;
  /** Digest of the model, hex. */
  model: string;
  lock: Lock;
  toolkit: Toolkit;
  cache: Cache;
  offline: boolean;
  /** Signs PCR0; the image is unsigned without. */
  signer: EifSigner | undefined;
  onProgress: OnProgress | undefined;
}

export interface BuiltImage {
  /** File name. */
  name: string;
  eif: WrittenEif;
  kernel: KernelChoice;
  /** What each ramdisk holds, by the part's name. */
  files: Record<string, Measurements['images'][number]['parts'][number]['files']>;
  /** What of a container image was left out, a line each. */
  notes: string[];
}

/** Writes NAME.eif into `dir`. Everything that goes in was compared with the lock. */
export async function writeImage(dir: string, inputs: ImageInputs): Promise<BuiltImage> {
  const { project, lock, toolkit, cache, onProgress } = inputs;
  const provide = { dir: project.dir, offline: inputs.offline, onProgress };
  const files = await provideInputs(lockEntries(lock), cache, provide);
  const kernel = await chooseKernel(project, lock, cache, files);
  const command =
    project.config.runtime.kind === 'command' ? await commandRoot(project, lock, files, cache, provide) : null;
  const config = measuredConfig(inputs, command?.runtime ?? { kind: 'onnx' });
  const init = initRamdisk(cache, files, [{ path: 'init', mode: 0o755, content: toolkit.init }, ...kernel.modules]);
  const root = rootRamdisk(
    cache,
    files,
    [
      { path: MEASURED_CONFIG_PATH, mode: 0o644, content: encodeMeasuredConfig(config) },
      { path: 'app/program.mjs', mode: 0o644, content: toolkit.program },
    ],
    command?.entries,
  );
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
    sign: inputs.signer,
    out: join(dir, basename(name)),
    onProgress,
  });
  return {
    name,
    eif,
    kernel,
    files: { ramdisk0: measuredFiles(init), ramdisk1: measuredFiles(root) },
    notes: command?.notes ?? [],
  };
}

const measuredConfig = ({ project, model }: ImageInputs, runtime: MeasuredConfig['runtime']): MeasuredConfig => ({
  version: 1,
  project: project.name,
  projectVersion: project.version,
  policyVersion: project.policyVersion,
  model: { digest: model, owner: hex(project.model.owner) },
  runtime,
});
