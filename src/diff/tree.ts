import { digestOf, type Node } from './nodes.ts';
import type { Change } from './types.ts';
import { firstDifference } from './view.ts';

/** One path at which two trees differ. */
export interface NodeDiff {
  path: string;
  a: Node | null;
  b: Node | null;
  changes: Change[];
}

export interface TreeDiff {
  nodes: NodeDiff[];
  /** The first place at which the common entries come in another order, by their names; null where the order is one. */
  order: { a: string; b: string; pathsA: string[]; pathsB: string[] } | null;
  /** Entries that have other inode, device or link numbers, and the first of them. */
  numbering: { count: number; first: [Node, Node] } | null;
  /** Entries whose headers differ in nothing that a file system shows. */
  raw: number;
}

/**
 * Compares two lists of entries path by path. What one side does not know is no difference. `ordered`: both lists are in the
 * order of what they were read from; measurements.json sorts its own.
 */
export function compareTrees(a: Node[], b: Node[], ordered: boolean): TreeDiff {
  const [left, right] = [keyed(a), keyed(b)];
  const nodes: NodeDiff[] = [];
  const numbered: [Node, Node][] = [];
  let raw = 0;
  for (const [key, x] of left) {
    const y = right.get(key);
    if (y === undefined) {
      nodes.push({ path: x.path, a: x, b: null, changes: [{ what: 'removed', a: summary(x), b: null }] });
      continue;
    }
    const changes = compareNodes(x, y);
    if (changes.length > 0) nodes.push({ path: x.path, a: x, b: y, changes });
    if (JSON.stringify(x.numbering) !== JSON.stringify(y.numbering) && x.numbering && y.numbering)
      numbered.push([x, y]);
    const headers = x.raw !== undefined && y.raw !== undefined;
    if (changes.length === 0 && headers && x.raw !== y.raw) raw++;
  }
  for (const [key, y] of right) {
    if (!left.has(key))
      nodes.push({ path: y.path, a: null, b: y, changes: [{ what: 'added', a: null, b: summary(y) }] });
  }
  const [first] = numbered;
  return {
    nodes: pairRenamed(nodes),
    order: ordered ? compareOrder([...left.keys()], [...right.keys()], left, right) : null,
    numbering: first ? { count: numbered.length, first } : null,
    raw,
  };
}

/** Another entry of one name replaces the first where the kernel unpacks it; both are compared, each with its like. */
function keyed(nodes: Node[]): Map<string, Node> {
  const map = new Map<string, Node>();
  const seen = new Map<string, number>();
  for (const node of nodes) {
    const times = (seen.get(node.path) ?? 0) + 1;
    seen.set(node.path, times);
    map.set(times === 1 ? node.path : `${node.path}\0${times}`, node);
  }
  return map;
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');
export const time = (seconds: number): string => new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
const owner = ({ uid, gid }: Node): string => `${uid}:${gid}`;

function summary(node: Node): string {
  const { type, mode, size, target } = node;
  const what = target === undefined ? (type === 'file' ? `${size} bytes` : '') : `to ${target}`;
  return [type, mode === undefined ? '' : octal(mode), what].filter((word) => word !== '').join(', ');
}

function compareNodes(x: Node, y: Node): Change[] {
  const changes: Change[] = [];
  const add = (what: Change['what'], a: string | undefined, b: string | undefined) => {
    if (a !== b) changes.push({ what, a: a ?? null, b: b ?? null });
  };
  add('type', x.type, y.type);
  if (x.type === y.type) {
    if (x.type === 'file' && !sameContent(x, y)) changes.push({ what: 'content', a: content(x), b: content(y) });
    add('target', x.target, y.target);
    add('device', x.device, y.device);
  }
  if (x.mode !== undefined && y.mode !== undefined) add('mode', octal(x.mode), octal(y.mode));
  if (x.uid !== undefined && y.uid !== undefined) add('owner', owner(x), owner(y));
  if (x.mtime !== undefined && y.mtime !== undefined) add('time', time(x.mtime), time(y.mtime));
  return changes;
}

function sameContent(x: Node, y: Node): boolean {
  if (x.size !== y.size) return false;
  if (x.data && y.data) return firstDifference(x.data, y.data) === -1;
  return digestOf(x) === digestOf(y);
}

const content = (node: Node): string => `${node.size} bytes, sha256 ${digestOf(node) ?? 'unknown'}`;

/** A file that is gone and one of the same content that has come are one that has another name. */
function pairRenamed(nodes: NodeDiff[]): NodeDiff[] {
  const candidates = nodes.filter(
    ({ a, b }) => (a === null || b === null) && (a ?? b)?.type === 'file' && (a ?? b)?.size,
  );
  const sizes = Map.groupBy(candidates, ({ a, b }) => (a ?? b)?.size);
  const paired = new Set<NodeDiff>();
  for (const group of sizes.values()) {
    if (group.every(({ a }) => a === null) || group.every(({ b }) => b === null) || group.length > 1000) continue;
    const left = new Map(group.flatMap((diff) => (diff.a ? [[digestOf(diff.a), diff] as const] : [])));
    for (const added of group) {
      const removed = added.b && left.get(digestOf(added.b));
      if (!removed || removed === added || !added.b || !removed.a || digestOf(added.b) === null) continue;
      left.delete(digestOf(added.b));
      const rest = compareNodes(removed.a, added.b);
      removed.changes = [{ what: 'renamed', a: removed.a.path, b: added.b.path }, ...rest];
      removed.b = added.b;
      paired.add(added);
    }
  }
  return nodes.filter((diff) => !paired.has(diff));
}

function compareOrder(a: string[], b: string[], left: Map<string, Node>, right: Map<string, Node>): TreeDiff['order'] {
  const [x, y] = [a.filter((key) => right.has(key)), b.filter((key) => left.has(key))];
  const at = x.findIndex((key, i) => key !== y[i]);
  if (at === -1) return null;
  const name = (key: string | undefined) => (key ?? '').replace(/\0.*/, '');
  return { a: name(x[at]), b: name(y[at]), pathsA: a.map(name), pathsB: b.map(name) };
}
