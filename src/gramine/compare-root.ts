import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { type HashOptions, hashTrustedFiles } from './hash-pool.ts';
import { gramineNames, ROOT, rootUri } from './image-manifest.ts';
import type { ManifestTable } from './toml.ts';

/** How the root on the disk differs from the one that a manifest measures. Paths are inside the root. */
export interface RootDifferences {
  trusted: number;
  missing: string[];
  /** Other bytes, or no regular file. */
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
  const found = [own, root].every(isDirectory) ? walk(root) : new Map<string, number | null>();
  const result: RootDifferences = { trusted: 0, missing: [], changed: [], extra: [], outside: [] };
  const files: { path: string; sha256: string; size: number }[] = [];
  for (const { uri, sha256 } of trustedFiles(image.table)) {
    result.trusted++;
    const path = uri.slice(prefix.length);
    const size = uri.startsWith(prefix) ? found.get(path) : undefined;
    found.delete(path);
    if (!uri.startsWith(prefix)) result.outside.push(uri);
    else if (size === undefined) result.missing.push(path);
    else if (size === null) result.changed.push(path);
    else files.push({ path, sha256, size });
  }
  const digests = await hashTrustedFiles(
    files.map(({ path, size }) => ({ path: join(root, path), size })),
    options,
  );
  result.changed.push(...files.flatMap(({ path, sha256 }, i) => (digests[i] === sha256 ? [] : [path])));
  result.extra.push(...found.keys());
  return result;
}

const isDirectory = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** Sizes of the regular files below a directory, null for what is neither file nor directory. */
function walk(root: string): Map<string, number | null> {
  const found = new Map<string, number | null>();
  const left = [''];
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    for (const entry of readdirSync(join(root, at), { withFileTypes: true })) {
      const path = at === '' ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory()) left.push(path);
      else found.set(path, entry.isFile() ? lstatSync(join(root, path)).size : null);
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
