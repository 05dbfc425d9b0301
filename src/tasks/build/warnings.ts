import { requiredMemoryMib } from '../../launch/memory.ts';
import type { Project } from '../../project/load.ts';
import { gramineDefaults, parseEnclaveSize } from '../../project/schema.ts';
import type { ImageContent } from './content.ts';
import type { BuiltImages } from './documents.ts';
import type { BuiltNitro } from './nitro.ts';

/** What Node and onnxruntime take of an SGX enclave before there is a model (gramine.md: 1.7 GB at start). */
const NODE_MIB = 2048;

/** What a person should know of images that were built. `modelBytes`: of the model's files. */
export function warnings(
  project: Project,
  { nitro, gramine }: BuiltImages,
  { notes }: ImageContent,
  modelBytes: number,
): string[] {
  return [
    ...(nitro ? nitroWarnings(project, nitro, modelBytes) : []),
    ...(gramine ? gramineWarnings(project, modelBytes) : []),
    ...notes.map((note) => `container image: ${note}`),
  ];
}

function nitroWarnings({ config }: Project, { eif, kernel }: BuiltNitro, modelBytes: number): string[] {
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
  ];
}

function gramineWarnings({ config }: Project, modelBytes: number): string[] {
  const { debug, enclave_size } = config.gramine ?? gramineDefaults();
  // Once as its file, once as onnxruntime has it.
  const needed = NODE_MIB + Math.ceil((2 * modelBytes) / 2 ** 20);
  return [
    ...(debug
      ? [
          'DEBUG ENCLAVE: gramine.debug = true lets the host read all of its memory, the model and every request; for development only, no policy of ours releases a key to it',
        ]
      : []),
    ...(Number(parseEnclaveSize(enclave_size) >> 20n) < needed
      ? [`gramine.enclave_size = "${enclave_size}" is too little for Node and this model: expected at least ${needed}M`]
      : []),
  ];
}
