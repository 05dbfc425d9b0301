import type { DisclosedModel } from '../../bom/index.ts';
import { hex } from '../../core/bytes.ts';
import { MEASURED_CONFIG_PATH } from '../../core/layout.ts';
import { encodeMeasuredConfig, type MeasuredConfig } from '../../core/measured-config.ts';
import type { OnProgress } from '../../core/progress.ts';
import type { Cache } from '../../image/cache.ts';
import type { TreeEntry } from '../../image/cpio.ts';
import { provideInputs } from '../../image/inputs.ts';
import { type Lock, type LockEntry, lockEntries } from '../../image/lock-file.ts';
import { rootRamdisk } from '../../image/ramdisks.ts';
import type { Toolkit } from '../../image/toolkit.ts';
import type { TreeFile } from '../../image/tree.ts';
import type { Project } from '../../project/load.ts';
import { commandRoot } from './command.ts';

export type Target = 'nitro' | 'gramine';

export interface ImageInputs {
  project: Project;
  /** Digest of the model, hex. */
  model: string;
  /** What else the bill of materials may tell of it. */
  disclosed?: DisclosedModel | undefined;
  /** What these targets need of it: see `usedInputs`. */
  lock: Lock;
  toolkit: Toolkit;
  cache: Cache;
  offline: boolean;
  onProgress: OnProgress | undefined;
}

/** What the images of all targets have in common. Everything in it was compared with the lock. */
export interface ImageContent {
  /** The kept files of every package. */
  files: TreeFile[];
  /** The application's root, as ramdisk 1 of a Nitro image holds it. */
  root: TreeEntry[];
  /** What of a container image was left out, a line each. */
  notes: string[];
}

/** Provides the inputs and puts the application's root together. */
export async function imageContent(inputs: ImageInputs): Promise<ImageContent> {
  const { project, lock, toolkit, cache, offline, onProgress } = inputs;
  const provide = { dir: project.dir, offline, onProgress };
  const files = await provideInputs(lockEntries(lock), cache, provide);
  const command =
    project.config.runtime.kind === 'command' ? await commandRoot(project, lock, files, cache, provide) : null;
  const config = measuredConfig(inputs, command?.runtime ?? { kind: 'onnx' });
  const own = [
    { path: MEASURED_CONFIG_PATH, mode: 0o644, content: encodeMeasuredConfig(config) },
    { path: 'app/program.mjs', mode: 0o644, content: toolkit.program },
  ];
  return { files, root: rootRamdisk(cache, files, own, command?.entries), notes: command?.notes ?? [] };
}

/** A lock without what only other targets need: no kernel is fetched for Gramine, no Gramine looked for for Nitro. */
export function usedInputs(lock: Lock, targets: Target[]): Lock {
  const { gramine, ...rest } = lock;
  const used = ({ keep }: Pick<LockEntry, 'keep'>) =>
    targets.includes('nitro') || keep.some(({ part }) => part === 'root');
  return {
    ...rest,
    npm: lock.npm.filter(used),
    deb: lock.deb.filter(used),
    file: targets.includes('nitro') ? lock.file : [],
    kernel: targets.includes('nitro') ? lock.kernel : undefined,
    gramine: targets.includes('gramine') ? gramine : undefined,
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
