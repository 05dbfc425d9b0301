import { stat } from 'node:fs/promises';
import { loadOrCreateLocalRoot } from '../attest/simulated-root.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import type { OnProgress } from '../core/progress.ts';
import type { BuiltGramineImage } from '../gramine/built-image.ts';
import { gramineNames } from '../gramine/image-manifest.ts';
import type { AnyLaunchOptions, Enclave } from '../launch/enclave.ts';
import type { GramineWishes } from '../launch/gramine-find.ts';
import { launch, type Tee, type TeeOptions } from '../launch/launch.ts';
import type { QemuWishes } from '../launch/qemu-find.ts';
import type { Statement } from '../manifest/statement.ts';
import { type MeasuredEif, measuredConfigTap } from '../nitro/index.ts';
import { type BrokerWishes, nameBrokers, openBrokers } from './brokers.ts';
import {
  besideManifest,
  gramineSubject,
  nitroSubject,
  readManifest,
  requireDigest,
  sigstructSubject,
} from './image.ts';
import { type MachineWishes, planMachine, requireMemory, requireNitroKernel } from './machine.ts';

export interface EnclaveOptions extends MachineWishes, QemuWishes, GramineWishes, BrokerWishes {
  /** build.intoto.json, its image beside it. */
  manifest: string;
  /** The sealed model. */
  model: string;
  /** Default: simulated. */
  tee?: Tee;
  /** Path of a public key: refuses an image that measures any other owner. */
  owner?: string | undefined;
  /** `nitro`: in debug mode, which has no secrets. */
  debugMode?: boolean;
  /** Runs what is not expected to: a kernel that no Nitro hypervisor boots, less memory than is probably needed. */
  force?: boolean;
  /** Milliseconds from start to the program's connection. */
  bootTimeoutMs?: number | undefined;
  /** Lines of the enclave's console. */
  onLog?: ((line: string) => void) | undefined;
  /** What a person should know about where it runs. */
  onNote?: (text: string) => void;
  onProgress?: OnProgress;
}

/** A served image and what it measured about itself. */
export interface StartedEnclave extends Enclave {
  config: MeasuredConfig;
}

/**
 * Launches the image of a build manifest and waits until it serves its model.
 *
 * Throws, before anything of the image runs: `ERR_IMAGE_DIGEST`, `ERR_EIF_CRC`, `ERR_IMAGE_OWNER`, `ERR_SIGSTRUCT_*`,
 * `ERR_GRAMINE_FILE_DIGEST` (exit 3), `ERR_MEMORY_TOO_SMALL`, `ERR_NITRO_KERNEL` (exit 2), `ERR_NAMESPACES`,
 * `ERR_QEMU_MISSING`, `ERR_NITRO_CLI_MISSING`, `ERR_GRAMINE_MISSING` (exit 5). Then what the program inside ended with: a
 * broker's refusal (exit 4), `ERR_SEAL_*`, ...
 */
export async function startEnclave(options: EnclaveOptions): Promise<StartedEnclave> {
  const { tee = 'simulated', force = false } = options;
  requireApplicable(tee, options);
  const statement = await readManifest(options.manifest);
  const owner = options.owner === undefined ? undefined : await readOwner(options.owner);
  const plan = planMachine(statement, options);
  if (tee === 'nitro' && !force) requireNitroKernel(plan);
  const brokers = await openBrokers(options);
  const modelBytes = await stat(options.model).then(
    ({ size }) => size,
    () => 0,
  );
  let config: MeasuredConfig | undefined;
  const known = (): MeasuredConfig => {
    if (config === undefined) throw new TypeError('the image has not been judged yet');
    return config;
  };
  const common = {
    host: { model: options.model, brokers, readyWithin: () => readyWithin(known(), modelBytes) },
    onLog: options.onLog,
    onProgress: options.onProgress,
    bootTimeoutMs: options.bootTimeoutMs,
  };
  const judge = (measured: MeasuredConfig) => {
    const found = measured.model.owner;
    if (owner !== undefined && found !== owner) {
      throw negativeError('ERR_IMAGE_OWNER', `the image measures another owner: expected ${owner}, found ${found}`);
    }
    config = measured;
  };
  const named = (error: unknown): never => {
    throw nameBrokers(error, options);
  };
  if (tee === 'gramine') {
    const enclave = await launchGramine(options, statement, common, judge).catch(named);
    return { ...enclave, config: known() };
  }

  const subject = nitroSubject(statement);
  const eif = besideManifest(options.manifest, subject.name);
  const tap = measuredConfigTap();
  const enclave = await launch({
    ...common,
    ...(await teeOptions(tee, options, plan)),
    eif,
    tap: tap.onRamdisk,
    accept(image: MeasuredEif) {
      requireDigest(subject, image, eif);
      judge(tap.config());
      if (tee !== 'simulated' && !force) requireMemory(tee, plan.memoryMib, image, modelBytes);
    },
  }).catch(named);
  return { ...enclave, config: known() };
}

