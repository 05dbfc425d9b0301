import type { ExpectedImage } from './expected-measurements.ts';
import type { MeasuredFile, Measurements } from './measurements.ts';

type Image = Measurements['images'][number];

/** One thing that differs between what was expected and what was built; the most telling first. */
export interface MeasurementDifference {
  target: 'nitro' | 'gramine';
  /** A register, a measured part, or a file inside one. */
  kind: 'image' | 'register' | 'part' | 'file';
  /** "pcr2", "ramdisk1", "ramdisk1/app/program.mjs". */
  name: string;
  expected: string;
  found: string;
}

const NONE = 'none';

/** Registers first, then the parts behind them, then the files in those. Empty: nothing that was expected differs. */
export function compareMeasurements(expected: ExpectedImage[], built: Image[]): MeasurementDifference[] {
  const differences: MeasurementDifference[] = [];
  for (const image of built) {
    const wanted = expected.find(({ target }) => target === image.target);
    if (wanted === undefined) {
      differences.push({ target: image.target, kind: 'image', name: image.target, expected: NONE, found: image.file });
      continue;
    }
    const registers = compareRegisters(wanted, image);
    differences.push(...registers);
    if (registers.length > 0 && wanted.listed) differences.push(...compareParts(wanted.listed, image));
  }
  for (const { target } of expected) {
    if (built.some((image) => image.target === target)) continue;
    differences.push({ target, kind: 'image', name: target, expected: `an image for ${target}`, found: NONE });
  }
  return differences;
}

function compareRegisters({ target, registers, listed }: ExpectedImage, image: Image): MeasurementDifference[] {
  const found = image.measurement as Record<string, unknown>;
  const names = Object.keys(registers);
  // A list that is complete says by what it leaves out that an image is not signed.
  if (listed && target === 'nitro' && found.pcr8 !== undefined && !names.includes('pcr8')) names.push('pcr8');
  return names.flatMap((name) => {
    const [expected, actual] = [registers[name] ?? NONE, String(found[name] ?? NONE)];
    return expected === actual ? [] : [{ target, kind: 'register' as const, name, expected, found: actual }];
  });
}

/** The parts and the files of two images of one target, as their lists have them. */
export function compareParts(a: Image, b: Image): MeasurementDifference[] {
  const differences: MeasurementDifference[] = [];
  const { target } = a;
  const names = [...new Set([...a.parts, ...b.parts].map(({ name }) => name))];
  for (const name of names) {
    const [x, y] = [a, b].map(({ parts }) => partOf(parts, name));
    if (x?.text === y?.text) continue;
    differences.push({ target, kind: 'part', name, expected: x?.text ?? NONE, found: y?.text ?? NONE });
    differences.push(...compareFiles(target, `${name}/`, x?.files ?? [], y?.files ?? []));
  }
  if (a.target === 'gramine' && b.target === 'gramine') {
    differences.push(...compareFiles(target, '', a.files, b.files));
  }
  return differences;
}

function partOf(parts: Image['parts'], name: string) {
  const part = (
    parts as { name: string; size: number; sha384?: string; sha256?: string; files?: MeasuredFile[] }[]
  ).find((one) => one.name === name);
  return part && { text: `${part.sha384 ?? part.sha256} of ${part.size} bytes`, files: part.files };
}

function compareFiles(
  target: Image['target'],
  prefix: string,
  a: MeasuredFile[],
  b: MeasuredFile[],
): MeasurementDifference[] {
  const [x, y] = [a, b].map((files) => new Map(files.map((file) => [file.path, describe(file)])));
  const paths = [...new Set([...a, ...b].map(({ path }) => path))].sort((p, q) =>
    Buffer.compare(Buffer.from(p), Buffer.from(q)),
  );
  return paths.flatMap((path) => {
    const [expected, found] = [x?.get(path) ?? NONE, y?.get(path) ?? NONE];
    return expected === found ? [] : [{ target, kind: 'file' as const, name: `${prefix}${path}`, expected, found }];
  });
}

function describe({ type, mode, size, sha256, target, uid = 0, gid = 0 }: MeasuredFile): string {
  const content = type === 'file' ? ` ${sha256 ?? ''} of ${size} bytes` : target === undefined ? '' : ` to ${target}`;
  return `${type} ${mode}${uid + gid === 0 ? '' : ` ${uid}:${gid}`}${content}`;
}

/** One line each: "pcr2: expected ..., found ...". */
export const differenceLine = ({ target, name, expected, found }: MeasurementDifference): string =>
  `${target} ${name}: expected ${expected}, found ${found}`;
