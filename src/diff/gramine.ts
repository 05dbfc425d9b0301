import { hex } from '../core/bytes.ts';
import type { Sigstruct } from '../gramine/index.ts';
import { blame, count, finishGroups } from './blame.ts';
import { contextOf } from './context.ts';
import { fileCauses, type Surroundings } from './file-causes.ts';
import { type AreaSource, type GramineSide, manifestSource } from './gramine-side.ts';
import type { Node } from './nodes.ts';
import { indexPackages } from './packages.ts';
import { type Detail, emptyPart } from './part.ts';
import { flatSettings } from './settings.ts';
import { compareTrees, type NodeDiff } from './tree.ts';
import type { ItemDiff, PartDiff } from './types.ts';

const MEASURED = ['mrenclave'];

/** Compares two enclaves: the manifest with what it says, the other areas, who signed. */
export async function compareGramine(
  a: GramineSide,
  b: GramineSide,
  around: Surroundings,
  detail: Detail,
): Promise<PartDiff[]> {
  const parts: PartDiff[] = [];
  const [x, y] = [manifestSource(a), manifestSource(b)];
  // A measurement alone has no parts.
  if (x && y) parts.push(await compareManifests(emptyPart('manifest', MEASURED, x, y), a, b, around, detail));
  if (a.areas && b.areas) {
    for (const name of new Set([...a.areas.keys(), ...b.areas.keys()])) {
      if (name !== 'manifest') parts.push(await compareAreas(name, a.areas.get(name), b.areas.get(name), around));
    }
  }
  if (a.sigstruct && b.sigstruct) parts.push(compareSigstructs(a.sigstruct, b.sigstruct));
  return parts;
}

async function compareManifests(
  part: PartDiff,
  a: GramineSide,
  b: GramineSide,
  around: Surroundings,
  detail: Detail,
): Promise<PartDiff> {
  if (part.status === 'equal') return part;
  const items: ItemDiff[] = [];
  if (a.trusted && b.trusted) {
    const [x, y] = [a, b].map((side) => (side.trusted ?? []).map((node) => inRoot(node, side.root ?? '')));
    const tree = compareTrees(x ?? [], y ?? [], a.manifest !== undefined && b.manifest !== undefined);
    const surroundings = { ...around, packagesA: indexPackages(x ?? []), packagesB: indexPackages(y ?? []) };
    for (const diff of tree.nodes) items.push(await fileItem(diff, surroundings, items.length < detail.items));
    if (tree.order) {
      part.changes.push({ what: 'order', a: tree.order.a, b: tree.order.b });
      blame(part, {
        id: 'configuration',
        reason: 'trusted files are listed in two orders: that of the manifest they were made from',
      });
    }
  }
  if (a.manifest && b.manifest) items.push(...compareSettings(a, b));
  else part.problems.push('one side has no manifest here, only the list of its files: settings are not compared');
  for (const item of items) count(part, item);
  part.items = items.slice(0, detail.items);
  finishGroups(part, items.length);
  if (items.length + part.changes.length === 0 && a.manifest && b.manifest) {
    const [p, q] = [manifestSource(a)?.view, manifestSource(b)?.view];
    part.context = (p && q ? await contextOf(p, q) : undefined) ?? undefined;
    part.changes.push({ what: 'framing', a: null, b: null });
    blame(part, {
      id: 'configuration',
      reason: 'every setting is the same, written otherwise: order of keys, spaces, another writer of TOML',
    });
  }
  return part;
}

/** With the path that the file has inside of the image, where it is in there. The getter of its bytes stays one. */
const inRoot = (node: Node, root: string): Node =>
  node.path.startsWith(root) && root !== ''
    ? Object.defineProperties({} as Node, {
        ...Object.getOwnPropertyDescriptors(node),
        path: { value: node.path.slice(root.length), enumerable: true },
      })
    : node;

async function fileItem(diff: NodeDiff, around: Surroundings, whole: boolean): Promise<ItemDiff> {
  const { a, b, path } = diff;
  const changes = diff.changes.map((change) => ({ ...change, a: trusted(change.a, a), b: trusted(change.b, b) }));
  const [x, y] = whole && a && b ? [a.data, b.data] : [];
  const context = x && y ? ((await contextOf(x, y)) ?? undefined) : undefined;
  const causes = fileCauses('root', diff, context, around);
  return { path, kind: 'file', changes, ...(context ? { context } : {}), causes };
}

