import type { Cause, CountedCause, ItemDiff, PartDiff } from './types.ts';

/** Reasons may name what only one file has: what is behind so many is not told one by one. */
const MOST_CAUSES = 100;

/** Adds a cause of a part, or of something in it. */
export function blame(part: { causes: CountedCause[] }, cause: Cause, times = 1): void {
  const known = part.causes.find(({ id, reason }) => id === cause.id && reason === cause.reason);
  if (known) known.count += times;
  else if (part.causes.length < MOST_CAUSES) part.causes.push({ ...cause, count: times });
  else {
    const more = { id: cause.id, reason: 'and others of this kind' };
    const last = part.causes.find(({ id, reason }) => id === more.id && reason === more.reason);
    if (last) last.count += times;
    else part.causes.push({ ...more, count: times });
  }
}

/** Adds an item to the group of those that differ in the same way, and its causes to the part's. */
export function count(part: PartDiff, { changes, causes }: Pick<ItemDiff, 'changes' | 'causes'>): void {
  const what = changes.map((change) => change.what).join(', ');
  const ids = [...new Set(causes.map(({ id }) => id))];
  const group = part.groups.find((known) => known.what === what && known.causes.join() === ids.join());
  if (group) group.count++;
  else part.groups.push({ what, count: 1, causes: ids });
  for (const cause of causes) blame(part, cause);
}

export function finishGroups(part: PartDiff, total: number): void {
  part.groups.sort((p, q) => q.count - p.count);
  part.omitted = total - part.items.length;
}
