import type { Context } from './types.ts';

type Line = NonNullable<Context['lines']>[number];

const AROUND = 2;
const MOST_LINES = 24;
const MOST_COLUMNS = 160;
/** Cells of the table of the longest common subsequence. */
const MOST_CELLS = 1 << 20;

/** A small line diff: the first differing lines with two equal ones around them, long lines cut to where they differ. */
export function diffLines(a: string[], b: string[]): Line[] {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let [endA, endB] = [a.length, b.length];
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA--;
    endB--;
  }
  const middle = edits(a.slice(start, endA), b.slice(start, endB));
  const all: Line[] = [
    ...a.slice(Math.max(0, start - AROUND), start).map(same),
    ...middle,
    ...a.slice(endA, endA + AROUND).map(same),
  ];
  return cut(all);
}

const same = (text: string): Line => ({ op: ' ', text });
const gone = (text: string): Line => ({ op: '-', text });
const come = (text: string): Line => ({ op: '+', text });

/** By the longest common subsequence, where the table is small enough; else all of one for all of the other. */
function edits(a: string[], b: string[]): Line[] {
  if (a.length * b.length > MOST_CELLS)
    return [...a.slice(0, MOST_LINES).map(gone), ...b.slice(0, MOST_LINES).map(come)];
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  const cell = (i: number, j: number) => table[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      table[i * width + j] = a[i] === b[j] ? cell(i + 1, j + 1) + 1 : Math.max(cell(i + 1, j), cell(i, j + 1));
    }
  }
  const lines: Line[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push(same(a[i++] as string));
      j++;
    } else if (j === b.length || (i < a.length && cell(i + 1, j) >= cell(i, j + 1))) lines.push(gone(a[i++] as string));
    else lines.push(come(b[j++] as string));
  }
  return lines;
}

/** Long lines that go and come in pairs are cut around their first difference, others at their end. */
function cut(lines: Line[]): Line[] {
  const shown = lines.slice(0, MOST_LINES);
  const more = lines.length - shown.length;
  const longest = shown.filter(({ op }) => op !== ' ');
  const [x, y] = [longest.find(({ op }) => op === '-')?.text ?? '', longest.find(({ op }) => op === '+')?.text ?? ''];
  let at = 0;
  while (at < x.length && at < y.length && x[at] === y[at]) at++;
  const from = Math.max(x.length, y.length) > MOST_COLUMNS && x && y ? Math.max(0, at - 60) : 0;
  const short = shown.map(({ op, text }) => ({ op, text: window(text, op === ' ' ? 0 : from) }));
  return more > 0 ? [...short, same(`... ${more} more lines`)] : short;
}

const window = (text: string, from: number): string => {
  if (text.length <= MOST_COLUMNS) return text;
  const piece = text.slice(from, from + MOST_COLUMNS);
  return `${from > 0 ? '…' : ''}${piece}${from + MOST_COLUMNS < text.length ? '…' : ''}`;
};
