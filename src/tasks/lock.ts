import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { AtomaError, usageError } from '../core/errors.ts';
import { readSmallFile, writeFileAtomic } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { Cache } from '../image/cache.ts';
import { encodeLock } from '../image/lock-encode.ts';
import { type Base, type Lock, type LockEntry, lockEntries, parseLock } from '../image/lock-file.ts';
import { resolveNewest } from '../image/resolve.ts';
import { loadBase, loadToolkit } from '../image/toolkit.ts';
import { LOCK_FILE, loadConfig } from '../project/load.ts';

export interface LockOptions {
  /**
   * `true`: take this toolkit's parts and base and look for newer inputs. `'toolkit'`: take this toolkit's parts and
   * base as shipped; nothing is looked up. Default: keep a lock that is there.
   */
  update?: boolean | 'toolkit';
  /** Instead of this toolkit's own enclave program. */
  programPath?: string;
  onProgress?: OnProgress;
}

/** An input whose version or content differs; without `from` it is new, without `to` it is gone. */
export interface LockChange {
  name: string;
  from?: string;
  to?: string;
}

export interface LockResult {
  path: string;
  lock: Lock;
  changes: LockChange[];
  warnings: string[];
}

/**
 * Writes a project's lock, or leaves it as it is (see LockOptions). The file is only touched when something changes.
 * Throws `ERR_CONFIG_*`, `ERR_LOCK_*` (exit 2), `ERR_TOOLKIT_PROGRAM` (exit 5) and what resolveNewest throws.
 */
export async function lockProject(dir: string, options: LockOptions = {}): Promise<LockResult> {
  await loadConfig(dir);
  const path = join(resolve(dir), LOCK_FILE);
  const old = existsSync(path) ? await readLock(path) : null;
  if (old !== null && !options.update) return { path, lock: old, changes: [], warnings: [] };

  const { pin } = await loadToolkit(options.programPath);
  const shipped = await loadBase();
  const { base, unauthenticated } =
    options.update === true
      ? await resolveNewest(shipped, [...lockEntries(shipped), ...(old ? lockEntries(old) : [])], await Cache.open(), {
          dir: resolve(dir),
          onProgress: options.onProgress,
        })
      : { base: shipped, unauthenticated: [] };
  const lock: Lock = { ...base, timestamp: resolvedAt(base, shipped, old), toolkit: pin };
  const changes = compareLocks(old, lock);
  if (changes.length > 0) await writeFileAtomic(path, encodeLock(lock));
  const warnings = unauthenticated.map(
    (suite) =>
      `the package index of ${suite} was not checked against Debian's signature: gpgv or its keyring is missing`,
  );
  return { path, lock, changes, warnings };
}

/** Throws `ERR_LOCK_MISSING`, `ERR_LOCK_SYNTAX`, `ERR_LOCK_VALUE` (exit 2). */
export async function readLock(path: string): Promise<Lock> {
  try {
    return parseLock((await readSmallFile(path, 'lock', 4 << 20)).toString('utf8'), LOCK_FILE);
  } catch (error) {
    if (!(error instanceof AtomaError) || error.code !== 'ERR_FILE_NOT_FOUND') throw error;
    throw usageError('ERR_LOCK_MISSING', `expected the pinned inputs in ${path}, found no such file`, {
      hint: 'run `atoma-tee lock`, and commit the file',
    });
  }
}

/** The time of a lock changes only with its inputs, so that the same inputs build the same image. */
function resolvedAt(base: Base, shipped: Base, old: Lock | null): number {
  const inputs = (of: Base) => JSON.stringify([of.npm, of.deb]);
  if (inputs(base) === inputs(shipped)) return shipped.timestamp;
  if (old !== null && inputs(base) === inputs(old)) return old.timestamp;
  return Math.floor(Date.now() / 1000);
}

function compareLocks(old: Lock | null, lock: Lock): LockChange[] {
  const changes: LockChange[] = [];
  const [before, after] = [old ? lockEntries(old) : [], lockEntries(lock)];
  for (const entry of after) {
    const same = before.find((candidate) => candidate.name === entry.name);
    if (!same) changes.push({ name: entry.name, to: entry.version });
    else if (JSON.stringify(same) !== JSON.stringify(entry))
      changes.push({ name: entry.name, from: describe(same), to: describe(entry, same) });
  }
  for (const entry of before) {
    if (!after.some(({ name }) => name === entry.name)) changes.push({ name: entry.name, from: entry.version });
  }
  const [was, is] = [old?.toolkit, lock.toolkit];
  if (JSON.stringify(was) !== JSON.stringify(is)) {
    const text = (pin: Lock['toolkit']) =>
      `${pin.version} (init ${pin.init.slice(0, 12)}, program ${pin.program.slice(0, 12)})`;
    changes.push({ name: 'atoma-tee', ...(was ? { from: text(was) } : {}), to: text(is) });
  }
  if (old !== null && changes.length === 0 && old.timestamp !== lock.timestamp) {
    changes.push({ name: 'timestamp', from: String(old.timestamp), to: String(lock.timestamp) });
  }
  return changes;
}

/** The version; where that is the same, the pin that tells them apart. */
const describe = (entry: LockEntry, other?: LockEntry): string =>
  other?.version === entry.version ? `${entry.version} (other content or rules)` : entry.version;
