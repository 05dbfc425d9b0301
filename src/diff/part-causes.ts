import type { TreeDiff } from './tree.ts';
import type { Cause } from './types.ts';

type Order = 'by bytes' | 'by bytes, directory by directory' | 'as a locale sorts' | 'unsorted';

const COLLATORS = [new Intl.Collator('en'), new Intl.Collator('en', { ignorePunctuation: true })];
const inOrder = <T>(items: T[], compare: (a: T, b: T) => number): boolean =>
  items.every((item, i) => i === 0 || compare(items[i - 1] as T, item) <= 0);

/** A later component decides only where the earlier ones are the same. */
const byComponent = (a: Buffer[], b: Buffer[]): number => {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const order = Buffer.compare(a[i] as Buffer, b[i] as Buffer);
    if (order !== 0) return order;
  }
  return a.length - b.length;
};

/** How the names of an archive are sorted. */
export function orderOf(paths: string[]): Order {
  if (
    inOrder(
      paths.map((path) => Buffer.from(path)),
      Buffer.compare,
    )
  )
    return 'by bytes';
  const components = paths.map((path) => path.split('/').map((name) => Buffer.from(name)));
  if (inOrder(components, byComponent)) return 'by bytes, directory by directory';
  return COLLATORS.some((collator) => inOrder(paths, collator.compare)) ? 'as a locale sorts' : 'unsorted';
}

/** Why the entries of two archives are in two orders. */
export function orderCause({ pathsA, pathsB }: NonNullable<TreeDiff['order']>): Cause {
  const [a, b] = [orderOf(pathsA), orderOf(pathsB)];
  if (a !== b && [a, b].includes('as a locale sorts')) {
    return { id: 'locale', reason: `the names are sorted ${a} in A, ${b} in B: sort with LC_ALL=C` };
  }
  if (a !== 'unsorted' && b !== 'unsorted') {
    return { id: 'cpio-writer', reason: `the names are sorted ${a} in A, ${b} in B: two programs wrote the archives` };
  }
  const which = a === b ? 'neither archive is' : a === 'unsorted' ? 'A is not' : 'B is not';
  return {
    id: 'directory-order',
    reason: `${which} sorted: the entries come as a directory, or another archive, gave them`,
  };
}

/** What of an archive no file system shows. */
export function numberingCause({ nodes, order }: TreeDiff): Cause {
  const follows = order !== null || nodes.some(({ a, b }) => a === null || b === null);
  return {
    id: 'numbering',
    reason: follows
      ? 'entries are numbered one after the other or as on the builder: other entries, other numbers'
      : "inode, device and link numbers are those of the builder's file system: renumber them (cpio --reproducible)",
  };
}
