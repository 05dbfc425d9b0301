import type { ChainLink, EvidenceFacts, Register } from '../tasks/verify/facts.ts';
import type { FileResult } from '../tasks/verify/report.ts';
import { type Html, html } from './html.ts';
import { tcbWords } from './tcb-words.ts';

/** "2024-08-07 06:38:09 UTC": times as people compare them. */
export const moment = (iso: string): string => `${iso.slice(0, 19).replace('T', ' ')} UTC`;

export const TEE_NAMES: Record<EvidenceFacts['tee'], string> = {
  nitro: 'AWS Nitro Enclaves',
  sgx: 'Intel SGX',
  tdx: 'Intel TDX',
  snp: 'AMD SEV-SNP',
  simulated: 'SIMULATED TEE',
};

/** The certificates from the vendor's root to the key that signed; each with whether its time fits. */
export function chainSection({ evidence, checks }: FileResult, at: string | undefined, now: string): Html | undefined {
  if (!evidence || evidence.chain.length === 0) return undefined;
  const judged = new Date(at ?? evidence.time ?? now);
  const root = checks.find(({ id }) => id === 'evidence.root');
  const items = evidence.chain.map((link, index) => {
    const wrongRoot = index === 0 && root?.status === 'fail';
    const holds = judged >= new Date(link.from) && judged <= new Date(link.until);
    return chainItem(
      link,
      part(index, evidence.chain.length),
      judged,
      wrongRoot,
      holds,
      index === 0 ? root : undefined,
    );
  });
  return html`<h3>Certificate chain, root first</h3><ol class="chain">${items}</ol>`;
}

const part = (index: number, length: number): string =>
  index === 0 ? 'root' : index === length - 1 ? 'its key vouches for the evidence' : 'intermediate';

function chainItem(
  link: ChainLink,
  role: string,
  judged: Date,
  wrongRoot: boolean,
  holds: boolean,
  root: FileResult['checks'][number] | undefined,
): Html {
  const state = judged > new Date(link.until) ? 'EXPIRED' : 'NOT VALID YET';
  return html`<li class="card ${wrongRoot || !holds ? 'fail-edge' : 'pass-edge'}">
<div class="kind">${role}</div><div class="name">${commonName(link.subject)}</div>
${wrongRoot && html`<p class="fail"><strong>WRONG ROOT</strong>: expected <code>${root?.expected ?? ''}</code></p>`}
${root?.detail !== undefined && html`<p class="note">${root.detail.replace(/^\S*sha256:\S+ \((.*)\)$/, '$1')}</p>`}
${!holds && html`<p class="fail"><strong>${state}</strong> at ${moment(judged.toISOString())}</p>`}
<p class="note">valid ${moment(link.from)} to ${moment(link.until)}</p>
<details><summary class="note">name, serial number, fingerprint</summary><dl>
<dt>subject</dt><dd>${link.subject}</dd><dt>issuer</dt><dd>${link.issuer}</dd>
<dt>serial</dt><dd><code>${link.serial}</code></dd><dt>SHA-256</dt><dd><code>${link.fingerprint}</code></dd></dl></details></li>`;
}

const commonName = (subject: string): string => /(?:^|, )CN=([^,]+)/.exec(subject)?.[1] ?? subject;

