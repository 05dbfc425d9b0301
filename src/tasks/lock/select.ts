import type { Base, Lock } from '../../image/lock-file.ts';
import { gramineDefaults, type ProjectConfig } from '../../project/schema.ts';

/** The part of a base that a project's image is made of: no kernel where it brings its own, no onnxruntime for a command. */
export function selectBase<T extends Base>(base: T, config: ProjectConfig): T {
  const own = config.nitro.kernel !== 'debian';
  const command = config.runtime.kind === 'command';
  return {
    ...base,
    npm: base.npm.filter(({ name }) => !(command && name.startsWith('onnxruntime-'))),
    deb: base.deb.filter(({ keep }) => !(own && keep.some(({ part }) => part === 'kernel'))),
  };
}

/** Files of the project that go into the image as they are, as enclave.toml writes them. */
export function projectFiles({ nitro }: ProjectConfig): string[] {
  return typeof nitro.kernel === 'string' ? [] : [nitro.kernel.file, ...(nitro.kernel.modules ?? [])];
}

/** What enclave.toml asks for and a lock does not hold, or null: the lock was made for another enclave.toml. */
export function staleness(lock: Lock, config: ProjectConfig): string | null {
  const kernel = lock.deb.some(({ keep }) => keep.some(({ part }) => part === 'kernel'));
  const small = config.nitro.kernel === 'small';
  if (kernel !== (config.nitro.kernel === 'debian') || (lock.kernel !== undefined) !== small) return 'nitro.kernel';
  const files = projectFiles(config);
  if (files.length !== lock.file.length || files.some((path, i) => lock.file[i]?.path !== path)) return 'nitro.kernel';
  if ((lock.runtime ?? 'onnx') !== config.runtime.kind) return 'runtime.kind';
  const from = config.targets.includes('gramine') ? (config.gramine ?? gramineDefaults()).from : undefined;
  if (lock.gramine?.from !== from)
    return from === undefined || lock.gramine === undefined ? 'list of targets' : 'gramine.from';
  return lock.oci[0]?.reference === config.base?.image ? null : 'base.image';
}
