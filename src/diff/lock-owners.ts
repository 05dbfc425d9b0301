import { basename } from 'node:path/posix';
import { IMAGE_ROOT } from '../core/layout.ts';
import { entryName, type Lock, lockEntries, type Rule } from '../image/lock-file.ts';
import { globPattern } from '../image/select.ts';

/** Which entry of a lock a file of an image of ours comes from. */
export type LockOwner = (part: string, path: string) => string | null;

/** By the rules of the lock: what goes where. `part` is "ramdisk0", "ramdisk1", or "root" for the root of a Gramine image. */
export function lockOwner(lock: Lock): LockOwner {
  const rules = lockEntries(lock).flatMap((entry) =>
    entry.keep.map((rule) => ({ name: `${entry.kind}:${entryName(entry)}`, part: rule.part, matches: placed(rule) })),
  );
  return (part, path) => {
    const of = part === 'ramdisk0' ? 'init' : 'root';
    const prefix = `${IMAGE_ROOT}/`;
    const inside = of === 'root' && path.startsWith(prefix) ? path.slice(prefix.length) : path;
    return rules.find((rule) => rule.part === of && rule.matches(inside))?.name ?? null;
  };
}

function placed({ from, to }: Rule): (path: string) => boolean {
  if (!to.endsWith('/')) return (path) => path === to;
  const name = globPattern(basename(from));
  return (path) => path.startsWith(to) && name.test(path.slice(to.length));
}
