import * as z from 'zod';
import { usageError } from '../core/errors.ts';
import { requiredMemoryMib } from '../launch/memory.ts';
import type { Statement } from '../manifest/statement.ts';
import type { MeasuredEif } from '../nitro/index.ts';

export interface MachineWishes {
  /** Default: the manifest's, which is enclave.toml's. */
  memoryMib?: number | undefined;
  cpus?: number | undefined;
}

/** The machine that an image is to run on. */
export interface MachinePlan {
  memoryMib: number;
  cpus: number;
  /** The kernel finds its devices by ACPI: Debian's. Ours and AWS's are told on their command line. */
  acpi: boolean;
  /** Null: the manifest does not say. */
  expectedOnNitro: boolean | null;
}

const DEFAULTS = { memory_mib: 1024, cpus: 2 };
/** Loose: it is enclave.toml as another version of this toolkit may have read it, and no judgement about the image. */
const nitro = z.looseObject({
  memory_mib: z.int().min(1).optional().catch(undefined),
  cpus: z.int().min(1).optional().catch(undefined),
});

export function planMachine({ predicate }: Statement, { memoryMib, cpus }: MachineWishes): MachinePlan {
  const { externalParameters, internalParameters } = predicate.buildDefinition;
  const project = nitro.safeParse(externalParameters.project.nitro).data;
  const built = internalParameters.nitro;
  return {
    memoryMib: memoryMib ?? project?.memory_mib ?? DEFAULTS.memory_mib,
    cpus: cpus ?? project?.cpus ?? DEFAULTS.cpus,
    acpi: (built?.kernel.kind ?? 'debian') === 'debian',
    expectedOnNitro: built?.expectedOnNitro ?? null,
  };
}

/** Throws `ERR_NITRO_KERNEL` (exit 2) where the build said that no Nitro hypervisor is expected to boot its kernel. */
export function requireNitroKernel({ expectedOnNitro }: MachinePlan): void {
  if (expectedOnNitro !== false) return;
  throw usageError(
    'ERR_NITRO_KERNEL',
    'expected an image for real Nitro, found one whose kernel is not expected to boot there',
    {
      hint: 'set kernel = "small" under [nitro] in enclave.toml and build again; --force tries all the same',
    },
  );
}

const MIB = 1 << 20;
/** nitro-cli refuses less (aws-nitro-enclaves-cli 1.5.0, resource_manager.rs, ENCLAVE_MEMORY_EIF_SIZE_RATIO). */
const NITRO_CLI_RATIO = 4;

/** Throws `ERR_MEMORY_TOO_SMALL` (exit 2) with the figure that is needed, before anything runs. */
export function requireMemory(
  tee: 'qemu' | 'nitro',
  memoryMib: number,
  { layout }: MeasuredEif,
  modelBytes: number,
): void {
  const end = layout.sections.at(-1);
  const eifBytes = (end?.offset ?? 0) + (end?.size ?? 0);
  const rootBytes = layout.sections.reduce((sum, { type, size }) => sum + (type === 'ramdisk' ? size : 0), 0);
  const toBoot = requiredMemoryMib({ eifBytes, rootBytes, modelBytes });
  const toBeTaken = tee === 'nitro' ? Math.ceil(eifBytes / MIB) * NITRO_CLI_RATIO : 0;
  const needed = Math.max(toBoot, toBeTaken);
  if (memoryMib >= needed) return;
  const why =
    toBeTaken > toBoot
      ? `nitro-cli wants ${NITRO_CLI_RATIO} times the image's size`
      : 'the image is unpacked into memory';
  throw usageError(
    'ERR_MEMORY_TOO_SMALL',
    `expected at least ${needed} MiB of memory (${why}), found ${memoryMib} MiB`,
    {
      hint: `--memory ${needed}, or memory_mib = ${needed} under [nitro] in enclave.toml`,
      details: { neededMib: needed, memoryMib },
    },
  );
}
