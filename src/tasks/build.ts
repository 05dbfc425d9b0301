import { join, resolve } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile, writeFileAtomic } from '../core/files.ts';
import { MEASURED_CONFIG_PATH } from '../core/layout.ts';
import { encodeMeasuredConfig } from '../core/measured-config.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { stagingDirectory } from '../core/staging.ts';
import { Cache } from '../image/cache.ts';
import { cpioArchive } from '../image/cpio.ts';
import { lockDependencies } from '../image/dependencies.ts';
import { mending, provideInputs } from '../image/inputs.ts';
import { type Lock, lockEntries } from '../image/lock-file.ts';
import { findKernel, initRamdisk, rootRamdisk } from '../image/ramdisks.ts';
import { loadToolkit, requireToolkit, type Toolkit } from '../image/toolkit.ts';
import {
  encodeMeasurements,
  MEASUREMENTS_FILE,
  MEASUREMENTS_MEDIA_TYPE,
  type Measurements,
  measuredFiles,
} from '../manifest/measurements.ts';
import { encodeStatement, MANIFEST_FILE } from '../manifest/statement.ts';
import { digestModel } from '../model/model.ts';
import { checkOnnx, findOnnx } from '../model/onnx.ts';
import { encodeMetadata, type WrittenEif, writeEif } from '../nitro/index.ts';
import { loadProject, type Project } from '../project/load.ts';
import { publish } from '../project/outputs.ts';
import { readLock } from './lock.ts';

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
}

/**
 * The command line of the Debian kernel: reset by the keyboard controller, which is what ends an enclave, and no probing
 * for PCI and PS/2 devices, of which there are none.
 */
const CMDLINE =
  'reboot=k panic=30 pci=off console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on';

/**
 * Builds the images of a project into `out`: NAME.eif, measurements.json, build.intoto.json, all of them or none. The
 * same lock and project give the same bytes.
 *
 * Throws `ERR_CONFIG_*`, `ERR_MODEL_*`, `ERR_LOCK_*`, `ERR_INPUT_*`, `ERR_OFFLINE_MISSING`, `ERR_ARCHIVE_*`.
 */
export async function build(options: BuildOptions): Promise<BuildResult> {
  const { onProgress } = options;
  const project = await loadProject(options.project);
  requireSupported(project, options.targets);
  const model = await digestModel(project.model.path, onProgress);
  const onnx = findOnnx(model.files);
  await checkOnnx(model.files.find(({ path }) => path === onnx)?.absolute ?? onnx);

  const lock = await readLock(project.lockPath);
  const toolkit = await loadToolkit(options.programPath);
  requireToolkit(lock.toolkit, toolkit);

  const out = resolve(options.out ?? join(project.dir, 'dist'));
  const cache = await Cache.open(options.cacheDir);
  const staging = await stagingDirectory(out);
  try {
    const inputs = { dir: project.dir, offline: options.offline ?? false, onProgress };
    const image = await mending(cache, async () => {
      const files = await provideInputs(lockEntries(lock), cache, inputs);
      return writeImage(staging.path, { project, model: model.digest, lock, toolkit, cache, files, onProgress });
    });
    const names = await writeDocuments(staging.path, { project, model: model.digest, lock, ...image });
    await publish(staging, out, names);
    const { sha256, size, measurement } = image.eif;
    const path = join(out, image.name);
    return {
      name: project.name,
      manifest: join(out, MANIFEST_FILE),
      images: [{ target: 'nitro', path, sha256, size, measurement }],
    };
  } finally {
    await staging.remove();
  }
}

/** What enclave.toml may say (cli.md) and this version does not do yet. */
function requireSupported({ config }: Project, targets: string[] = config.targets): void {
  const missing = [
    [targets.includes('gramine'), 'the target "gramine"', 'targets = ["nitro"]'],
    [config.runtime.kind !== 'onnx', `runtime.kind = "${config.runtime.kind}"`, 'kind = "onnx"'],
    [config.base?.image !== undefined, 'base.image', 'leave [base] out for the default base'],
    [config.nitro.kernel !== 'debian', 'a kernel other than "debian"', 'kernel = "debian"'],
    [config.nitro.sign !== undefined, 'nitro.sign', 'leave it out: the image is then unsigned'],
  ] as const;
  const found = missing.find(([here]) => here);
  if (found)
    throw usageError('ERR_CONFIG_UNSUPPORTED', `this version cannot build ${found[1]} yet`, { hint: found[2] });
}

