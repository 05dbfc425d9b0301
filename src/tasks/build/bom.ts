import { COMMAND_ROOT, IMAGE_ROOT } from '../../core/layout.ts';
import { lockEntries } from '../../image/lock-file.ts';
import { provideLicence } from '../../image/provide-licence.ts';
import type { Measurements } from '../../manifest/measurements.ts';
import type { ModelFile } from '../../model/model.ts';
import { findOnnx } from '../../model/onnx.ts';
import { describeOnnx } from '../../model/onnx-describe.ts';
import type { ImageContent, ImageInputs } from './content.ts';

type BomFacts = import('../../bom/index.ts').BomFacts;
/** What has to be looked up for a bill of materials, beside what the build knows anyway. */
export type BomSources = Pick<BomFacts, 'packages' | 'found'>;

/**
 * What states the licences of the packages, and what packages a command's file system has. From the cache, so in `mending`.
 * Throws what `unpackEntry` throws where a package has to be read again.
 */
export async function bomSources(inputs: ImageInputs, { root }: ImageContent): Promise<BomSources> {
  const { project, lock, cache, offline, onProgress } = inputs;
  const options = { dir: project.dir, offline, onProgress };
  const packages = await Promise.all(
    lockEntries(lock).map(async (entry) => ({ ...entry, licence: await provideLicence(entry, cache, options) })),
  );
  if (project.config.runtime.kind !== 'command') return { packages, found: [] };
  const { findPackages } = await import('../../bom/index.ts');
  return { packages, found: await findPackages(root, `${IMAGE_ROOT}/${COMMAND_ROOT}/`) };
}

/** The bytes of bom.cdx.json. */
export async function encodeBom(inputs: ImageInputs, sources: BomSources, { images }: Measurements): Promise<Buffer> {
  const { bundledPackages, writeBom } = await import('../../bom/index.ts');
  const { project, lock, toolkit, model, disclosed } = inputs;
  return writeBom({
    ...sources,
    project: { name: project.name, version: project.version },
    timestamp: lock.timestamp,
    toolkit: { ...toolkit.pin, bundled: await bundledPackages(toolkit.pin.program) },
    images,
    files: lock.file,
    oci: lock.oci[0],
    kernel: lock.kernel,
    gramine: lock.gramine,
    model: { digest: model, disclosed },
  });
}

/** What `build --disclose-model` tells of a model. Throws `ERR_MODEL_NOT_ONNX` (exit 2). */
export function disclosedModel(
  files: (ModelFile & { sha256: string })[],
  kind: string,
): BomFacts['model']['disclosed'] {
  const listed = files.map(({ path, size, sha256 }) => ({ path, size, sha256 }));
  // The model of a command can be anything.
  if (kind !== 'onnx') return { files: listed };
  const onnx = findOnnx(files);
  return { files: listed, onnx: describeOnnx(files.find(({ path }) => path === onnx)?.absolute ?? onnx) };
}