/** Register by register: expected, found, the same or not. Without evidence, what the checks compared. */
export function measurementSection({ evidence, checks }: FileResult): Html | undefined {
  const registers: Register[] =
    evidence?.registers ??
    checks.flatMap(({ id, status, expected, actual }) =>
      id.startsWith('measurement.') && expected !== undefined && actual !== undefined
        ? [{ name: id.slice('measurement.'.length), expected, actual, same: status === 'pass' }]
        : [],
    );
  if (registers.length === 0) return undefined;
  const debug = checks.some(({ id, status }) => id === 'measurement.debug' && status === 'fail');
  const compared = registers.filter(({ same }) => same !== undefined);
  const others = registers.filter(({ same }) => same === undefined);
  return html`<h3>Measurement</h3>
${debug && html`<p class="fail"><strong>DEBUG enclave</strong>: its registers are zero whatever runs, so they say nothing.</p>`}
${compared.length === 0 && html`<p class="card simulated"><strong>Nothing was compared</strong>: any measurement was accepted.</p>`}
${
  compared.length > 0 &&
  html`<table><thead><tr><th>register</th><th>expected</th><th>found</th><th>same?</th></tr></thead>
<tbody>${compared.map((register) => registerRow(register, debug))}</tbody></table>`
}
${
  others.length > 0 &&
  html`<details class="card"><summary>${others.length} ${others.length === 1 ? 'register' : 'registers'} not compared</summary><dl>${others.map(
    ({ name, actual }) => html`<dt>${name.toUpperCase()}</dt><dd><code>${actual}</code></dd>`,
  )}</dl></details>`
}`;
}

function registerRow({ name, expected = '', actual, same }: Register, debug: boolean): Html {
  const differs = debug ? '✘ zero: DEBUG' : '✘ DIFFERENT';
  return html`<tr><th scope="row">${name.toUpperCase()}</th>
<td class="hex" data-label="expected">${expected}</td><td class="hex" data-label="found">${actual}</td>
<td class="mark ${same ? 'pass' : 'fail'}">${same ? '✔ same' : differs}</td></tr>`;
}

/** Intel's rating in words; what another vendor has in its place. */
export function platformSection({ evidence }: FileResult): Html | undefined {
  if (!evidence) return undefined;
  return html`${tcbPart(evidence)}<h3>What else the evidence says</h3>
<details class="card"><summary>time, nonce, bound data, platform</summary><dl>${facts(evidence)}</dl></details>`;
}

function tcbPart({ tcb, tee }: EvidenceFacts): Html {
  if (tcb === undefined) {
    return html`<h3>Platform (TCB) status</h3><p class="card">${NO_TCB[tee]}</p>`;
  }
  const { status, advisories, evaluation, date } = tcb;
  const tone = status === 'UpToDate' ? 'pass' : status === 'Revoked' ? 'fail' : 'simulated';
  return html`<h3>Platform (TCB) status</h3><div class="card"><p class="name ${tone}">${status}</p><p>${tcbWords(status)}</p>
<dl><dt>open advisories</dt><dd>${advisories.length === 0 ? 'none' : advisories.join(', ')}</dd>
${date !== undefined && html`<dt>patch level of</dt><dd>${date.slice(0, 10)}</dd>`}
${evaluation !== undefined && html`<dt>evaluation data</dt><dd>number ${evaluation}: advisories published later are not in this rating</dd>`}</dl></div>`;
}

const NO_TCB: Record<EvidenceFacts['tee'], string> = {
  nitro: 'AWS does not rate machines: whether the hypervisor is up to date is in AWS’s hands.',
  snp: 'AMD does not rate machines: the firmware versions that the chip reports were compared with its certificate (see the checks).',
  sgx: 'Not rated: Intel’s statements on this platform were missing or do not hold (see the checks).',
  tdx: 'Not rated: Intel’s statements on this platform were missing or do not hold (see the checks).',
  simulated: 'There is no hardware: a program made this evidence.',
};

function facts(evidence: EvidenceFacts): Html[] {
  const { tee, time, module, platform, product, vmpl, nonce, userData, publicKey, reportData } = evidence;
  const named: [string, string | undefined][] = [
    ['TEE', tee],
    ['debug', evidence.debug ? 'ON' : 'off'],
    ['made at', time && moment(time)],
    ['module', module],
    ['nonce', nonce],
    ['user data', userData],
    ['public key', publicKey],
    ['report data', reportData],
    ['platform', platform],
    ['product line', product],
    ['VMPL', vmpl?.toString()],
    ...Object.entries(evidence.facts ?? {}),
    ['SHA-256 of the evidence', evidence.sha256],
  ];
  return named.flatMap(([name, value]) =>
    value === undefined
      ? []
      : [html`<dt>${name}</dt><dd>${value.length > 40 ? html`<code>${value}</code>` : value}</dd>`],
  );
}