interface ImageFacts {
  project: Project;
  /** Hex. */
  model: string;
  lock: Lock;
}

interface BuiltImage {
  name: string;
  eif: WrittenEif;
  files: Record<string, Measurements['images'][number]['parts'][number]['files']>;
}

type ImageInputs = ImageFacts & {
  toolkit: Toolkit;
  cache: Cache;
  files: Awaited<ReturnType<typeof provideInputs>>;
  onProgress: OnProgress | undefined;
};

async function writeImage(dir: string, inputs: ImageInputs): Promise<BuiltImage> {
  const { project, lock, toolkit, cache, files, onProgress } = inputs;
  const kernel = findKernel(files);
  const config = encodeMeasuredConfig({
    version: 1,
    project: project.name,
    projectVersion: project.version,
    policyVersion: project.policyVersion,
    model: { digest: inputs.model, owner: hex(project.model.owner) },
    runtime: { kind: 'onnx' },
  });
  const init = initRamdisk(cache, files, [{ path: 'init', mode: 0o755, content: toolkit.init }]);
  const root = rootRamdisk(cache, files, [
    { path: MEASURED_CONFIG_PATH, mode: 0o644, content: config },
    { path: 'app/program.mjs', mode: 0o644, content: toolkit.program },
  ]);
  const name = `${project.name}.eif`;
  const eif = await writeEif({
    kernel: { size: kernel.size, chunks: () => cache.read(kernel) },
    cmdline: CMDLINE,
    ramdisks: [init, root].map((entries) => cpioArchive(entries, { mtime: lock.timestamp })),
    metadata: encodeMetadata({
      imageName: project.name,
      imageVersion: project.version,
      buildTime: lock.timestamp,
      buildTool: 'atoma-tee',
      buildToolVersion: lock.toolkit.version,
      operatingSystem: 'Linux',
      kernelVersion: kernelVersion(lock),
    }),
    arch: 'x86_64',
    out: join(dir, name),
    onProgress,
  });
  return { name, eif, files: { ramdisk0: measuredFiles(init), ramdisk1: measuredFiles(root) } };
}

async function writeDocuments(dir: string, facts: ImageFacts & BuiltImage): Promise<string[]> {
  const { project, lock, name, eif, files } = facts;
  const { sha256: digest, sha384, size, measurement } = eif;
  const parts = eif.parts.map((part) => ({ ...part, ...(files[part.name] ? { files: files[part.name] } : {}) }));
  const measurements = encodeMeasurements({
    version: 1,
    images: [{ target: 'nitro', file: name, size, sha256: digest, measurement, parts }],
  });
  const lockBytes = await readSmallFile(project.lockPath, 'lock', 4 << 20);
  const statement = encodeStatement({
    subjects: [{ name, sha256: digest, sha384 }],
    project: project.config,
    modelDigest: facts.model,
    owner: hex(project.model.owner),
    sourceDateEpoch: lock.timestamp,
    toolkit: lock.toolkit.version,
    dependencies: [{ name: 'atoma-tee.lock', digest: { sha256: hex(sha256(lockBytes)) } }, ...lockDependencies(lock)],
    byproducts: [
      { name: MEASUREMENTS_FILE, mediaType: MEASUREMENTS_MEDIA_TYPE, digest: { sha256: hex(sha256(measurements)) } },
    ],
  });
  await writeFileAtomic(join(dir, MEASUREMENTS_FILE), measurements);
  await writeFileAtomic(join(dir, MANIFEST_FILE), statement);
  // The manifest last: who sees it sees what it names.
  return [name, MEASUREMENTS_FILE, MANIFEST_FILE];
}

/** "6.12.95" of linux-image-6.12.95+deb12-cloud-amd64; metadata, not measured. */
const kernelVersion = (lock: Lock): string =>
  lock.deb.map(({ name }) => /^linux-image-(\d+(?:\.\d+)*)/.exec(name)?.[1]).find((version) => version) ?? 'unknown';
