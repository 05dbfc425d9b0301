import { createHash } from 'node:crypto';
import type { Check } from '../core/check.ts';
import type { Attachment, FileResult, Policy, VerifyReport } from '../tasks/verify/report.ts';
import { chainSection, measurementSection, moment, platformSection, TEE_NAMES } from './evidence.ts';
import { caveats, headline, reasons, words } from './headline.ts';
import { type Html, html, Html as Raw } from './html.ts';
import { STYLE } from './style.ts';

/** What the page needs beside the report. */
export interface PageExtras {
  /** Of this toolkit. */
  version: string;
  /** By index of the result: the bytes that were judged. */
  attachments: Map<number, Attachment[]>;
}

const CSP = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; base-uri 'none'; form-action 'none'`;

/**
 * A verdict as one self-contained page: the same data as `--json`, and the bytes that were judged. It loads nothing, runs
 * nothing, and takes no word of what it shows for markup.
 */
export function renderPage(report: VerifyReport, extras: PageExtras): string {
  const { word, reason } = headline(report, report.results);
  const title = reason === '' ? word : `${word}: ${reason}`;
  const page = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${CSP}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">
<title>${title}</title><style>${new Raw(STYLE)}</style></head><body>
${banner(report)}
${report.results.map((result, index) => fileSection(result, report, extras.attachments.get(index) ?? []))}
${policySection(report.policy)}
${notCheckedSection(report.results)}
<footer><p>Judged ${moment(report.policy.now)} by atoma-tee ${extras.version}, offline. A page proves nothing: whoever doubts it downloads the
evidence above and runs <code>atoma-tee verify</code> with the flags above. A verdict is on the bytes and the time that it names; it does not say
that the hardware is unbroken, that a model is good, or that there were no other answers.</p></footer>
</body></html>
`;
  return page.text;
}

function banner(report: VerifyReport): Html {
  const { tone, word, reason, also } = headline(report, report.results);
  const lines = [...also.map((text) => `Also: ${text}.`), ...caveats(report)];
  return html`<header class="verdict ${tone}"><h1><span class="word">${word}</span>${reason}</h1>
<p>${EXPLAIN[tone]}${report.simulated && tone !== 'simulated' && html` <strong class="simulated">SIMULATED: no hardware vouches for this.</strong>`}</p>
${lines.length > 0 && html`<ul>${lines.map((line) => html`<li>${line}</li>`)}</ul>`}</header>`;
}

const EXPLAIN = {
  pass: 'Everything that was asked for holds.',
  fail: 'Do not rely on this.',
  simulated: 'Everything that was asked for holds, under a software stand-in: for development and tests only.',
};

function fileSection(result: FileResult, { policy }: VerifyReport, attachments: Attachment[]): Html {
  const why = reasons(result);
  const tone = result.verdict === 'pass' && result.simulated ? 'simulated' : result.verdict;
  return html`<section><h2>${result.title}${result.evidence && html`: ${TEE_NAMES[result.evidence.tee]}`}</h2>
<p><code>${result.file}</code></p><p><strong class="${tone}">${tone === 'fail' ? `✘ ${why[0] ?? 'nothing was checked'}` : `✔ holds${tone === 'simulated' ? ', SIMULATED' : ''}`}</strong></p>
${measurementSection(result)}${chainSection(result, policy.at, policy.now)}${platformSection(result)}${checksSection(result)}${downloads(attachments)}</section>`;
}

const MARK = { pass: '✔', fail: '✘', skipped: '─' };
const SPOKEN = { pass: 'holds', fail: 'does not hold', skipped: 'not judged' };

function checksSection({ checks }: FileResult): Html {
  const failed = checks.filter(({ status }) => status === 'fail');
  const rest = checks.filter(({ status }) => status !== 'fail');
  const count = (status: Check['status']) => rest.filter((check) => check.status === status).length;
  return html`<h3>Checks</h3>
${failed.length > 0 && html`<ul class="checks card">${failed.map(checkItem)}</ul>`}
${rest.length > 0 && html`<details class="card"><summary>${count('pass')} hold, ${count('skipped')} not judged</summary><ul class="checks">${rest.map(checkItem)}</ul></details>`}`;
}

function checkItem({ id, status, expected, actual, detail }: Check): Html {
  const both = status === 'fail' && expected !== undefined;
  return html`<li><span class="mark ${status}" role="img" aria-label="${SPOKEN[status]}">${MARK[status]}</span><strong>${words(id)}</strong>
${detail !== undefined && html`<div class="note">${detail}</div>`}
${both && html`<dl><dt>expected</dt><dd><code>${expected}</code></dd><dt>found</dt><dd><code>${actual ?? 'none'}</code></dd></dl>`}
${!both && actual !== undefined && detail === undefined && html`<div class="note">${actual}</div>`}</li>`;
}

function downloads(attachments: Attachment[]): Html | undefined {
  if (attachments.length === 0) return undefined;
  return html`<h3>Download</h3>${attachments.map(({ name, bytes }) => {
    const data = Buffer.from(bytes);
    const digest = createHash('sha256').update(data).digest('hex');
    return html`<div class="card"><a class="download" download="${name}" href="data:application/octet-stream;base64,${data.toString('base64')}">${name}</a>
<div class="note">${data.length} bytes, SHA-256 <code>${digest}</code></div></div>`;
  })}`;
}

function policySection({ now, at, flags }: Policy): Html {
  const clock = at === undefined ? 'evidence at its own time, everything else now' : moment(at);
  return html`<section><h2>Judged by</h2><div class="card"><dl><dt>clock</dt><dd>${moment(now)}</dd><dt>judged for</dt><dd>${clock}</dd>
${Object.entries(flags).map(([flag, values]) => html`<dt>${flag}</dt><dd>${values.map((value) => html`<div><code>${value}</code></div>`)}</dd>`)}</dl></div></section>`;
}

function notCheckedSection(results: FileResult[]): Html {
  const skipped = results.flatMap(({ checks }) =>
    checks.filter(({ status }) => status === 'skipped').map(({ id, detail }) => `${words(id)}: ${detail ?? ''}`),
  );
  const all = [...new Set([...results.flatMap(({ notChecked }) => notChecked), ...skipped])];
  return html`<section><h2>Not checked</h2><div class="card">${
    all.length === 0 ? 'Nothing was left out.' : html`<ul>${all.map((text) => html`<li>${text}</li>`)}</ul>`
  }</div></section>`;
}
