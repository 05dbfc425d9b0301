import { usageError } from '../core/errors.ts';
import { blame } from './blame.ts';
import type { Surroundings } from './file-causes.ts';
import { compareGramine } from './gramine.ts';
import { compareInputs } from './inputs.ts';
import type { NitroSide } from './nitro-side.ts';
import { compareSections, type Detail } from './part.ts';
import { isDebug, type Registers, type Side } from './sides.ts';
import type { CountedCause, DiffReport, ImageDiff, PartDiff, RegisterDiff, Verdict } from './types.ts';

/**
 * Compares two opened sides: registers, the parts behind them, what is in those. Throws `ERR_DIFF_TARGETS` (exit 2) where
 * the two have no kind of image in common.
 */
export async function diffSides(a: Side, b: Side, detail: Detail): Promise<DiffReport> {
  const inputs = compareInputs(a.statement, b.statement);
  const around: Surroundings = {
    packagesA: null,
    packagesB: null,
    lockA: a.lock ?? null,
    lockB: b.lock ?? null,
    inputs,
  };
  const notes = [...a.notes.map((text) => `A: ${text}`), ...b.notes.map((text) => `B: ${text}`)];
  const images: ImageDiff[] = [];
  if (a.nitro && b.nitro) {
    notes.push(...unsound('A', a.nitro), ...unsound('B', b.nitro));
    images.push(imageDiff('nitro', [a.nitro, b.nitro], await compareNitro(a.nitro, b.nitro, around, detail)));
  }
  if (a.gramine && b.gramine) {
    for (const [name, { debug }] of [
      ['A', a.gramine],
      ['B', b.gramine],
    ] as const) {
      if (debug) notes.push(`${name} is a DEBUG enclave: the host can read its memory`);
    }
    images.push(
      imageDiff('gramine', [a.gramine, b.gramine], await compareGramine(a.gramine, b.gramine, around, detail)),
    );
  }
  if (images.length === 0) {
    const kind = ({ nitro }: Side) => (nitro ? 'a Nitro image' : 'a Gramine image');
    throw usageError('ERR_DIFF_TARGETS', `expected two images of one kind, found ${kind(a)} in A and ${kind(b)} in B`);
  }
  const lonely = (['nitro', 'gramine'] as const).filter((target) => !a[target] !== !b[target]);
  for (const target of lonely) {
    notes.push(`only ${a[target] ? 'A' : 'B'} has an image for ${target}: it was not compared`);
  }
  const compared = verdictOf(images);
  // A build that lost an image is another build; one image beside a build is what somebody wants compared.
  const lost = lonely.length > 0 && isBuild(a) && isBuild(b);
  const verdict = lost && compared !== 'debug' ? 'different' : compared;
  const causes = verdict === 'debug' ? [DEBUG] : allCauses(images);
  return { verdict, a: a.facts, b: b.facts, images, inputs, causes, notes };
}

const isBuild = ({ facts }: Side): boolean => facts.kind === 'build' || facts.kind === 'measurements';

const DEBUG: CountedCause = {
  id: 'debug',
  reason:
    'a debug enclave: the hypervisor reports zeros for what it measured; start it without --debug-mode to compare',
  count: 1,
};
const RAMDISK = /^ramdisk(\d+)$/;

/** Which registers cover a section (nitro.md; aws-nitro-enclaves-image-format src/utils). */
function registersOf(section: string): string[] {
  if (section === 'kernel' || section === 'cmdline' || section === 'ramdisk0') return ['pcr0', 'pcr1'];
  if (RAMDISK.test(section)) return ['pcr0', 'pcr2'];
  return section === 'signature' ? ['pcr8'] : [];
}

async function compareNitro(a: NitroSide, b: NitroSide, around: Surroundings, detail: Detail): Promise<PartDiff[]> {
  if (!a.parts || !b.parts) return [];
  const bytes = a.measured !== undefined && b.measured !== undefined;
  const parts: PartDiff[] = [];
  for (const name of new Set([...a.parts.keys(), ...b.parts.keys()])) {
    const registers = registersOf(name);
    // measurements.json lists what is measured.
    if (!bytes && (registers.length === 0 || name === 'signature')) continue;
    parts.push(
      await compareSections(name, registers, a.parts.get(name) ?? null, b.parts.get(name) ?? null, around, detail),
    );
  }
  if (bytes) parts.push(headers(a, b));
  return parts.map((part) =>
    part.name === 'signature' && a.registers.pcr8 === b.registers.pcr8 ? { ...part, registers: [] } : part,
  );
}

