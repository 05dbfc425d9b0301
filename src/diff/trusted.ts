import { lstatSync, realpathSync } from 'node:fs';
import { join, sep } from 'node:path';
import type { ManifestTable } from '../gramine/toml.ts';
import { type Node, sha256View } from './nodes.ts';
import { openView, type View } from './view.ts';

const MAX_FILE = 4 * 2 ** 30;

/**
 * The trusted files of a manifest, in its order. A file's bytes are looked for only when somebody asks for them, below the
 * directory that URIs are relative to, and given only where they are those that the manifest measures: whoever wrote a
 * manifest does not choose what of this machine is shown.
 */
export function trustedNodes({ sgx }: ManifestTable, directory: string): Node[] {
  const entries = (sgx as ManifestTable | undefined)?.trusted_files;
  return (Array.isArray(entries) ? entries : []).map((entry) => {
    const { uri, sha256 } = (typeof entry === 'string' ? { uri: entry } : (entry ?? {})) as Record<string, unknown>;
    return trustedNode(String(uri), typeof sha256 === 'string' ? sha256 : undefined, directory);
  });
}

function trustedNode(uri: string, sha256: string | undefined, directory: string): Node {
  let view: View | null | undefined;
  const path = uri.startsWith('file:') ? uri.slice(5) : '';
  return {
    path: uri,
    type: 'file',
    // A manifest does not say how long a file is.
    size: 0,
    ...(sha256 === undefined ? {} : { sha256 }),
    get data() {
      if (sha256 === undefined) return undefined;
      view ??= measuredFile(directory, path, sha256);
      return view ?? undefined;
    },
  } as Node;
}

/** Null for a file that is elsewhere, or not the measured one. */
function measuredFile(directory: string, path: string, sha256: string): View | null {
  if (path === '' || path.startsWith('/') || path.split('/').includes('..')) return null;
  try {
    const file = realpathSync(join(directory, path));
    const stat = lstatSync(file);
    if (!file.startsWith(`${realpathSync(directory)}${sep}`) || !stat.isFile() || stat.size > MAX_FILE) return null;
    const view = reopened(file, stat.size);
    return sha256View(view) === sha256 ? view : null;
  } catch {
    return null;
  }
}

/** Opens the file anew for each piece: an image has more files than a process may have open. */
const reopened = (path: string, size: number): View => ({
  size,
  read(target, offset) {
    const view = openView(path);
    try {
      view.read(target, offset);
    } finally {
      view.close();
    }
  },
});
