import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { cacheDirectory } from '../../core/cache-directory.ts';
import { usageError } from '../../core/errors.ts';
import type { NitroMeasurement, SgxMeasurement } from '../../core/measurement.ts';
import type { OnProgress } from '../../core/progress.ts';
import { requireOtherThan } from '../../core/same-file.ts';
import { stagingFor } from '../../core/staging.ts';
import { DIRECTORY_ENTRIES } from '../../gramine/image-manifest.ts';
import { LAYOUT_ENTRIES } from '../../gramine/oci-image.ts';
import { Cache } from '../../image/cache.ts';
import { importInputs, openInputsArchive } from '../../image/inputs-archive-read.ts';
import { loadToolkit, requireToolkit } from '../../image/toolkit.ts';
import { BUNDLE_FILE } from '../../manifest/bundle.ts';
import { MANIFEST_FILE } from '../../manifest/statement.ts';
import { digestAndRecord } from '../../model/digest-cache.ts';
import { checkOnnx, findOnnx } from '../../model/onnx.ts';
import { loadProject, type Project } from '../../project/load.ts';
import { type Output, publish } from '../../project/outputs.ts';
import { readLockFile } from '../lock/index.ts';
import { staleness } from '../lock/select.ts';
import { disclosedModel } from './bom.ts';
import { readExpected, requireExpected } from './check.ts';
import { type ImageInputs, type Target, usedInputs } from './content.ts';
import type { BuiltImages } from './documents.ts';
import { type BuiltGramine, gramineSigner } from './gramine.ts';
import { nitroSigner } from './nitro.ts';
import { saveInputs } from './save-inputs.ts';
import { readBuildSigner, signManifestIn } from './signature.ts';
import { warnings } from './warnings.ts';
import { writeImages } from './write.ts';

export interface BuildOptions {
  /** Directory with enclave.toml. */
  project: string;
  /** Default: dist in the project. */
  out?: string;
  /** Default: the project's. */
  targets?: Target[];
  offline?: boolean;
  /** A directory that `saveInputs` wrote: nothing is fetched. */
  inputs?: string;
  /** Directory for an archive of everything that was built from. */
  saveInputs?: string;
  /** File of measurements that the build must have. */
  check?: string;
  /** Default: the shared one. */
  cacheDir?: string;
  /** Instead of this toolkit's own enclave program. */
  programPath?: string;
  /** The bill of materials describes the model, not only its digest. */
  discloseModel?: boolean;
  /** Path of the build key that signs the manifest. */
  sign?: string;
  onProgress?: OnProgress;
}

/** An image as `build --json` names it; `path` is what is measured: the EIF, the signed manifest. */
export type BuildImage =
  | { target: 'nitro'; path: string; sha256: string; size: number; measurement: NitroMeasurement }
  | {
      target: 'gramine';
      path: string;
      sha256: string;
      size: number;
      measurement: SgxMeasurement;
      sigstruct: string;
      /** The image's root with Gramine's two libraries, and the same as an OCI layout. */
      directory: string;
      layout: string;
    };

export interface BuildResult {
  name: string;
  /** Path of build.intoto.json. */
  manifest: string;
  /** Path of build.sigstore.json; null: not signed. */
  signature: string | null;
  images: BuildImage[];
  /** What a person should know: a kernel that Nitro will not boot, files of a container image that were left out. */
  warnings: string[];
}

/**
 * Builds the images of a project into `out`: NAME.eif for Nitro; NAME.manifest.sgx, NAME.sig, NAME.gramine and NAME.oci for
 * Gramine; measurements.json, bom.cdx.json and build.intoto.json, with `sign` build.sigstore.json: all of them or none. The same
 * lock and project give the same bytes (but for signatures).
 *
 * Throws `ERR_CONFIG_*`, `ERR_MODEL_*`, `ERR_LOCK_*`, `ERR_INPUT_*`, `ERR_OFFLINE_MISSING`, `ERR_ARCHIVE_*`, `ERR_OCI_*`,
 * `ERR_KERNEL_*`, `ERR_GRAMINE_*`, `ERR_ELF_*`, `ERR_KEY_*`, `ERR_CERTIFICATE_*`, `ERR_OUTPUT_*`.
 */
