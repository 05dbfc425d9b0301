import { join } from 'node:path';
import { hex, sha256 } from '../../core/bytes.ts';
import { writeFileAtomic } from '../../core/files.ts';
import { lockDependencies } from '../../image/dependencies.ts';
import { encodeMeasurements, MEASUREMENTS_FILE, MEASUREMENTS_MEDIA_TYPE } from '../../manifest/measurements.ts';
import { encodeStatement, MANIFEST_FILE } from '../../manifest/statement.ts';
import type { BuiltImage, ImageInputs } from './image.ts';

/** Writes the documents of a built image into `dir`; `lockDigest` is of the lock's bytes that were read. Returns the names of all outputs in the order to publish them in. */
export async function writeDocuments(
  dir: string,
  inputs: ImageInputs,
  image: BuiltImage,
  lockDigest: string,
): Promise<string[]> {
  const { project, lock } = inputs;
  const { name, eif, kernel, files } = image;
  const { sha256: digest, sha384, size, measurement } = eif;
  const parts = eif.parts.map((part) => ({ ...part, ...(files[part.name] ? { files: files[part.name] } : {}) }));
  const measurements = encodeMeasurements({
    version: 1,
    images: [{ target: 'nitro', file: name, size, sha256: digest, measurement, parts }],
  });
  const statement = encodeStatement({
    subjects: [{ name, sha256: digest, sha384 }],
    project: project.config,
    modelDigest: inputs.model,
    owner: hex(project.model.owner),
    sourceDateEpoch: lock.timestamp,
    toolkit: lock.toolkit.version,
    nitro: {
      kernel: { kind: kernel.kind, version: kernel.version, sha256: kernel.sha256 },
      expectedOnNitro: kernel.expectedOnNitro,
    },
    dependencies: [{ name: 'atoma-tee.lock', digest: { sha256: lockDigest } }, ...lockDependencies(lock)],
    byproducts: [
      { name: MEASUREMENTS_FILE, mediaType: MEASUREMENTS_MEDIA_TYPE, digest: { sha256: hex(sha256(measurements)) } },
    ],
  });
  await writeFileAtomic(join(dir, MEASUREMENTS_FILE), measurements);
  await writeFileAtomic(join(dir, MANIFEST_FILE), statement);
  // The manifest last: who sees it sees what it names.
  return [name, MEASUREMENTS_FILE, MANIFEST_FILE];
}
