import { blame, count, finishGroups } from './blame.ts';
import { gzipCause, sameBytes } from './clues.ts';
import { contextOf } from './context.ts';
import type { Compression } from './decompress.ts';
import { fileCauses, type Surroundings } from './file-causes.ts';
import type { Node } from './nodes.ts';
import { indexPackages } from './packages.ts';
import type { Detail } from './part.ts';
import { numberingCause, orderCause } from './part-causes.ts';
import { type OpenedPart, openArchive, type PartSource } from './part-source.ts';
import { compareTrees, type NodeDiff, type TreeDiff } from './tree.ts';
import type { Change, ItemDiff, PartDiff } from './types.ts';
import { firstDifference, readSome } from './view.ts';

/** Compares two ramdisks that are known to differ: what is around the archive, then the archive, entry by entry. */
export async function compareRamdisks(
  part: PartDiff,
  a: PartSource,
  b: PartSource,
  around: Surroundings,
  detail: Detail,
): Promise<PartDiff> {
  const x = await openArchive(a);
  try {
    const y = await openArchive(b);
    try {
      await compareOpened(part, x, y, [a, b], around, detail);
    } finally {
      y.close();
    }
  } finally {
    x.close();
  }
  return part;
}

async function compareOpened(
  part: PartDiff,
  x: OpenedPart,
  y: OpenedPart,
  [a, b]: [PartSource, PartSource],
  around: Surroundings,
  detail: Detail,
): Promise<void> {
  part.problems.push(...x.problems.map((text) => `A: ${text}`), ...y.problems.map((text) => `B: ${text}`));
  if (part.a && x.index) part.a.entries = x.index.nodes.length;
  if (part.b && y.index) part.b.entries = y.index.nodes.length;
  // What could not be read may be what differs.
  const same = part.problems.length === 0 && x.view !== undefined && y.view !== undefined && sameBytes(x.view, y.view);
  // A list says nothing of what was around the archive, nor of how it was written.
  const bytes = a.view !== undefined && b.view !== undefined;
  if (bytes && (x.compression || y.compression)) compareCompression(part, [x.compression, y.compression], [a, b], same);
  if (same) return;
  if (x.index && y.index && (x.index.nodes.length > 0 || y.index.nodes.length > 0)) {
    const tree = compareTrees(x.index.nodes, y.index.nodes, bytes);
    await compareFiles(part, tree, [x.index.nodes, y.index.nodes], around, detail);
    wholeArchive(part, tree);
  }
  if (part.items.length + part.causes.length > 0) return;
  const packed = part.problems.length > 0 && a.view && b.view ? [a.view, b.view] : [];
  const [p, q] = x.view && y.view && !sameBytes(x.view, y.view) ? [x.view, y.view] : packed;
  part.context = (p && q ? await contextOf(p, q) : undefined) ?? undefined;
  if (part.context && part.problems.length === 0) {
    part.changes.push({ what: 'framing', a: null, b: null });
    const reason =
      'the entries are the same: padding, or the way in which numbers are written; another program wrote it';
    blame(part, { id: 'cpio-writer', reason });
  } else {
    const readable = part.problems.length === 0;
    const reason =
      readable && x.index && y.index
        ? 'the lists of files are the same: what differs is in no list (times, order, how it is written)'
        : readable && !bytes
          ? 'one side has neither the bytes nor a list of the files'
          : 'the parts differ where they could not be taken apart';
    blame(part, { id: 'unknown', reason });
  }
}

function compareCompression(
  part: PartDiff,
  [x, y]: [Compression | null, Compression | null],
  [a, b]: [PartSource, PartSource],
  same: boolean,
): void {
  const [p, q] = [said(x), said(y)];
  if (p !== q || same) part.changes.push({ what: 'compression', a: p, b: q });
  if (!same) return;
  if (x?.name === 'gzip' && y?.name === 'gzip' && a.view && b.view) {
    blame(part, gzipCause(readSome(a.view, 0, 512), readSome(b.view, 0, 512)));
  } else {
    blame(part, { id: 'compressor', reason: `both hold the same bytes: ${p} in A, ${q} in B` });
  }
}

function said(compression: Compression | null): string {
  if (compression === null) return 'not compressed';
  const notes = compression.notes.map(({ what, value }) => `${what} ${value}`);
  return [compression.name, ...notes].join(', ');
}

/** What is not any one file's. */
function wholeArchive(part: PartDiff, tree: TreeDiff): void {
  if (tree.order) {
    part.changes.push({ what: 'order', a: tree.order.a, b: tree.order.b });
    blame(part, orderCause(tree.order));
  }
  if (tree.numbering) {
    const [x, y] = tree.numbering.first;
    part.changes.push({ what: 'numbering', a: numbers(x, tree.numbering.count), b: numbers(y, tree.numbering.count) });
    blame(part, numberingCause(tree));
  }
  if (tree.raw > 0) {
    part.changes.push({ what: 'framing', a: `${tree.raw} entries`, b: `${tree.raw} entries` });
    blame(part, {
      id: 'cpio-writer',
      reason: 'names are written otherwise ("./a" and "a"), or another kind of header',
    });
  }
}

const numbers = ({ path, numbering }: Node, count: number): string =>
  `${count} entries; ${path}: inode ${numbering?.inode}, links ${numbering?.links}, device ${numbering?.device}`;

/** What a reader wants to see first: contents, then permissions, then times. */
const RANK: Change['what'][] = [
  'content',
  'type',
  'target',
  'device',
  'value',
  'removed',
  'added',
  'renamed',
  'mode',
  'owner',
];
const rank = ({ changes }: { changes: Change[] }): number => {
  const ranks = changes.map(({ what }) => RANK.indexOf(what)).filter((at) => at !== -1);
  return ranks.length === 0 ? RANK.length : Math.min(...ranks);
};

async function compareFiles(
  part: PartDiff,
  tree: TreeDiff,
  [a, b]: [Node[], Node[]],
  around: Surroundings,
  detail: Detail,
): Promise<void> {
  const withPackages = tree.nodes.some(({ changes }) => changes.some(({ what }) => what !== 'time' && what !== 'mode'));
  const surroundings = withPackages
    ? { ...around, packagesA: indexPackages(a), packagesB: indexPackages(b) }
    : { ...around, packagesA: null, packagesB: null };
  const sorted = [...tree.nodes].sort((p, q) => rank(p) - rank(q));
  for (const [i, diff] of sorted.entries()) {
    const item = await itemOf(part.name, diff, surroundings, i < detail.items);
    if (i < detail.items) part.items.push(item);
    count(part, item);
  }
  finishGroups(part, sorted.length);
}

async function itemOf(part: string, diff: NodeDiff, around: Surroundings, whole: boolean): Promise<ItemDiff> {
  const { a, b, path, changes } = diff;
  const differs = changes.some(({ what }) => what === 'content') && a?.data && b?.data;
  const offset = differs && a.data && b.data ? firstDifference(a.data, b.data) : -1;
  const short = { offset, sizeA: a?.size ?? 0, sizeB: b?.size ?? 0, differing: null, hex: [] };
  const context = offset === -1 ? undefined : whole && a?.data && b?.data ? await contextOf(a.data, b.data) : short;
  const causes = fileCauses(part, diff, context ?? undefined, around);
  return { path, kind: 'file', changes, ...(context ? { context } : {}), causes };
}
