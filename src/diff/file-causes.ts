import { basename } from 'node:path/posix';
import { COMMAND_ROOT, IMAGE_ROOT, MEASURED_CONFIG_PATH } from '../core/layout.ts';
import { contentClue } from './clues.ts';
import type { LockOwner } from './lock-owners.ts';
import type { Package, PackageIndex } from './packages.ts';
import type { NodeDiff } from './tree.ts';
import type { Cause, Context, InputDifference } from './types.ts';

/** What is known of two images beside their bytes. */
export interface Surroundings {
  packagesA: PackageIndex | null;
  packagesB: PackageIndex | null;
  lockA: LockOwner | null;
  lockB: LockOwner | null;
  inputs: InputDifference[];
}

/** Files that no build makes twice: pattern of the path's end, and why. */
const STATE: [RegExp, string][] = [
  [/(^|\/)var\/log\//, 'a log that was written while the image was made'],
  [/(^|\/)(etc|var\/lib\/dbus)\/machine-id$/, 'a random number of the machine'],
  [/(^|\/)(var\/lib\/systemd\/random-seed|etc\/ssh\/ssh_host_[a-z0-9]+_key(\.pub)?)$/, 'random, made at installation'],
  [/(^|\/)etc\/(resolv\.conf|hostname|hosts)$/, "the builder's own network settings"],
  [/(^|\/)var\/cache\/ldconfig\/aux-cache$/, 'holds inode numbers and times of libraries'],
  [/(^|\/)var\/(lib\/apt\/lists|cache\/apt)\//, 'package lists of the day on which the image was made'],
  [/(^|\/)var\/cache\//, 'a cache'],
];

/** Why one path differs: every rule that holds, or one that says that none does. */
export function fileCauses(part: string, diff: NodeDiff, context: Context | undefined, around: Surroundings): Cause[] {
  const { changes } = diff;
  const has = (...whats: string[]) => changes.some(({ what }) => whats.includes(what));
  const causes: Cause[] = [];
  if (has('content', 'added', 'removed', 'renamed', 'target', 'type', 'device')) {
    causes.push(substance(part, diff, context, around));
  }
  const settled = causes.some(({ id }) => id === 'package' || id === 'lock' || id === 'base-image');
  // Another package brings its own times, modes and owners.
  if (settled) return causes;
  if (has('time')) causes.push({ id: 'clock', reason: timeReason(diff) });
  if (has('mode')) causes.push(modeCause(diff));
  if (has('owner')) {
    const { a, b } = changes.find(({ what }) => what === 'owner') ?? {};
    causes.push({ id: 'owner', reason: `the archives were made by other users: owned by ${a} and by ${b}` });
  }
  return causes;
}

function timeReason({ a }: NodeDiff): string {
  return a?.type === 'dir'
    ? "the directory's time is that of when something was last put into it: the builder's clock"
    : "the file's time is that of its writing, checkout or unpacking: set it to SOURCE_DATE_EPOCH";
}

function modeCause({ a, b }: NodeDiff): Cause {
  const [x, y] = [a?.mode ?? 0, b?.mode ?? 0];
  const differ = x ^ y;
  const narrower = (x & y) === x || (x & y) === y;
  if ((differ & ~0o077) === 0 && narrower) {
    return {
      id: 'umask',
      reason: `only permissions of group and others differ (${differ.toString(8).padStart(3, '0')}), as under another umask`,
    };
  }
  return { id: 'unknown', reason: 'the modes differ in more than a umask takes away' };
}

/** Of a content, a link's target, an entry that is there or not. */
function substance(part: string, diff: NodeDiff, context: Context | undefined, around: Surroundings): Cause {
  const { path, a, b } = diff;
  const [ownerA, ownerB] = [a && around.packagesA?.owner(a.path), b && around.packagesB?.owner(b.path)];
  const [packageA, packageB] = [other(ownerA ?? null, around.packagesB), other(ownerB ?? null, around.packagesA)];
  if (packageA || packageB)
    return { id: 'package', reason: [...new Set([packageA, packageB])].filter(Boolean).join('; ') };
  const record = recordOf(path, around);
  if (record) return record;
  const locked = lockCause(part, diff, around);
  if (locked) return locked;
  const own = ownFile(part, path, around.inputs);
  if (own) return own;
  const base = baseImage(part, path, around.inputs);
  if (base) return base;
  const state = STATE.find(([pattern]) => pattern.test(path));
  if (state) return { id: 'machine-state', reason: state[1] };
  const clue = context && a?.data && b?.data ? contentClue(a.data, b.data, basename(path), context) : null;
  if (clue) return clue;
  const same = ownerA && ownerB ? `; it is of ${words(ownerA)} in both` : '';
  return { id: 'unknown', reason: `no rule explains it${same}` };
}

const words = ({ kind, name, version }: Package): string => `the ${kind} ${name} ${version}`;

/** A package that the other tree has in another version, or not at all. */
function other(of: Package | null, there: PackageIndex | null): string | null {
  if (of === null || there === null) return null;
  const found = there.packages.get(`${of.kind} ${of.name}`);
  if (found === undefined) return `${words(of)} is in one image only`;
  if (found.version === of.version) return null;
  // The same words from either side, so that both make one cause.
  const versions = [of.version, found.version].sort().join(' and ');
  return `the ${of.kind} ${of.name} is there in two versions: ${versions}`;
}

/** The package managers' own lists follow from what is installed. */
function recordOf(path: string, { packagesA, packagesB }: Surroundings): Cause | null {
  if (
    !/(^|\/)(var\/lib\/dpkg\/(status|available|diversions)(-old)?|lib\/apk\/db\/(installed|scripts\.tar))$/.test(path)
  )
    return null;
  if (packagesA === null || packagesB === null) return null;
  const all = new Set([...packagesA.packages.keys(), ...packagesB.packages.keys()]);
  const changed = [...all].filter(
    (key) => packagesA.packages.get(key)?.version !== packagesB.packages.get(key)?.version,
  );
  if (changed.length === 0) return null;
  const names = changed.slice(0, 3).map((key) => key.split(' ').at(-1));
  const more = changed.length > 3 ? ` and ${changed.length - 3} more` : '';
  return { id: 'package', reason: `the list of installed packages: ${names.join(', ')}${more} changed` };
}

function lockCause(part: string, { a, b }: NodeDiff, { lockA, lockB }: Surroundings): Cause | null {
  // One lock alone cannot be another than the other.
  if (lockA === null || lockB === null) return null;
  const [x, y] = [a && lockA(part, a.path), b && lockB(part, b.path)];
  if (x === y) return null;
  return { id: 'lock', reason: `the locks pin other inputs: ${x ?? 'none'} and ${y ?? 'none'}` };
}

/** Files of every image of ours that no package brings. */
function ownFile(part: string, path: string, inputs: InputDifference[]): Cause | null {
  const inside = path.startsWith(`${IMAGE_ROOT}/`) ? path.slice(IMAGE_ROOT.length + 1) : path;
  if (inside === MEASURED_CONFIG_PATH) {
    return {
      id: 'configuration',
      reason: 'the measured configuration: enclave.toml, the model or its owner is another',
    };
  }
  const file = part === 'ramdisk0' && inside === 'init' ? 'init' : inside === 'app/program.mjs' ? 'program.mjs' : null;
  const input = file && inputs.find(({ name }) => name.startsWith('pkg:npm/atoma-tee') && name.endsWith(file));
  if (!input) return null;
  return {
    id: 'toolkit',
    reason: `the manifests name two versions of this toolkit's own file: ${input.a} and ${input.b}`,
  };
}

function baseImage(part: string, path: string, inputs: InputDifference[]): Cause | null {
  const below = part === 'root' ? `${COMMAND_ROOT}/` : `${IMAGE_ROOT}/${COMMAND_ROOT}/`;
  const image = path.startsWith(below) ? inputs.find(({ name }) => name.startsWith('oci:')) : undefined;
  return image ? { id: 'base-image', reason: `the manifests pin two base images: ${image.a} and ${image.b}` } : null;
}
