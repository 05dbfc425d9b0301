import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { hex, sha256 } from '../../core/bytes.ts';
import { AtomaError, usageError } from '../../core/errors.ts';
import { readSmallFile, writeFileAtomic } from '../../core/files.ts';
import type { OnProgress } from '../../core/progress.ts';
import { Cache } from '../../image/cache.ts';
import { encodeLock } from '../../image/lock-encode.ts';
import { type Base, type Lock, lockEntries, parseLock } from '../../image/lock-file.ts';
import { resolveNewest } from '../../image/resolve.ts';
import { loadBase, loadToolkit } from '../../image/toolkit.ts';
import { LOCK_FILE, loadConfig } from '../../project/load.ts';
import type { ProjectConfig } from '../../project/schema.ts';
import { compareLocks, type LockChange } from './changes.ts';
import { pinProject } from './pins.ts';
import { selectBase, staleness } from './select.ts';

export interface LockOptions {
  /**
   * `true`: take this toolkit's parts and base, and look for newer inputs. `'toolkit'`: take this toolkit's parts and
   * base as shipped; nothing is looked up. `'local'`: pin the container image, the project's files and Gramine anew,
   * nothing else. Default: keep a lock that is there, and add or drop what enclave.toml has come to ask for.
   */
  update?: boolean | 'toolkit' | 'local';
  /** Instead of this toolkit's own enclave program. */
  programPath?: string;
  /** Default: the shared one. */
  cacheDir?: string;
  onProgress?: OnProgress;
}

export interface LockResult {
  path: string;
  lock: Lock;
  changes: LockChange[];
  warnings: string[];
}

/**
 * Writes a project's lock, or leaves it as it is (see LockOptions). The file is only touched when something changes.
 * Throws `ERR_CONFIG_*`, `ERR_LOCK_*` (exit 2), `ERR_TOOLKIT_PROGRAM` (exit 5) and what resolveNewest and pinProject throw.
 */
export async function lockProject(dir: string, options: LockOptions = {}): Promise<LockResult> {
  const { update, onProgress } = options;
  const config = await loadConfig(dir);
  const path = join(resolve(dir), LOCK_FILE);
  const old = existsSync(path) ? await readLock(path) : null;
  const { pin } = await loadToolkit(options.programPath);
  if (old !== null && !update && staleness(old, config) === null) {
    return { path, lock: old, changes: [], warnings: toolkitWarning(old, pin) };
  }
  const cache = await Cache.open(options.cacheDir);
  const shipped = selectBase(await loadBase(), config);
  const { base, unauthenticated } = await chooseBase(shipped, old, config, { cache, dir: resolve(dir), ...options });
  const keep = update === true || update === 'local' ? null : old;
  const pins = await pinProject(config, { dir: resolve(dir), keep, cache, onProgress });
  const { version, npm, deb } = base;
  const lock: Lock = {
    version,
    timestamp: 0,
    ...(config.runtime.kind === 'command' ? { runtime: 'command' } : {}),
    npm,
    deb,
    ...pins,
    toolkit: old !== null && (!update || update === 'local') ? old.toolkit : pin,
  };
  lock.timestamp = resolvedAt(lock, shipped, old);
  const changes = compareLocks(old, lock);
  if (changes.length > 0) await writeFileAtomic(path, encodeLock(lock));
  const warnings = unauthenticated.map(
    (suite) =>
      `the package index of ${suite} was not checked against Debian's signature: gpgv or its keyring is missing`,
  );
  return { path, lock, changes, warnings };
}

/** Throws `ERR_LOCK_MISSING`, `ERR_LOCK_SYNTAX`, `ERR_LOCK_VALUE` (exit 2). */
export const readLock = async (path: string): Promise<Lock> => (await readLockFile(path)).lock;

/** The same with the file's bytes, read once, and their SHA-256 (hex). */
export async function readLockFile(path: string): Promise<{ lock: Lock; bytes: Buffer; sha256: string }> {
  try {
    const bytes = await readSmallFile(path, 'lock', 4 << 20);
    return { lock: parseLock(bytes.toString('utf8'), LOCK_FILE), bytes, sha256: hex(sha256(bytes)) };
  } catch (error) {
    if (!(error instanceof AtomaError) || error.code !== 'ERR_FILE_NOT_FOUND') throw error;
    throw usageError('ERR_LOCK_MISSING', `expected the pinned inputs in ${path}, found no such file`, {
      hint: 'run `atoma-tee lock`, and commit the file',
    });
  }
}

/** `build` will refuse it: better said by the command that could have mended it. */
function toolkitWarning({ toolkit }: Lock, pin: Lock['toolkit']): string[] {
  const same = (['version', 'init', 'program'] as const).every((key) => toolkit[key] === pin[key]);
  return same ? [] : ['the lock is for another atoma-tee, and is left so; `atoma-tee lock --toolkit` takes this one'];
}

type BaseOptions = LockOptions & { cache: Cache; dir: string };

async function chooseBase(shipped: Base, old: Lock | null, config: ProjectConfig, options: BaseOptions) {
  const { update, cache, dir, onProgress } = options;
  if (update === true) {
    const known = [...lockEntries(shipped), ...(old ? lockEntries(old) : [])];
    return resolveNewest(shipped, known, cache, { dir, onProgress });
  }
  const unauthenticated: string[] = [];
  if (old === null || update === 'toolkit') return { base: shipped, unauthenticated };
  return { base: complete(selectBase(old, config), shipped), unauthenticated };
}

/** What a lock holds, and what it lacks of the shipped base. The kernel's package has its version in its name. */
function complete(old: Base, shipped: Base): Base {
  const kernel = old.deb.some(({ keep }) => keep.some(({ part }) => part === 'kernel'));
  return {
    ...old,
    npm: [...old.npm, ...shipped.npm.filter(({ name }) => !old.npm.some((entry) => entry.name === name))],
    deb: [
      ...old.deb,
      ...shipped.deb.filter(
        ({ name, keep }) =>
          !old.deb.some((entry) => entry.name === name) && !(kernel && keep.some(({ part }) => part === 'kernel')),
      ),
    ],
  };
}

/** The time of a lock changes only with its inputs, so that the same inputs build the same image. */
function resolvedAt(lock: Lock, shipped: Base, old: Lock | null): number {
  const inputs = (of: Base) => JSON.stringify([of.npm, of.deb]);
  // The base as it is shipped has a time of its own, whatever is put on top: digests, not clocks, tell images apart.
  if (inputs(lock) === inputs(shipped)) return shipped.timestamp;
  if (old !== null && inputs(lock) === inputs(old)) return old.timestamp;
  return Math.floor(Date.now() / 1000);
}
