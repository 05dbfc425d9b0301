import ansis from 'ansis';
import type { Check } from '../core/check.ts';
import { printable } from '../core/printable.ts';
import { caveats, headline } from '../report/headline.ts';
import type { FileResult, VerifyReport } from '../tasks/verify/report.ts';

const MARK = { pass: ansis.green('✔'), fail: ansis.red('✘'), skipped: ansis.yellow('─') } as const;

/** The report as a tree per file, root of trust first, then what was not checked, then one word. */
export function trustTree(report: VerifyReport): string {
  const lines = report.results.flatMap((result) => [...fileTree(result), '']);
  const notChecked = [...new Set(report.results.flatMap((r) => r.notChecked))];
  if (notChecked.length > 0)
    lines.push('not checked:', ...notChecked.map((text) => `  ${MARK.skipped} ${printable(text)}`), '');
  const verdict = report.verdict === 'pass' ? ansis.green.bold('PASS') : ansis.red.bold('FAIL');
  const notes = caveats(report);
  if (notes.length > 0) lines.push('mind:', ...notes.map((text) => `  ${MARK.skipped} ${text}`), '');
  const { reason, also } = headline(report, report.results);
  const why = report.verdict === 'fail' ? [[reason, ...also].join('; ')] : [];
  const simulated = report.simulated ? [`${ansis.yellow.bold('SIMULATED')}: no hardware vouches for this`] : [];
  lines.push([verdict, ...simulated, ...why].join('  '));
  return lines.join('\n');
}

function fileTree(result: FileResult): string[] {
  const groups = Map.groupBy(result.checks, (check) => check.id.split('.')[0] ?? check.id);
  const lines = [`${MARK[result.verdict]} ${ansis.bold(printable(result.file))}  ${ansis.dim(result.title)}`];
  const entries = [...groups];
  entries.forEach(([group, checks], index) => {
    const last = index === entries.length - 1;
    lines.push(`${last ? '└─' : '├─'} ${MARK[worst(checks)]} ${group.replaceAll('-', ' ')}`);
    checks.forEach((check, i) => {
      const leaf = i === checks.length - 1;
      const stem = `${last ? '  ' : '│ '} ${leaf ? '└─' : '├─'}`;
      lines.push(`${stem} ${MARK[check.status]} ${label(check)}`);
      const rest = `${last ? '  ' : '│ '} ${leaf ? '  ' : '│ '}     `;
      if (check.status === 'fail' && check.expected !== undefined)
        lines.push(`${rest}expected ${printable(check.expected)}`);
      if (check.status === 'fail' && check.actual !== undefined)
        lines.push(`${rest}found    ${printable(check.actual)}`);
    });
  });
  return lines;
}

function label(check: Check): string {
  const name = check.id.split('.').slice(1).join(' ').replaceAll('-', ' ') || 'checked';
  const detail = check.detail ?? (check.status === 'pass' ? check.actual : undefined);
  return detail === undefined ? name : `${name}  ${ansis.dim(printable(detail))}`;
}

const worst = (checks: Check[]): Check['status'] =>
  checks.some((c) => c.status === 'fail') ? 'fail' : checks.some((c) => c.status === 'pass') ? 'pass' : 'skipped';
