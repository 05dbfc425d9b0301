import { join } from 'node:path';
import { BOM_FILE, BOM_MEDIA_TYPE } from '../../bom/facts.ts';
import { hex, sha256 } from '../../core/bytes.ts';
import { writeFileAtomic } from '../../core/files.ts';
import { OCI_MANIFEST_TYPE } from '../../gramine/oci-image.ts';
import { lockDependencies } from '../../image/dependencies.ts';
import {
  encodeMeasurements,
  type GramineImage,
  MEASUREMENTS_FILE,
  MEASUREMENTS_MEDIA_TYPE,
  type Measurements,
  type NitroImage,
} from '../../manifest/measurements.ts';
import { encodeStatement, MANIFEST_FILE, type StatementFacts } from '../../manifest/statement.ts';
import { gramineDefaults } from '../../project/schema.ts';
import { type BomSources, encodeBom } from './bom.ts';
import type { ImageInputs } from './content.ts';
import type { BuiltGramine } from './gramine.ts';
import type { BuiltNitro } from './nitro.ts';

export interface BuiltImages {
  nitro?: BuiltNitro | undefined;
  gramine?: BuiltGramine | undefined;
}

/** Writes the documents of built images into `dir`; `lockDigest` is of the lock's bytes that were read. Returns their names, the manifest last. */
export async function writeDocuments(
  dir: string,
  inputs: ImageInputs,
  { nitro, gramine }: BuiltImages,
  sources: BomSources,
  lockDigest: string,
): Promise<string[]> {
  const { project, lock } = inputs;
  const measured: Measurements = {
    version: 1,
    images: [...(nitro ? [nitroImage(nitro)] : []), ...(gramine ? [gramineImage(gramine, inputs)] : [])],
  };
  const measurements = encodeMeasurements(measured);
  const bom = await encodeBom(inputs, sources, measured);
  const statement = encodeStatement({
    subjects: [
      ...(nitro ? [{ name: nitro.name, sha256: nitro.eif.sha256, sha384: nitro.eif.sha384 }] : []),
      ...(gramine ? [gramine.manifest, gramine.sigstruct] : []),
    ],
    project: project.config,
    modelDigest: inputs.model,
    modelDisclosed: inputs.disclosed !== undefined,
    owner: hex(project.model.owner),
    sourceDateEpoch: lock.timestamp,
    toolkit: lock.toolkit.version,
    nitro: nitro && {
      kernel: { kind: nitro.kernel.kind, version: nitro.kernel.version, sha256: nitro.kernel.sha256 },
      expectedOnNitro: nitro.kernel.expectedOnNitro,
    },
    gramine: gramine && gramineFacts(inputs),
    dependencies: [{ name: 'atoma-tee.lock', digest: { sha256: lockDigest } }, ...lockDependencies(lock)],
    byproducts: [
      { name: MEASUREMENTS_FILE, mediaType: MEASUREMENTS_MEDIA_TYPE, digest: { sha256: hex(sha256(measurements)) } },
      { name: BOM_FILE, mediaType: BOM_MEDIA_TYPE, digest: { sha256: hex(sha256(bom)) } },
      ...(gramine
        ? [{ name: gramine.layout, mediaType: OCI_MANIFEST_TYPE, digest: { sha256: gramine.layoutDigest } }]
        : []),
    ],
  });
  await writeFileAtomic(join(dir, MEASUREMENTS_FILE), measurements);
  await writeFileAtomic(join(dir, BOM_FILE), bom);
  await writeFileAtomic(join(dir, MANIFEST_FILE), statement);
  return [MEASUREMENTS_FILE, BOM_FILE, MANIFEST_FILE];
}

function nitroImage({ name, eif, files }: BuiltNitro): NitroImage {
  const { sha256: digest, size, measurement } = eif;
  const parts = eif.parts.map((part) => ({ ...part, ...(files[part.name] ? { files: files[part.name] } : {}) }));
  return { target: 'nitro', file: name, size, sha256: digest, measurement, parts };
}

function gramineImage(built: BuiltGramine, { lock }: ImageInputs): GramineImage {
  const { manifest, sigstruct, measurement, areas, files } = built;
  const pin = lock.gramine as NonNullable<typeof lock.gramine>;
  return {
    target: 'gramine',
    file: manifest.name,
    size: manifest.size,
    sha256: manifest.sha256,
    measurement,
    sigstruct: { file: sigstruct.name, size: sigstruct.size, sha256: sigstruct.sha256 },
    libpal: pin.libpal,
    libsysdb: pin.libsysdb,
    parts: areas.map(({ name, address, size, flags, digest }) => ({
      ...{ name, address: `0x${address.toString(16)}`, size: Number(size), flags, sha256: digest },
    })),
    files,
  };
}

function gramineFacts({ project, lock }: ImageInputs): StatementFacts['gramine'] {
  const { enclave_size, max_threads, edmm, debug } = project.config.gramine ?? gramineDefaults();
  const pin = lock.gramine as NonNullable<typeof lock.gramine>;
  return {
    ...{ enclaveSize: enclave_size, maxThreads: max_threads, edmm, debug },
    ...(pin.version === undefined ? {} : { version: pin.version }),
    libpal: pin.libpal.sha256,
    libsysdb: pin.libsysdb.sha256,
  };
}
