import { compareBytewise, type ImageEntry, type LeftOut } from './flatten-types.ts';
import { badEntry, tooMuch } from './layer-errors.ts';
import { MAX_PATH, pathFlaw } from './layer-names.ts';
import type { Dir, Leaf } from './tree.ts';

/** Directories keep setgid (group inheritance) and sticky; setuid means nothing on them. */
const DIR_MODE = 0o3777;
/** Of set-id and sticky bits on files only set-id ever meant something. */
const FILE_MODE = 0o777;
const SETID = 0o6000;

/**
 * Lists a merged tree by the policies of `flattenImage`, in bytewise order. Of several names of a file the first is the file.
 * Throws `ERR_LAYER_TOO_LARGE`, `ERR_LAYER_ENTRY` (exit 2).
 */
export function listTree(root: Dir, limit: number): { entries: ImageEntry[]; leftOut: Omit<LeftOut, 'metadata'> } {
  const leftOut = { special: 0, xattrs: 0, setid: 0 };
  const first = new Map<Leaf, string>();
  const entries: ImageEntry[] = [];
  for (const { path, node } of inOrder(root, '')) {
    if (node.type === 'device') {
      leftOut.special++;
      continue;
    }
    const known = node.type === 'file' ? first.get(node) : undefined;
    if (entries.length === limit) throw tooMuch('the image', `has more than ${limit} entries`);
    entries.push(known === undefined ? entryOf(path, node) : { ...owner(path, node), type: 'link', target: known });
    if (known !== undefined) continue;
    if (node.type === 'file') first.set(node, path);
    if (node.xattrs) leftOut.xattrs++;
    if (node.type === 'file' && (node.mode & SETID) !== 0) leftOut.setid++;
  }
  return { entries, leftOut };
}

/** A directory comes where its name sorts, what is in it where the name and a "/" do: "a", "a-b", "a/c". */
function* inOrder(dir: Dir, prefix: string): Generator<{ path: string; node: Dir | Leaf }> {
  const names = [...dir.children.keys()];
  const below = names.filter((name) => dir.children.get(name)?.node.type === 'dir').map((name) => `${name}/`);
  for (const key of [...names, ...below].sort(compareBytewise)) {
    const inside = key.endsWith('/');
    const name = inside ? key.slice(0, -1) : key;
    const node = dir.children.get(name)?.node;
    if (node === undefined) continue;
    if (inside && node.type === 'dir') yield* inOrder(node, prefix + key);
    else yield { path: checked(prefix + name), node };
  }
}

/** Through symlinks a name can have become longer than any name in the layers. */
function checked(path: string): string {
  if (path.length * 3 <= MAX_PATH) return path;
  const flaw = pathFlaw(path.split('/'));
  if (flaw !== null) throw badEntry('the image', path, flaw);
  return path;
}

const owner = (path: string, { mode, uid, gid }: Dir | Leaf) => ({ path, mode: mode & FILE_MODE, uid, gid, size: 0 });

function entryOf(path: string, node: Dir | Leaf): ImageEntry {
  const common = owner(path, node);
  if (node.type === 'dir') return { ...common, type: 'dir', mode: node.mode & DIR_MODE };
  if (node.type === 'symlink') return { ...common, type: 'symlink', mode: 0o777, target: node.target ?? '' };
  const { size, sha256 = '', layer = 0, offset } = node;
  return { ...common, type: 'file', size, sha256, layer, offset };
}
