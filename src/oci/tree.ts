import { NAME_MAX } from '../image/cpio-format.ts';
import { badEntry, badLink, tooMuch } from './layer-errors.ts';
import type { LayerMember } from './layer-index.ts';

/**
 * What the names of a file share; several names are hard links. It is the entry that the file came from. A 'device' is a place
 * holder: it hides what was there.
 */
export interface Leaf extends LayerMember {
  type: 'file' | 'symlink' | 'device';
}

export interface Dir {
  type: 'dir';
  mode: number;
  uid: number;
  gid: number;
  xattrs: boolean;
  children: Map<string, Name>;
  /** The last layer for which nothing of lower layers can be left in it. */
  cleared: number;
}

/** A name in a directory, and the last layer that spoke of it. */
export interface Name {
  node: Dir | Leaf;
  layer: number;
}

/** Components walked for one name, those of links included. Linux gives up after 40 links; a hostile one is long as well. */
const MAX_STEPS = 1024;
const MAX_LINKS = 40;
/** A name may lie deeper than it is long, through links; recursion and the paths of the ramdisk are bounded by this. */
const MAX_DEPTH = 128;

const directory = (): Dir => ({
  type: 'dir',
  mode: 0o755,
  uid: 0,
  gid: 0,
  xattrs: false,
  children: new Map(),
  cleared: -1,
});

/**
 * The file system that the layers of an image make, laid one over the other (OCI image specification, layer.md, "Applying
 * Changesets"). Entries act in the order of their tar, as if they were unpacked, with these rules:
 *
 * - whiteouts and opaque directories hide what lower layers have, never what this layer has, wherever in the tar they are;
 * - a directory over a directory changes its mode and owner only; any other entry replaces what has its name, a
 *   directory with all that is in it, a symlink itself and never what it names;
 * - a name below a symlink goes where the link leads inside the root, as containerd and umoci have it (`lib` -> `usr/lib` and
 *   a later layer's `lib/x`); ".." and absolute targets never leave the root;
 * - missing parent directories are made, 0755 and root's;
 * - a hard link names a file that is there already, in this layer or a lower one, and sets its mode and owner; replacing
 *   that file later leaves the link its content;
 * - the root itself is 0755 and root's whatever the layers say.
 *
 * Throws `ERR_LAYER_ENTRY`, `ERR_LAYER_LINK`, `ERR_LAYER_TOO_LARGE` (exit 2).
 */
export class LayerTree {
  readonly root: Dir = directory();
  readonly #limit: number;
  #made = 0;
  #layer = -1;
  #what = '';

  /** `limit`: how many directories that no layer has may be made. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Layers must come in order, the base first. `what` is for people: "layer 3". */
  apply(members: Iterable<LayerMember>, what: string): void {
    this.#layer++;
    this.#what = what;
    for (const member of members) this.#member(member);
  }

  #member(member: LayerMember): void {
    const { path, type } = member;
    if (type === 'opaque') {
      const dir = this.#directory(path === '' ? [] : path.split('/'), path, false);
      if (dir !== null) this.#clear(dir);
      return;
    }
    // The root.
    if (path === '') return;
    const parts = path.split('/');
    const name = parts.pop() ?? '';
    const parent = this.#directory(parts, path, type !== 'whiteout');
    if (parent === null) return;
    if (type === 'whiteout') this.#hide(parent, name);
    else if (type === 'dir') this.#putDirectory(parent, name, member);
    else
      parent.children.set(name, {
        node:
          type === 'link' ? this.#linked(member, parent, name) : Object.assign(member as Leaf, { layer: this.#layer }),
        layer: this.#layer,
      });
  }

  #putDirectory(parent: Dir, name: string, { mode, uid, gid, xattrs }: LayerMember): void {
    const there = parent.children.get(name)?.node;
    const node = there?.type === 'dir' ? there : directory();
    Object.assign(node, { mode, uid, gid, xattrs });
    parent.children.set(name, { node, layer: this.#layer });
  }

  #linked({ path, target = '', mode, uid, gid }: LayerMember, parent: Dir, name: string): Leaf {
    const parts = target.split('/');
    const targetName = parts.pop() ?? '';
    const holder = this.#directory(parts, path, false);
    const node = holder?.children.get(targetName)?.node;
    if (node === undefined) throw badLink(this.#what, path, `is a hard link to "${target}", which is not there`);
    if (node.type === 'dir') throw badLink(this.#what, path, `is a hard link to the directory "${target}"`);
    if (holder === parent && targetName === name) throw badLink(this.#what, path, 'is a hard link to itself');
    return Object.assign(node, { mode, uid, gid });
  }

  /** The directory that a path leads to, through symlinks, made if need be; null where it is not there and not to be made. */
  #directory(parts: string[], path: string, make: boolean): Dir | null {
    const at: Dir[] = [this.root];
    const rest = parts.toReversed();
    let links = 0;
    for (let steps = 0; rest.length > 0; steps++) {
      if (steps > MAX_STEPS) throw badLink(this.#what, path, 'leads through too many links');
      const part = rest.pop() ?? '';
      if (part === '' || part === '.') continue;
      if (part === '..') {
        if (at.length > 1) at.pop();
        continue;
      }
      const here = at.at(-1) ?? this.root;
      let node = here.children.get(part)?.node;
      if (node === undefined) {
        if (!make) return null;
        // It can be a link's target that names it.
        if (Buffer.byteLength(part) > NAME_MAX) throw badEntry(this.#what, path, 'leads to a name that is too long');
        if (++this.#made > this.#limit) throw tooMuch(this.#what, `takes the image beyond ${this.#limit} directories`);
        node = directory();
        here.children.set(part, { node, layer: this.#layer });
      }
      if (node.type === 'dir') {
        at.push(node);
        if (at.length > MAX_DEPTH) throw badEntry(this.#what, path, `lies more than ${MAX_DEPTH} directories deep`);
      } else if (node.type === 'symlink') {
        const { target = '' } = node;
        if (++links > MAX_LINKS) throw badLink(this.#what, path, 'leads through too many links');
        // So that reading long targets again and again costs too.
        steps += target.length >> 3;
        if (target.startsWith('/')) at.length = 1;
        rest.push(...target.split('/').reverse());
      } else if (!make) return null;
      else throw badEntry(this.#what, path, `lies below "${part}", which is no directory`);
    }
    return at.at(-1) ?? null;
  }

  /** Takes away what lower layers have at a name. */
  #hide(parent: Dir, name: string): void {
    const there = parent.children.get(name);
    if (there === undefined) return;
    if (there.node.type === 'dir') {
      this.#clear(there.node);
      if (there.layer === this.#layer) return;
      if (there.node.children.size > 0) {
        // This layer has files in it and has not spoken of the directory itself.
        Object.assign(there.node, { mode: 0o755, uid: 0, gid: 0, xattrs: false });
        there.layer = this.#layer;
        return;
      }
    } else if (there.layer === this.#layer) return;
    parent.children.delete(name);
  }

  /** Takes away what lower layers have in a directory. Once for each layer: nothing of theirs can come back. */
  #clear(dir: Dir): void {
    if (dir.cleared === this.#layer) return;
    dir.cleared = this.#layer;
    for (const name of dir.children.keys()) this.#hide(dir, name);
  }
}
