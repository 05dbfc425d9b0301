import { diffLines } from './lines.ts';
import type { Context } from './types.ts';
import { countDifferences, firstDifference, readSome, type View } from './view.ts';

const ROW = 16;
const ROWS = 4;
/** Files up to this size are compared line by line as a whole; of larger ones, what is around the first difference. */
const WHOLE = 1 << 18;
const AROUND = 4096;

/** Two contents at their first differing byte; null where there is none. */
export async function contextOf(a: View, b: View): Promise<Context | null> {
  const offset = firstDifference(a, b);
  if (offset === -1) return null;
  const start = Math.max(0, offset - (offset % ROW) - ROW);
  const lines = textLines(a, b, offset);
  return {
    offset,
    sizeA: a.size,
    sizeB: b.size,
    differing: a.size === b.size ? await countDifferences(a, b) : null,
    hex: Array.from({ length: ROWS }, (_, i) => row(a, b, start + i * ROW)).filter(({ a, b }) => a !== '' || b !== ''),
    ...(lines === null ? {} : { lines }),
  };
}

function row(a: View, b: View, offset: number): Context['hex'][number] {
  const [x, y] = [readSome(a, offset, ROW), readSome(b, offset, ROW)];
  return { offset, a: x.toString('hex'), b: y.toString('hex'), textA: ascii(x), textB: ascii(y) };
}

const ascii = (bytes: Buffer): string => bytes.toString('latin1').replace(/[^\x20-\x7e]/g, '.');

function textLines(a: View, b: View, offset: number): Context['lines'] | null {
  const whole = a.size <= WHOLE && b.size <= WHOLE;
  const start = whole ? 0 : Math.max(0, offset - AROUND);
  const length = whole ? WHOLE : 2 * AROUND;
  const [x, y] = [text(readSome(a, start, length), whole), text(readSome(b, start, length), whole)];
  if (x === null || y === null) return null;
  // The end of the last line is no line, where both have it.
  const ended = whole && x.endsWith('\n') && y.endsWith('\n');
  return diffLines((ended ? x.slice(0, -1) : x).split('\n'), (ended ? y.slice(0, -1) : y).split('\n'));
}

/** Null for what is no text. A piece may begin and end inside a character. */
function text(bytes: Buffer, whole: boolean): string | null {
  if (bytes.includes(0)) return null;
  const decoded = bytes.toString('utf8');
  const known = whole ? decoded : decoded.replace(/^\ufffd{0,3}|\ufffd{0,3}$/g, '');
  if (known.includes('\ufffd')) return null;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return /[\x01-\x08\x0e-\x1a\x1c-\x1f]/.test(known) ? null : known;
}
