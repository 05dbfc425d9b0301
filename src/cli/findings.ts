import ansis from 'ansis';
import { printable } from '../core/printable.ts';
import type { Finding } from '../doctor/finding.ts';
import type { DoctorReport } from '../tasks/doctor.ts';
import { wrap } from './wrap.ts';

/** Column where the names begin, behind two blanks and the longest status. */
const NAMES = 11;

/** What was found, a table per section that fits `columns`; below what is not there, what it is for and how to get it. */
export function findingsTable({ ready, sections }: DoctorReport, columns: number): string {
  const names = sections.flatMap(({ findings }) => findings.map(({ name }) => name.length));
  const width = Math.max(...names);
  const lines = sections.flatMap(({ title, findings }) => [
    ...wrap(title, columns).map((line) => ansis.bold(line)),
    ...findings.flatMap((finding) => rows(finding, width, columns)),
    '',
  ]);
  const lacking = sections
    .flatMap(({ findings }) => findings)
    .filter(({ status, required }) => required && status !== 'ok');
  const words = ready
    ? 'READY  this machine can build, seal, run --tee simulated and verify'
    : `NOT READY  the main job lacks: ${lacking.map(({ name }) => name).join(', ')}`;
  const [verdict = '', ...more] = wrap(words, columns);
  const colour = ready ? ansis.green.bold : ansis.red.bold;
  lines.push(
    verdict.replace(/^(NOT )?READY/, (word) => `${colour(word)} `),
    ...more,
  );
  return lines.join('\n');
}

function rows(finding: Finding, width: number, columns: number): string[] {
  const { name, status, found, required, mend } = finding;
  const mark = status === 'ok' ? ansis.green : status === 'missing' && required ? ansis.red : ansis.yellow;
  const column = NAMES + width + 2;
  const [first = '', ...more] = wrap(printable(found), columns - column);
  const below = (label: string, text: string) =>
    wrap(`${label}: ${printable(text)}`, columns - NAMES - 2).map((line, i) =>
      ansis.dim(`${i === 0 ? '' : '  '}${line}`),
    );
  return [
    `  ${mark(status.padEnd(7))}  ${name.padEnd(width)}  ${first}`,
    ...more.map((line) => ' '.repeat(column) + line),
    ...(status === 'ok' ? [] : below('for', finding.for).map((line) => ' '.repeat(NAMES) + line)),
    ...(status === 'ok' || mend === undefined ? [] : below('get', mend).map((line) => ' '.repeat(NAMES) + line)),
  ];
}
