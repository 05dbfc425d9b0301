import { badEntry } from './layer-errors.ts';

const PREFIX = '.wh.';
const OPAQUE = '.wh..wh..opq';
const METADATA = '.wh..wh.';

/** What an entry's name means to a layer (OCI image specification, layer.md, "Whiteouts"). */
export type Meaning =
  | { kind: 'plain' }
  /** Removes what lower layers have at `path`. */
  | { kind: 'whiteout'; path: string }
  /** Removes everything that lower layers have in the directory `path` ('' is the root). */
  | { kind: 'opaque'; path: string }
  /** Book-keeping of AUFS, the file system of early Docker; means nothing here. */
  | { kind: 'metadata' };

/**
 * Reads the name of an entry, in the form of `layerPath`. A whiteout must be an empty file, or a hard link: on AUFS they all
 * were one file, and that is how old images hold them.
 * Throws `ERR_LAYER_ENTRY` (exit 2) for whiteouts of nothing, of "." and "..", of another type, and for entries below one.
 */
export function meaningOf(path: string, type: string, size: number, what: string): Meaning {
  if (!path.includes(PREFIX)) return { kind: 'plain' };
  const parts = path.split('/');
  const name = parts.pop() ?? '';
  if (parts.some((part) => part.startsWith(METADATA))) return { kind: 'metadata' };
  if (parts.some((part) => part.startsWith(PREFIX))) throw badEntry(what, path, 'lies below a whiteout');
  if (!name.startsWith(PREFIX)) return { kind: 'plain' };
  if (name !== OPAQUE && name.startsWith(METADATA)) return { kind: 'metadata' };
  if ((type !== 'file' && type !== 'link') || size !== 0)
    throw badEntry(what, path, 'is a whiteout, but no empty file');
  if (name === OPAQUE) return { kind: 'opaque', path: parts.join('/') };
  const hidden = name.slice(PREFIX.length);
  if (hidden === '' || hidden === '.' || hidden === '..')
    throw badEntry(what, path, 'is a whiteout that names nothing inside its directory');
  return { kind: 'whiteout', path: [...parts, hidden].join('/') };
}