export async function build(options: BuildOptions): Promise<BuildResult> {
  const { onProgress } = options;
  const project = await loadProject(options.project);
  const targets = [...new Set(options.targets ?? project.config.targets)];
  requireSupported(project, targets);
  const out = resolve(options.out ?? join(project.dir, 'dist'));
  // In the model's directory the images would be part of the next build's model.
  for (const path of [out, join(out, MANIFEST_FILE)]) await requireOtherThan(path, [project.model.path]);
  const expected = options.check === undefined ? undefined : await readExpected(options.check);
  const { lock, bytes: lockBytes, sha256: lockDigest } = await readLockFile(project.lockPath);
  requireFresh(staleness(lock, project.config));
  const toolkit = await loadToolkit(options.programPath);
  requireToolkit(lock.toolkit, toolkit);
  const signers = {
    nitro: targets.includes('nitro') ? await nitroSigner(project) : undefined,
    gramine: targets.includes('gramine') ? await gramineSigner(project) : undefined,
  };
  const signer = options.sign === undefined ? undefined : await readBuildSigner(options.sign);
  const cache = await Cache.open(options.cacheDir);
  if (options.inputs !== undefined) await importInputs(await openInputsArchive(options.inputs), cache, onProgress);
  const model = await digestAndRecord(options.cacheDir ?? cacheDirectory(process.env), project.model.path, {
    onProgress,
  });
  if (project.config.runtime.kind === 'onnx') {
    const onnx = findOnnx(model.files);
    await checkOnnx(model.files.find(({ path }) => path === onnx)?.absolute ?? onnx);
  }

  const offline = options.offline || options.inputs !== undefined;
  const inputs: ImageInputs = {
    ...{ project, model: model.digest, toolkit, cache, offline, onProgress },
    lock: usedInputs(lock, targets),
    disclosed: options.discloseModel ? disclosedModel(model.files, project.config.runtime.kind) : undefined,
  };
  const staging = await stagingFor(out);
  try {
    const { images, content, documents } = await writeImages(staging.path, inputs, targets, signers, lockDigest);
    if (options.check !== undefined && expected)
      await requireExpected(staging.path, options.check, expected, options.targets);
    if (options.saveInputs !== undefined) await saveInputs(options.saveInputs, inputs, lockBytes);
    const signature = signer && (await signManifestIn(staging.path, signer));
    await publish(staging, out, outputs(images, [...(signature ? [signature] : []), ...documents]));
    // An older build's is a signature of other bytes.
    if (!signature) await rm(join(out, BUNDLE_FILE), { force: true });
    const modelBytes = model.files.reduce((sum, { size }) => sum + size, 0);
    return {
      name: project.name,
      manifest: join(out, MANIFEST_FILE),
      signature: signature ? join(out, signature) : null,
      images: buildImages(out, images),
      warnings: warnings(project, images, content, modelBytes),
    };
  } finally {
    await staging.remove();
  }
}

/** In the order of publishing: who sees the manifest, which is the last, sees what it names. */
function outputs({ nitro, gramine }: BuiltImages, documents: string[]): Output[] {
  const files = (names: string[]) => names.map((name) => ({ name }));
  return [
    ...files(nitro ? [nitro.name] : []),
    ...(gramine
      ? [
          { name: gramine.directory, directory: DIRECTORY_ENTRIES },
          { name: gramine.layout, directory: LAYOUT_ENTRIES },
          ...files([gramine.manifest.name, gramine.sigstruct.name]),
        ]
      : []),
    ...files(documents),
  ];
}

function buildImages(out: string, { nitro, gramine }: BuiltImages): BuildImage[] {
  const images: BuildImage[] = [];
  if (nitro) {
    const { sha256, size, measurement } = nitro.eif;
    images.push({ target: 'nitro', path: join(out, nitro.name), sha256, size, measurement });
  }
  if (gramine) images.push(gramineImage(out, gramine));
  return images;
}

function gramineImage(out: string, { manifest, sigstruct, measurement, directory, layout }: BuiltGramine): BuildImage {
  const at = (name: string) => join(out, name);
  const { sha256, size } = manifest;
  return {
    ...{ target: 'gramine', path: at(manifest.name), sha256, size, measurement },
    ...{ sigstruct: at(sigstruct.name), directory: at(directory), layout: at(layout) },
  };
}

/** What enclave.toml may say (cli.md) and this version does not do. */
function requireSupported({ config }: Project, targets: Target[]): void {
  if (!targets.includes('gramine') || config.runtime.kind !== 'command') return;
  throw usageError('ERR_CONFIG_UNSUPPORTED', 'this version cannot build runtime.kind = "command" for Gramine', {
    hint: 'write a manifest template of your own: `atoma-tee gramine manifest`, `atoma-tee gramine sign`, and `atoma-tee unseal --format gramine-pf` for its model',
  });
}

function requireFresh(stale: string | null): void {
  if (stale === null) return;
  throw usageError('ERR_LOCK_STALE', `the lock was written for another ${stale} than enclave.toml has now`, {
    hint: 'run `atoma-tee lock`, which adds and drops what changed and keeps the rest',
  });
}