/** A manifest knows digests, not lengths. */
const trusted = (text: string | null, node: Node | null): string | null =>
  text === null || node === null ? null : `sha256 ${node.sha256 ?? 'unknown'}`;

function compareSettings(a: GramineSide, b: GramineSide): ItemDiff[] {
  const [x, y] = [flatSettings(a.manifest?.table ?? {}), flatSettings(b.manifest?.table ?? {})];
  const reason = 'the manifest says so: its template, or [gramine] of enclave.toml, is another';
  return [...new Set([...x.keys(), ...y.keys()])].flatMap((key) => {
    const [p, q] = [x.get(key) ?? null, y.get(key) ?? null];
    if (p === q) return [];
    const library = key === 'loader.entrypoint.sha256';
    const cause = library
      ? ({ id: 'toolkit', reason: "Gramine's libsysdb.so is another: two versions, or builds, of Gramine" } as const)
      : ({ id: 'configuration', reason } as const);
    return [
      { path: key, kind: 'setting' as const, changes: [{ what: 'value' as const, a: p, b: q }], causes: [cause] },
    ];
  });
}

async function compareAreas(
  name: string,
  a: AreaSource | undefined,
  b: AreaSource | undefined,
  { inputs }: Surroundings,
): Promise<PartDiff> {
  const part = emptyPart(name, MEASURED, a ?? null, b ?? null);
  if (a?.place !== b?.place) {
    part.status = 'different';
    part.changes.push({ what: 'layout', a: a?.place ?? null, b: b?.place ?? null });
    blame(part, {
      id: 'layout',
      reason: 'areas lie below each other: enclave_size, max_threads or the size of the manifest moves them',
    });
  }
  if (!a || !b || a.digest === b.digest) return part;
  part.changes.push({ what: 'content', a: `sha256 ${a.digest}`, b: `sha256 ${b.digest}` });
  if (name === 'pal') {
    part.context = (a.view && b.view ? await contextOf(a.view, b.view) : undefined) ?? undefined;
    const pins = inputs.find((input) => input.name.includes('libpal'));
    const said = pins ? `: ${pins.a} and ${pins.b}` : '';
    blame(part, { id: 'toolkit', reason: `libpal.so is another: two versions, or builds, of Gramine${said}` });
  } else if (name === 'tcs' || name === 'tls') {
    blame(part, { id: 'layout', reason: 'it holds addresses of the other areas and the size of the manifest' });
  } else blame(part, { id: 'unknown', reason: 'no rule explains it' });
  return part;
}

/** What was signed beside MRENCLAVE. The date is in no register. */
function compareSigstructs(a: Sigstruct, b: Sigstruct): PartDiff {
  const part = emptyPart('sigstruct', ['mrsigner', 'isvprodid', 'isvsvn'], null, null);
  const shown = (s: Sigstruct): Record<string, string> => ({
    'signing key': hex(s.modulus.subarray(-16)),
    isvprodid: String(s.isvprodid),
    isvsvn: String(s.isvsvn),
    attributes: `0x${s.flags.toString(16)}, xfrm 0x${s.xfrm.toString(16)}`,
    miscselect: String(s.miscselect),
    date: s.date,
  });
  const [x, y] = [shown(a), shown(b)];
  for (const key of Object.keys(x)) {
    if (x[key] === y[key]) continue;
    const cause =
      key === 'date'
        ? ({ id: 'clock', reason: 'enclaves carry the day of their signing, which no register covers' } as const)
        : key === 'signing key'
          ? ({ id: 'signature', reason: 'two keys signed' } as const)
          : ({
              id: 'configuration',
              reason: 'the manifest says so: its template, or [gramine] of enclave.toml, is another',
            } as const);
    part.items.push({
      path: key,
      kind: 'setting',
      changes: [{ what: 'value', a: x[key] ?? null, b: y[key] ?? null }],
      causes: [cause],
    });
  }
  for (const item of part.items) count(part, item);
  finishGroups(part, part.items.length);
  part.status = part.items.length > 0 ? 'different' : 'equal';
  if (part.items.every(({ path }) => path === 'date')) part.registers = [];
  return part;
}