/** Its manifest and signature are the build's subjects; the rest of it hangs on the manifest. */
async function launchGramine(
  { manifest, gramine, onNote }: EnclaveOptions,
  statement: Statement,
  common: AnyLaunchOptions,
  judge: (config: MeasuredConfig) => void,
): Promise<Enclave> {
  const subject = gramineSubject(statement);
  const path = besideManifest(manifest, subject.name);
  const accept = ({ sha256, name, config }: BuiltGramineImage) => {
    requireDigest(subject, { sha256: sha256.manifest }, path);
    const signature = sigstructSubject(statement, gramineNames(name).sigstruct);
    requireDigest(signature, { sha256: sha256.sigstruct }, besideManifest(manifest, signature.name));
    judge(config);
  };
  return launch({ ...common, tee: 'gramine', manifest: path, root: loadOrCreateLocalRoot, gramine, onNote, accept });
}

/** Brokers far away, a model through an emulated machine's channel (1 MB/s at the least), and what the command may take. */
const RELEASE_MS = 300_000;
const readyWithin = ({ runtime }: MeasuredConfig, modelBytes: number): number =>
  RELEASE_MS + modelBytes / 1000 + (runtime.kind === 'command' ? runtime.startTimeout * 1000 : 0);

/** A wish that nothing would heed is a mistake: `ERR_USAGE` (exit 2). */
function requireApplicable(tee: Tee, options: EnclaveOptions): void {
  const { machine, accel, gramine, debugMode, memoryMib, cpus } = options;
  const wishes: [flag: string, wish: unknown, tees: Tee[]][] = [
    ['--machine', machine, ['qemu']],
    ['--accel', accel, ['qemu']],
    ['--gramine', gramine, ['gramine']],
    ['--debug-mode', debugMode || undefined, ['nitro']],
    ['--memory', memoryMib, ['qemu', 'nitro']],
    ['--cpus', cpus, ['qemu', 'nitro']],
  ];
  const wrong = wishes.find(([, wish, tees]) => wish !== undefined && !tees.includes(tee));
  if (wrong) throw usageError('ERR_USAGE', `${wrong[0]}: expected --tee ${wrong[2].join(' or ')}, found --tee ${tee}`);
}

/** What is special about each place; the rest is the same. */
async function teeOptions(tee: Exclude<Tee, 'gramine'>, options: EnclaveOptions, plan: ReturnType<typeof planMachine>) {
  const { memoryMib, cpus, acpi } = plan;
  const { machine, accel, onNote, debugMode: debug = false } = options;
  if (tee === 'nitro') return { tee, memoryMib, cpus, debug } satisfies Partial<TeeOptions>;
  const root = await loadOrCreateLocalRoot();
  if (tee === 'simulated') return { tee, root } satisfies Partial<TeeOptions>;
  return { tee, root, memoryMib, cpus, acpi, machine, accel, onNote } satisfies Partial<TeeOptions>;
}

/** Raw, hex. */
async function readOwner(path: string): Promise<string> {
  const { readOwnerPublicKey } = await import('../keys/index.ts');
  return readOwnerPublicKey(await readSmallFile(path, 'owner key')).raw.toString('hex');
}
