import { blame } from './blame.ts';
import { contentClue, kernelVersion } from './clues.ts';
import { contextOf } from './context.ts';
import type { Surroundings } from './file-causes.ts';
import type { PartSource } from './part-source.ts';
import { compareRamdisks } from './ramdisk.ts';
import type { Cause, Context, PartDiff, PartFacts } from './types.ts';
import { bytesView, readSome, type View } from './view.ts';

/** How much of a comparison is told. */
export interface Detail {
  /** Items per part; those behind are only counted. */
  items: number;
}

const facts = (part: PartSource | null): PartFacts | null => part && { size: part.size, digest: part.digest };

/** A part before anything of it was looked at. */
export function emptyPart(name: string, registers: string[], a: PartSource | null, b: PartSource | null): PartDiff {
  const known = a?.digest != null && b?.digest != null;
  const equal = known && a.digest === b.digest;
  const status = equal ? 'equal' : known || a === null || b === null ? 'different' : 'unknown';
  const rest = { changes: [], items: [], groups: [], omitted: 0, causes: [], problems: [] };
  return { name, registers, a: facts(a), b: facts(b), status, ...rest };
}

/** Compares one section of two Nitro images. */
export async function compareSections(
  name: string,
  registers: string[],
  a: PartSource | null,
  b: PartSource | null,
  around: Surroundings,
  detail: Detail,
): Promise<PartDiff> {
  const part = emptyPart(name, registers, a, b);
  if (part.status !== 'different') return part;
  if (a === null || b === null) {
    part.changes.push(
      a ? { what: 'removed', a: `${a.size} bytes`, b: null } : { what: 'added', a: null, b: `${b?.size} bytes` },
    );
    blame(part, lonely(name));
    return part;
  }
  if (name.startsWith('ramdisk')) return compareRamdisks(part, a, b, around, detail);
  if (!a.view || !b.view) {
    part.problems.push('the bytes of one side are not here: only that it differs is known');
    blame(part, bytelessCause(name, around));
    return part;
  }
  if (name === 'kernel') return kernel(part, a.view, b.view, around);
  const [x, y] =
    name === 'cmdline'
      ? [words(a.view), words(b.view)]
      : name === 'metadata'
        ? [pretty(a.view), pretty(b.view)]
        : [a.view, b.view];
  part.context = (await contextOf(a.view, b.view)) ?? undefined;
  const readable = await contextOf(x, y);
  if (part.context && readable?.lines) part.context.lines = readable.lines;
  blame(part, smallCause(name, x, y, readable));
  return part;
}

function lonely(name: string): Cause {
  if (name === 'signature') return { id: 'signature', reason: 'one image is signed, the other is not' };
  return { id: 'unknown', reason: `one image has no ${name}` };
}

function bytelessCause(name: string, { inputs }: Surroundings): Cause {
  const input = name === 'kernel' ? kernelInput(inputs) : undefined;
  return input
    ? { id: 'lock', reason: `the manifests pin two kernels: ${input.a} and ${input.b}` }
    : { id: 'unknown', reason: 'without the bytes there is nothing to go by' };
}

const kernelInput = (inputs: Surroundings['inputs']) => inputs.find(({ name }) => /(^|\/)linux(-image|\b)/.test(name));

async function kernel(part: PartDiff, a: View, b: View, { inputs }: Surroundings): Promise<PartDiff> {
  part.context = (await contextOf(a, b)) ?? undefined;
  const [x, y] = [kernelVersion(a), kernelVersion(b)];
  const input = kernelInput(inputs);
  if (input) blame(part, { id: 'lock', reason: `the manifests pin two kernels: ${input.a} and ${input.b}` });
  else if (x !== null && y !== null && x !== y) {
    const rebuilt = x.split(' ', 1)[0] === y.split(' ', 1)[0];
    blame(
      part,
      rebuilt
        ? {
            id: 'clock',
            reason: `one release, built twice: "${x}" and "${y}" (fix KBUILD_BUILD_TIMESTAMP, _USER, _HOST)`,
          }
        : { id: 'kernel', reason: `two kernels: "${x}" and "${y}"` },
    );
  } else {
    const said = x === null ? 'the kernel does not say its version' : `both say they are "${x}"`;
    blame(part, { id: 'unknown', reason: `no rule explains it; ${said}` });
  }
  return part;
}

function smallCause(name: string, a: View, b: View, context: Context | null): Cause {
  if (name === 'cmdline') {
    return { id: 'configuration', reason: 'the command line is what the builder was given: nothing computes it' };
  }
  if (name === 'signature') {
    return {
      id: 'signature',
      reason: 'a signature is over PCR0, and ECDSA has another one every time; PCR8 tells certificates apart',
    };
  }
  return (context && contentClue(a, b, name, context)) ?? { id: 'unknown', reason: 'no rule explains it' };
}

/** One argument per line. */
const words = (view: View): View =>
  bytesView(Buffer.from(readSome(view, 0, view.size).toString('latin1').replaceAll(' ', '\n'), 'latin1'));

function pretty(view: View): View {
  try {
    return bytesView(Buffer.from(JSON.stringify(JSON.parse(readSome(view, 0, view.size).toString('utf8')), null, 2)));
  } catch {
    return view;
  }
}
