import { missingError } from '../core/errors.ts';
import type { Cache } from './cache.ts';
import { type DebIndex, fetchDebIndex, type IndexOptions, newestPackage } from './deb-index.ts';
import type { FetchOptions } from './fetch.ts';
import { unpackEntry } from './inputs.ts';
import { type Base, entryName, type LockEntry, lockEntries } from './lock-file.ts';
import { npmNewest } from './npm.ts';
import { treeDigest } from './tree.ts';

export interface Resolved {
  base: Base;
  /** Suites whose index could not be checked against Debian's signature here. */
  unauthenticated: string[];
}

/**
 * Looks for the newest version that each entry allows. An entry whose package is unchanged keeps its `tree`; of a new
 * package it is computed, which fetches it. `known` lists entries that were resolved before, to save that.
 * Throws `ERR_INPUT_GONE`, `ERR_INPUT_FETCH`, `ERR_MIRROR_*`.
 */
export async function resolveNewest(
  base: Base,
  known: LockEntry[],
  cache: Cache,
  options: FetchOptions & IndexOptions,
): Promise<Resolved> {
  const indexes = new Map<string, DebIndex>();
  // One after the other: the xz library would make them wait for each other.
  for (const suite of new Set(base.deb.map((entry) => entry.suite))) {
    options.onProgress?.({ phase: `reading the index of ${suite}`, done: 0 });
    indexes.set(suite, await fetchDebIndex(suite, cache, options));
  }
  const resolved: Base = { ...base, npm: [], deb: [] };
  for (const entry of lockEntries(base)) {
    const newest =
      entry.kind === 'npm' ? { ...entry, ...(await npmNewest(entry, options)) } : newestDeb(entry, indexes);
    const same = known.find((old) => sameFiles(old, newest));
    const { kind, ...fields } = newest;
    const tree = same?.tree ?? treeDigest(await unpackEntry(newest, cache, { ...options, offline: false }));
    if (kind === 'npm') resolved.npm.push({ ...(fields as Base['npm'][number]), tree });
    else resolved.deb.push({ ...(fields as Base['deb'][number]), tree });
  }
  const unauthenticated = [...indexes].filter(([, index]) => !index.authenticated).map(([suite]) => suite);
  return { base: resolved, unauthenticated };
}

function newestDeb(entry: Extract<LockEntry, { kind: 'deb' }>, indexes: Map<string, DebIndex>): LockEntry {
  const index = indexes.get(entry.suite);
  const found = index ? newestPackage(index, entry.allow ?? entry.name) : null;
  if (found === null) {
    throw missingError('ERR_INPUT_GONE', `${entry.suite} has no package ${entry.allow ?? entry.name} any more`, {
      hint: 'a newer toolkit may name another one',
      details: { input: entryName(entry) },
    });
  }
  return { ...entry, ...found };
}

/** The same package under the same rules keeps the same files. */
const sameFiles = (a: LockEntry, b: LockEntry): boolean =>
  JSON.stringify(a.keep) === JSON.stringify(b.keep) &&
  (a.kind === 'npm' ? b.kind === 'npm' && a.integrity === b.integrity : b.kind === 'deb' && a.sha256 === b.sha256);
