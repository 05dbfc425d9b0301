import ansis from 'ansis';
import { printable } from '../core/printable.ts';
import type { Context, DiffReport, ItemDiff, PartDiff } from '../diff/index.ts';
import {
  bytesWords,
  changeValues,
  changeWords,
  partSizes,
  partTitle,
  registerWords,
  sideWords,
  VERDICT,
} from './diff-words.ts';

const MARK = {
  equal: ansis.green('='),
  different: ansis.red('≠'),
  debug: ansis.yellow('!'),
  unknown: ansis.yellow('?'),
};

/** A comparison for the terminal. Everything in it that is a file's is made printable: names choose no colours here. */
export function diffTree(report: DiffReport): string {
  const lines = [
    `A  ${ansis.bold(printable(report.a.path))}  ${ansis.dim(printable(sideWords(report.a)))}`,
    `B  ${ansis.bold(printable(report.b.path))}  ${ansis.dim(printable(sideWords(report.b)))}`,
  ];
  for (const { registers, parts } of report.images) {
    lines.push('');
    for (const register of registers) {
      lines.push(`${MARK[register.status]} ${register.name.toUpperCase()}  ${registerWords(register)}`);
      if (register.a === register.b) lines.push(ansis.dim(`    ${register.a ?? 'unknown'}`));
      else lines.push(ansis.dim(`    A ${register.a ?? 'none'}`), ansis.dim(`    B ${register.b ?? 'none'}`));
    }
    const equal = parts.filter(({ status }) => status === 'equal').map(({ name }) => name);
    if (equal.length > 0) lines.push('', `${MARK.equal} the same: ${equal.join(', ')}`);
    for (const part of parts) if (part.status !== 'equal') lines.push('', ...partLines(part));
  }
  if (report.inputs.length > 0) {
    lines.push('', ansis.bold('inputs that the two builds pin differently'));
    for (const { name, a, b } of report.inputs) lines.push(printable(`  ${name}: ${a ?? 'none'} -> ${b ?? 'none'}`));
  }
  if (report.notes.length > 0)
    lines.push('', ansis.bold('mind'), ...report.notes.map((note) => `  ${printable(note)}`));
  if (report.causes.length > 0) {
    lines.push('', ansis.bold('likely causes'));
    for (const { id, reason, count } of report.causes.slice(0, 12)) {
      lines.push(`  ${ansis.cyan(id)}${count > 1 ? ` (${count} times)` : ''}: ${printable(reason)}`);
    }
    if (report.causes.length > 12) lines.push(`  ... and ${report.causes.length - 12} more`);
  }
  const { word, says } = VERDICT[report.verdict];
  const colour = report.verdict === 'different' ? ansis.red : report.verdict === 'debug' ? ansis.yellow : ansis.green;
  return [...lines, '', `${colour.bold(word)}  ${says}`].join('\n');
}

function partLines(part: PartDiff): string[] {
  const lines = [`${MARK[part.status]} ${ansis.bold(partTitle(part))}  ${ansis.dim(partSizes(part))}`];
  for (const change of part.changes)
    lines.push(`  ${changeWords(change)}: ${printable(changeValues(change))}`.replace(/: $/, ''));
  for (const problem of part.problems) lines.push(`  ${ansis.yellow('!')} ${printable(problem)}`);
  if (part.context) lines.push(...contextLines(part.context, '  '));
  if (part.items.length === 0)
    for (const { id, reason } of part.causes) lines.push(`  ${ansis.cyan(id)}: ${printable(reason)}`);
  for (const item of part.items) lines.push(...itemLines(item));
  if (part.omitted > 0) {
    lines.push(`  ... and ${part.omitted} more (--all tells every one), in all:`);
    for (const { what, count, causes } of part.groups)
      lines.push(`    ${count} × ${what}  ${ansis.cyan(causes.join(', '))}`);
  }
  return lines;
}

function itemLines({ path, changes, context, causes }: ItemDiff): string[] {
  const [first, ...rest] = changes.map((change) => `${changeWords(change)}: ${changeValues(change)}`);
  const onlyTimes = changes.length === 1 && changes[0]?.what !== 'content';
  const lines = [`  ${ansis.bold(printable(path))}${onlyTimes ? `  ${printable(first ?? '')}` : ''}`];
  if (!onlyTimes) for (const change of [first ?? '', ...rest]) lines.push(`    ${printable(change)}`);
  if (context) lines.push(...contextLines(context, '    '));
  for (const { id, reason } of causes) lines.push(`    ${ansis.cyan(id)}: ${printable(reason)}`);
  return lines;
}

function contextLines({ offset, sizeA, sizeB, differing, hex, lines }: Context, indent: string): string[] {
  const out = [`${indent}first at byte ${offset}; ${bytesWords(differing, sizeA, sizeB)}`];
  if (lines) {
    for (const { op, text } of lines) {
      const line = `${indent}${op} ${printable(text)}`;
      out.push(op === '-' ? ansis.red(line) : op === '+' ? ansis.green(line) : line);
    }
    return out;
  }
  for (const row of hex) {
    const at = row.offset.toString(16).padStart(8, '0');
    if (row.a === row.b) out.push(`${indent}  ${at}  ${spaced(row.a)}  ${row.textA}`);
    else {
      out.push(ansis.red(`${indent}- ${at}  ${spaced(row.a)}  ${row.textA}`));
      out.push(ansis.green(`${indent}+ ${at}  ${spaced(row.b)}  ${row.textB}`));
    }
  }
  return out;
}

const spaced = (hex: string): string => (hex.match(/../g) ?? []).join(' ').padEnd(47);
