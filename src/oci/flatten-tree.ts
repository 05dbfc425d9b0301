import { compareBytewise, type ImageEntry, type LeftOut } from './flatten-types.ts';
import { badEntry } from './layer-errors.ts';
import { pathFlaw } from './layer-names.ts';
import type { Dir, Leaf } from './tree.ts';

/** Directories keep setgid (group inheritance) and sticky; setuid means nothing on them. */
const DIR_MODE = 0o3777;
/** Of set-id and sticky bits on files only set-id ever meant something. */
const FILE_MODE = 0o777;
const SETID = 0o6000;

/** Lists a merged tree by the policies of `flattenImage`. Of several names of a file the bytewise first is the file. */
export function listTree(root: Dir): { entries: ImageEntry[]; leftOut: Omit<LeftOut, 'metadata'> } {
  const found: { path: string; node: Dir | Leaf }[] = [];
  walk(root, '', found);
  found.sort((a, b) => compareBytewise(a.path, b.path));
  const leftOut = { special: 0, xattrs: 0, setid: 0 };
  const first = new Map<Leaf, string>();
  const entries: ImageEntry[] = [];
  for (const { path, node } of found) {
    const flaw = pathFlaw(path.split('/'));
    if (flaw !== null) throw badEntry('the image', path, flaw);
    const known = node.kind === 'file' ? first.get(node) : undefined;
    if (node.kind === 'file' && known === undefined) first.set(node, path);
    if (node.kind === 'device') leftOut.special++;
    else
      entries.push(known === undefined ? entryOf(path, node) : { ...owner(path, node), type: 'link', target: known });
    if (known !== undefined || node.kind === 'device') continue;
    if (node.xattrs) leftOut.xattrs++;
    if (node.kind === 'file' && (node.mode & SETID) !== 0) leftOut.setid++;
  }
  return { entries, leftOut };
}

function walk(dir: Dir, prefix: string, found: { path: string; node: Dir | Leaf }[]): void {
  for (const [name, { node }] of dir.children) {
    const path = prefix + name;
    found.push({ path, node });
    if (node.kind === 'dir') walk(node, `${path}/`, found);
  }
}

const owner = (path: string, { mode, uid, gid }: Dir | Leaf) => ({ path, mode: mode & FILE_MODE, uid, gid, size: 0 });

function entryOf(path: string, node: Dir | Leaf): ImageEntry {
  const common = owner(path, node);
  if (node.kind === 'dir') return { ...common, type: 'dir', mode: node.mode & DIR_MODE };
  if (node.kind === 'symlink') return { ...common, type: 'symlink', mode: 0o777, target: node.target };
  const { size, sha256, layer, offset } = node;
  return { ...common, type: 'file', size, sha256, layer, offset };
}
