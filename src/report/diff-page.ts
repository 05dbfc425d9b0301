import { createHash } from 'node:crypto';
import type { Cause, Change, Context, DiffReport, ImageDiff, ItemDiff, PartDiff } from '../diff/index.ts';
import { DIFF_STYLE } from './diff-style.ts';
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
import { type Html, html, Html as Raw } from './html.ts';
import { STYLE } from './style.ts';

const SHEET = STYLE + DIFF_STYLE;
const CSP = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(SHEET).digest('base64')}'; base-uri 'none'; form-action 'none'`;

const TONE = { equal: 'pass', 'same-measurement': 'pass', different: 'fail', debug: 'simulated' } as const;

/**
 * A comparison as one self-contained page: the same data as `--json`. It loads nothing, runs nothing, and takes no name or
 * content of a file for markup.
 */
export function renderDiffPage(report: DiffReport, version: string): string {
  const { word, says } = VERDICT[report.verdict];
  const page = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${CSP}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">
<title>${word}: ${report.a.path} and ${report.b.path}</title><style>${new Raw(SHEET)}</style></head><body>
<header class="verdict ${TONE[report.verdict]}"><h1><span class="word">${word}</span>${says}</h1>
<dl>${side('A', report.a)}${side('B', report.b)}</dl></header>
${causesSection(report)}
${report.images.map(imageSection)}
${inputsSection(report)}
${notesSection(report)}
<footer><p>Compared by atoma-tee ${version}. A comparison proves nothing about either image: it says where two differ. A cause is a rule that
held, with its reason; where none did, it says unknown.</p></footer>
</body></html>
`;
  return page.text;
}

const side = (name: string, facts: DiffReport['a']): Html =>
  html`<dt>${name}</dt><dd><code>${facts.path}</code> <span class="note">${sideWords(facts)}</span></dd>`;

function causesSection({ causes }: DiffReport): Html | undefined {
  if (causes.length === 0) return undefined;
  const shown = causes.slice(0, 30);
  return html`<section><h2>Likely causes</h2><div class="card"><ul>${shown.map(
    ({ count, ...cause }) =>
      html`<li>${causeLine(cause)}${count > 1 && html` <span class="note">${count} times</span>`}</li>`,
  )}${causes.length > shown.length && html`<li>and ${causes.length - shown.length} more</li>`}</ul></div></section>`;
}

const causeLine = ({ id, reason }: Cause): Html =>
  html`<strong class="cause ${id === 'unknown' ? 'skipped' : ''}">${id}</strong> ${reason}`;

function imageSection({ target, registers, parts }: ImageDiff): Html {
  const equal = parts.filter(({ status }) => status === 'equal').map(({ name }) => name);
  return html`<section><h2>${target === 'nitro' ? 'Nitro image' : 'Gramine image'}</h2>
<table><thead><tr><th>register</th><th>A</th><th>B</th></tr></thead><tbody>${registers.map(
    (register) => html`<tr><th scope="row">${register.name.toUpperCase()}
<div class="note ${register.status === 'different' ? 'fail' : ''}">${registerWords(register)}</div></th>
<td class="hex" data-label="A">${register.a ?? 'none'}</td><td class="hex" data-label="B">${register.b ?? 'none'}</td></tr>`,
  )}</tbody></table>
${equal.length > 0 && html`<p class="note same">The same: ${equal.join(', ')}.</p>`}
${parts.filter(({ status }) => status !== 'equal').map(partSection)}</section>`;
}

function partSection(part: PartDiff): Html {
  return html`<h3>${partTitle(part)}</h3><p class="note">${partSizes(part)}</p>
<div class="card">${part.problems.map((problem) => html`<p class="simulated">! ${problem}</p>`)}
${part.changes.length > 0 && changeTable(part.changes)}
${part.context && contextView(part.context)}
${part.items.length === 0 && html`<ul>${part.causes.slice(0, 10).map((cause) => html`<li>${causeLine(cause)}</li>`)}</ul>`}
${
  part.groups.length > 0 &&
  html`<ul class="groups">${part.groups
    .slice(0, 30)
    .map(
      ({ what, count, causes }) =>
        html`<li><strong>${count}</strong> × ${what} <span class="note">${causes.join(', ')}</span></li>`,
    )}</ul>`
}
${part.items.map((item, i) => itemView(item, i < 3))}
${part.omitted > 0 && html`<p class="note">and ${part.omitted} more, which --all tells</p>`}</div>`;
}

function itemView({ path, changes, context, causes }: ItemDiff, open: boolean): Html {
  const summary = changes.map(changeWords).join(', ');
  const inside = html`<summary><code>${path}</code> <span class="note">${summary}</span></summary>
${changeTable(changes)}${context && contextView(context)}<ul class="why">${causes.map((cause) => html`<li>${causeLine(cause)}</li>`)}</ul>`;
  return open ? html`<details class="item" open>${inside}</details>` : html`<details class="item">${inside}</details>`;
}

const changeTable = (changes: Change[]): Html =>
  html`<dl class="changes">${changes.map((change) => html`<dt>${changeWords(change)}</dt><dd><code>${changeValues(change)}</code></dd>`)}</dl>`;

/** Side by side; one above the other where there is no room. */
function contextView({ offset, sizeA, sizeB, differing, hex, lines }: Context): Html {
  const where = html`<p class="note">first at byte ${offset}; ${bytesWords(differing, sizeA, sizeB)}</p>`;
  const text =
    lines &&
    html`<div class="sides">${(['-', '+'] as const).map(
      (op) =>
        html`<pre aria-label="${op === '-' ? 'A' : 'B'}">${lines
          .filter((line) => line.op === ' ' || line.op === op)
          .map((line) => html`<span class="${tone(line.op)}">${line.text || ' '}</span>`)}</pre>`,
    )}</div>`;
  if (hex.length === 0) return html`${where}${text}`;
  const bytes = html`<div class="sides">${(['a', 'b'] as const).map(
    (key) =>
      html`<pre aria-label="${key.toUpperCase()}">${hex.map(
        (row) =>
          html`<span class="${row.a === row.b ? 'both' : tone(key === 'a' ? '-' : '+')}">${row.offset.toString(16).padStart(8, '0')}  ${spaced(row[key])}  ${key === 'a' ? row.textA : row.textB}</span>`,
      )}</pre>`,
  )}</div>`;
  return text
    ? html`${where}${text}<details><summary class="note">bytes</summary>${bytes}</details>`
    : html`${where}${bytes}`;
}

const tone = (op: string): string => (op === '-' ? 'gone' : op === '+' ? 'come' : 'both');
const spaced = (hex: string): string => (hex.match(/.{1,4}/g) ?? []).join(' ').padEnd(39);

function inputsSection({ inputs }: DiffReport): Html | undefined {
  if (inputs.length === 0) return undefined;
  return html`<section><h2>Inputs that the two builds pin differently</h2>
<table><thead><tr><th>input</th><th>A</th><th>B</th></tr></thead><tbody>${inputs.map(
    ({ name, a, b }) =>
      html`<tr><th scope="row">${name}</th><td class="hex" data-label="A">${a ?? 'none'}</td><td class="hex" data-label="B">${b ?? 'none'}</td></tr>`,
  )}</tbody></table></section>`;
}

function notesSection({ notes }: DiffReport): Html | undefined {
  if (notes.length === 0) return undefined;
  return html`<section><h2>Mind</h2><div class="card"><ul>${notes.map((note) => html`<li>${note}</li>`)}</ul></div></section>`;
}
