import { join, resolve } from 'node:path';
import { usageError } from '../../core/errors.ts';
import type { NitroMeasurement } from '../../core/measurement.ts';
import type { OnProgress } from '../../core/progress.ts';
import { stagingFor } from '../../core/staging.ts';
import { Cache } from '../../image/cache.ts';
import { mending } from '../../image/inputs.ts';
import { loadToolkit, requireToolkit } from '../../image/toolkit.ts';
import { requiredMemoryMib } from '../../launch/memory.ts';
import { MANIFEST_FILE } from '../../manifest/statement.ts';
import { digestModel } from '../../model/model.ts';
import { checkOnnx, findOnnx } from '../../model/onnx.ts';
import { type EifSigner, readSignerFiles } from '../../nitro/index.ts';
import { loadProject, type Project } from '../../project/load.ts';
import { publish } from '../../project/outputs.ts';
import { readLockFile } from '../lock/index.ts';
import { staleness } from '../lock/select.ts';
import { writeDocuments } from './documents.ts';
import { type BuiltImage, writeImage } from './image.ts';

export interface BuildOptions {
  /** Directory with enclave.toml. */
  project: string;
  /** Default: dist in the project. */
  out?: string;
  /** Default: the project's. */
  targets?: 'nitro'[];
  offline?: boolean;
  /** Default: the shared one. */
  cacheDir?: string;
  /** Instead of this toolkit's own enclave program. */
  programPath?: string;
  onProgress?: OnProgress;
}

export interface BuildResult {
  name: string;
  /** Path of build.intoto.json. */
  manifest: string;
  images: { target: 'nitro'; path: string; sha256: string; size: number; measurement: NitroMeasurement }[];
  /** What a person should know: a kernel that Nitro will not boot, files of a container image that were left out. */
  warnings: string[];
}

/**
 * Builds the images of a project into `out`: NAME.eif, measurements.json, build.intoto.json, all of them or none. The
 * same lock and project give the same bytes (but for the signature of a signed image).
 *
 * Throws `ERR_CONFIG_*`, `ERR_MODEL_*`, `ERR_LOCK_*`, `ERR_INPUT_*`, `ERR_OFFLINE_MISSING`, `ERR_ARCHIVE_*`, `ERR_OCI_*`,
 * `ERR_KERNEL_*`, `ERR_KEY_*`, `ERR_CERTIFICATE_*`.
 */
export async function build(options: BuildOptions): Promise<BuildResult> {
  const { onProgress } = options;
  const project = await loadProject(options.project);
  requireSupported(project, options.targets);
  const { lock, sha256: lockDigest } = await readLockFile(project.lockPath);
  requireFresh(staleness(lock, project.config));
  const toolkit = await loadToolkit(options.programPath);
  requireToolkit(lock.toolkit, toolkit);
  const signer = await projectSigner(project);
  const model = await digestModel(project.model.path, onProgress);
  if (project.config.runtime.kind === 'onnx') {
    const onnx = findOnnx(model.files);
    await checkOnnx(model.files.find(({ path }) => path === onnx)?.absolute ?? onnx);
  }

  const out = resolve(options.out ?? join(project.dir, 'dist'));
  const cache = await Cache.open(options.cacheDir);
  const staging = await stagingFor(out);
  try {
    const offline = options.offline ?? false;
    const inputs = { project, model: model.digest, lock, toolkit, cache, offline, signer, onProgress };
    const image = await mending(cache, () => writeImage(staging.path, inputs));
    const names = await writeDocuments(staging.path, inputs, image, lockDigest);
    await publish(staging, out, names);
    const { sha256, size, measurement } = image.eif;
    const path = join(out, image.name);
    return {
      name: project.name,
      manifest: join(out, MANIFEST_FILE),
      images: [{ target: 'nitro', path, sha256, size, measurement }],
      warnings: warnings(
        project,
        image,
        model.files.reduce((sum, { size }) => sum + size, 0),
      ),
    };
  } finally {
    await staging.remove();
  }
}

/** What enclave.toml may say (cli.md) and this version does not do yet. */
function requireSupported({ config }: Project, targets: string[] = config.targets): void {
  if (!targets.includes('gramine')) return;
  throw usageError('ERR_CONFIG_UNSUPPORTED', 'this version cannot build the target "gramine" yet', {
    hint: 'targets = ["nitro"]',
  });
}

function requireFresh(stale: string | null): void {
  if (stale === null) return;
  throw usageError('ERR_LOCK_STALE', `the lock was written for another ${stale} than enclave.toml has now`, {
    hint: 'run `atoma-tee lock`, which adds and drops what changed and keeps the rest',
  });
}

async function projectSigner({ config, dir }: Project): Promise<EifSigner | undefined> {
  const { sign } = config.nitro;
  if (sign === undefined) return undefined;
  return readSignerFiles({ certificate: resolve(dir, sign.cert), key: resolve(dir, sign.key) });
}

function warnings({ config }: Project, { eif, kernel, notes }: BuiltImage, modelBytes: number): string[] {
  const ramdisks = eif.parts.filter(({ name }) => name.startsWith('ramdisk'));
  const rootBytes = ramdisks.reduce((sum, { size }) => sum + size, 0);
  const needed = requiredMemoryMib({ eifBytes: eif.size, rootBytes, modelBytes });
  return [
    ...(kernel.expectedOnNitro === false
      ? [
          'the Debian kernel is for development: real Nitro is not expected to boot it; kernel = "small" or a file is for that',
        ]
      : []),
    ...(needed > config.nitro.memory_mib
      ? [
          `nitro.memory_mib = ${config.nitro.memory_mib} is too little for this image and its model: expected at least ${needed}`,
        ]
      : []),
    ...notes.map((note) => `container image: ${note}`),
  ];
}
