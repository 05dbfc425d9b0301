import { missingError, negativeError } from '../core/errors.ts';
import { type Cache, CacheCorruption, type TreePin } from './cache.ts';
import { entryDigest, type FetchOptions, fetchArchive } from './fetch.ts';
import { entryName, type LockEntry } from './lock-file.ts';
import { encodeTree, type TreeFile, treeDigest } from './tree.ts';
import { unpackInPool } from './unpack-pool.ts';

export interface InputOptions extends Omit<FetchOptions, 'signal'> {
  /** Use the cache only. */
  offline: boolean;
}

/** A damaged cache is mended this often before the disk is to blame. */
const MENDS = 3;

/**
 * Sees to it that the kept files of every entry are in the cache, fetching and unpacking in parallel where they are
 * not, and returns them all. File contents are compared with their digests when they are read, so wrap the use in
 * `mending`.
 *
 * Throws `ERR_OFFLINE_MISSING` (exit 5), `ERR_INPUT_TREE` (exit 3), and what fetchArchive and unpack throw.
 */
export async function provideInputs(entries: LockEntry[], cache: Cache, options: InputOptions): Promise<TreeFile[]> {
  // The first failure stops the other downloads; it is the one to report.
  const abort = new AbortController();
  const failures: unknown[] = [];
  const lists = await Promise.all(
    entries.map(async (entry) => {
      try {
        return await provide(entry, cache, options, abort.signal);
      } catch (error) {
        abort.abort();
        failures.push(error);
        return [];
      }
    }),
  );
  // Only when nobody writes into the cache any more: whoever made it for this alone removes it.
  if (failures.length > 0) throw failures[0];
  return lists.flat();
}

export const treePin = (entry: LockEntry): TreePin => ({
  archive: entryDigest(entry),
  keep: entry.keep,
  tree: entry.tree,
});

async function provide(entry: LockEntry, cache: Cache, options: InputOptions, signal: AbortSignal) {
  const pin = treePin(entry);
  const known = await cache.tree(pin);
  if (known !== null) return known;
  const files = await unpackEntry(entry, cache, { ...options, signal });
  const found = treeDigest(files);
  if (found !== entry.tree) {
    throw negativeError(
      'ERR_INPUT_TREE',
      `the files kept of ${entryName(entry)} are not those that the lock pins: expected ${entry.tree}, found ${found}`,
      {
        hint: 'its rules in the lock were edited, or this toolkit unpacks differently: `atoma-tee lock --update` pins anew',
        details: { input: entryName(entry) },
      },
    );
  }
  await cache.addTree(pin, encodeTree(files));
  return files;
}

/** Takes the kept files out of an entry's package, from the cache or fetched now, whatever the entry's `tree` says. */
export async function unpackEntry(
  entry: LockEntry,
  cache: Cache,
  options: InputOptions & { signal?: AbortSignal },
): Promise<TreeFile[]> {
  const digest = entryDigest(entry);
  let archive = await cache.archive(digest);
  if (archive === null && options.offline) throw offlineMissing(entry);
  archive ??= await fetchArchive(entry, cache, options);
  const { kind, keep } = entry;
  const job = { kind, archive, keep, what: entryName(entry), cacheDir: cache.dir, licence: cache.licencePath(digest) };
  return unpackInPool(job);
}

export function offlineMissing(entry: LockEntry) {
  const { algorithm, hex } = entryDigest(entry);
  return missingError(
    'ERR_OFFLINE_MISSING',
    `${entryName(entry)} is not in the cache, and --offline forbids fetching`,
    {
      hint: 'run `atoma-tee build` once without --offline',
      details: { input: entryName(entry), digest: `${algorithm}:${hex}` },
    },
  );
}

/**
 * Runs `use`; when a cached file turns out to be damaged, removes it and runs `use` again, which provides it anew from
 * the package. Throws `ERR_CACHE_DAMAGED` (exit 3) if that does not end.
 */
export async function mending<T>(cache: Cache, use: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await use();
    } catch (error) {
      if (!(error instanceof CacheCorruption)) throw error;
      await cache.evict(error);
      if (attempt === MENDS) {
        throw negativeError('ERR_CACHE_DAMAGED', `${cache.dir} keeps returning other bytes than were written to it`, {
          cause: error,
          hint: 'check the disk, or move the cache with XDG_CACHE_HOME',
        });
      }
    }
  }
}