/** What an image's header says, which nothing measures. */
function headers(a: NitroSide, b: NitroSide): PartDiff {
  const said = ({ measured }: NitroSide): Record<string, string> => {
    const { version, arch, defaultMem, defaultCpus } = measured?.layout ?? {};
    return { version: `${version}`, arch: `${arch}`, memory: `${defaultMem}`, cpus: `${defaultCpus}` };
  };
  const [x, y] = [said(a), said(b)];
  const items = Object.keys(x).flatMap((key) => {
    if (x[key] === y[key]) return [];
    const changes = [{ what: 'value' as const, a: x[key] ?? null, b: y[key] ?? null }];
    const causes = [
      { id: 'configuration' as const, reason: 'the header says what the builder was told; nothing measures it' },
    ];
    return [{ path: key, kind: 'setting' as const, changes, causes }];
  });
  const part: PartDiff = {
    ...{ name: 'header', registers: [], a: { size: 548, digest: null }, b: { size: 548, digest: null } },
    ...{
      status: items.length > 0 ? 'different' : 'equal',
      changes: [],
      items,
      groups: [],
      omitted: 0,
      causes: [],
      problems: [],
    },
  };
  for (const cause of items.flatMap(({ causes }) => causes)) blame(part, cause);
  return part;
}

const unsound = (name: string, { measured }: NitroSide): string[] =>
  measured && !measured.crc.ok ? [`${name} is damaged: its CRC-32 is not that of its bytes`] : [];

function imageDiff(
  target: ImageDiff['target'],
  [a, b]: { registers: Registers; debug?: boolean; parts?: unknown }[],
  parts: PartDiff[],
): ImageDiff {
  const [x, y] = [a?.registers ?? {}, b?.registers ?? {}];
  const debug = target === 'nitro' && (a?.debug === true || b?.debug === true || isDebug(x) || isDebug(y));
  const registers = [...new Set([...Object.keys(x), ...Object.keys(y)])].map((name): RegisterDiff => {
    const [p, q] = [x[name] ?? null, y[name] ?? null];
    // Whose parts are known has no PCR8 where it says none: it is not signed. A measurement alone may just not say.
    const absent = name === 'pcr8' && (p === null ? a?.parts : b?.parts) !== undefined;
    const known = (p !== null && q !== null) || absent;
    const status = debug
      ? 'debug'
      : p === null && q === null
        ? 'unknown'
        : p === q
          ? 'equal'
          : known
            ? 'different'
            : 'unknown';
    const covering = parts.filter((part) => part.status === 'different' && part.registers.includes(name));
    return { name, a: p, b: q, status, because: status === 'different' ? covering.map((part) => part.name) : [] };
  });
  return { target, registers, parts };
}

function verdictOf(images: ImageDiff[]): Verdict {
  const registers = images.flatMap((image) => image.registers);
  if (registers.some(({ status }) => status === 'debug')) return 'debug';
  if (registers.some(({ status }) => status === 'different')) return 'different';
  const parts = images.flatMap((image) => image.parts);
  // Should a register not tell what a part does, the part is right.
  if (parts.some(({ status, registers }) => status === 'different' && registers.length > 0)) return 'different';
  return parts.some(({ status }) => status === 'different') ? 'same-measurement' : 'equal';
}

function allCauses(images: ImageDiff[]): CountedCause[] {
  const all: { causes: CountedCause[] } = { causes: [] };
  for (const { causes } of images.flatMap(({ parts }) => parts)) {
    for (const { count, ...cause } of causes) blame(all, cause, count);
  }
  const last = ({ id }: CountedCause) => Number(id === 'unknown');
  return all.causes.sort((a, b) => last(a) - last(b) || b.count - a.count);
}
