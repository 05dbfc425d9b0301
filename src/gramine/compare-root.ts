import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { type HashOptions, hashTrustedFiles } from './hash-pool.ts';
import { gramineNames, ROOT, rootUri } from './image-manifest.ts';
import type { ManifestTable } from './toml.ts';

/** How the root on the disk differs from the one that a manifest measures. Paths are inside the root. */
export interface RootDifferences {
  trusted: number;
  missing: string[];
  /** Other bytes, no regular file, or behind what is no directory any more. */
  changed: string[];
  /** Files and links that the manifest does not trust: Gramine opens none of them. */
  extra: string[];
  /** URIs of trusted files that are elsewhere. */
  outside: string[];
}

/** More entries than this are nobody's image. */
const MAX_ENTRIES = 1_000_000;

/**
 * Compares every file of an image's root with the digests of its manifest, on all cores. Links are not followed, not even
 * those that directories have become: what is behind them may be something else tomorrow. Never stops at the first difference.
 */
export async function compareRoot(
  image: { name: string; directory: string; table: ManifestTable },
  options: HashOptions = {},
): Promise<RootDifferences> {
  const prefix = `${rootUri(image.name)}/`;
  const own = join(image.directory, gramineNames(image.name).directory);
  const root = join(own, ROOT);
  const replaced = [own, root].some((path) => kindOf(path) === 'another');
  const found = [own, root].every((path) => kindOf(path) === 'directory')
    ? walk(root)
    : new Map<string, number | null>();
  const others = new Set<string>();
  const result: RootDifferences = { trusted: 0, missing: [], changed: [], extra: [], outside: [] };
  const files: { path: string; sha256: string; size: number }[] = [];
  for (const { uri, sha256 } of trustedFiles(image.table)) {
    result.trusted++;
    const path = uri.slice(prefix.length);
    const size = uri.startsWith(prefix) ? found.get(path) : undefined;
    found.delete(path);
    const parent = size === undefined ? parents(path).find((above) => found.has(above)) : undefined;
    if (parent !== undefined) others.add(parent);
    if (!uri.startsWith(prefix)) result.outside.push(uri);
    else if (size === undefined && parent === undefined && !replaced) result.missing.push(path);
    else if (size === undefined || size === null) result.changed.push(path);
    else files.push({ path, sha256, size });
  }
  const digests = await hashTrustedFiles(
    files.map(({ path, size }) => ({ path: join(root, path), size })),
    options,
  );
  result.changed.push(...files.flatMap(({ path, sha256 }, i) => (digests[i] === sha256 ? [] : [path])));
  result.extra.push(...[...found.keys()].filter((path) => !others.has(path)));
  return result;
}

const kindOf = (path: string): 'directory' | 'another' | 'missing' => {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return 'missing';
  return found.isDirectory() ? 'directory' : 'another';
};

/** "a" and "a/b" of "a/b/c": where one of them is no directory any more, it stands in the place of the file. */
const parents = (path: string): string[] =>
  [...path.matchAll(/\//g)].map(({ index }) => path.slice(0, index)).filter((above) => above !== '');

function list(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    throw ioError(error, `cannot read ${directory}`);
  }
}

/** Sizes of the regular files below a directory, null for what is neither file nor directory. */
function walk(root: string): Map<string, number | null> {
  const found = new Map<string, number | null>();
  const left = [''];
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    for (const entry of list(join(root, at))) {
      const path = at === '' ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory()) left.push(path);
      else
        found.set(path, entry.isFile() ? (lstatSync(join(root, path), { throwIfNoEntry: false })?.size ?? null) : null);
    }
    if (found.size + left.length > MAX_ENTRIES) {
      throw usageError('ERR_FILE_TOO_LARGE', `${root}: expected at most ${MAX_ENTRIES} files, found more`);
    }
  }
  return found;
}

function trustedFiles({ sgx }: ManifestTable): { uri: string; sha256: string }[] {
  const entries = (sgx as ManifestTable | undefined)?.trusted_files;
  return (Array.isArray(entries) ? entries : []).map((entry) => {
    const { uri, sha256 } = (entry ?? {}) as Record<string, unknown>;
    if (typeof uri === 'string' && typeof sha256 === 'string') return { uri, sha256 };
    throw usageError('ERR_GRAMINE_VALUE', 'sgx.trusted_files: expected entries with uri and sha256, found another');
  });
}
