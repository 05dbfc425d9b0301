import type { Check } from '../core/check.ts';
import type { FileResult, VerifyReport } from '../tasks/verify/report.ts';

/** What a verdict comes to, for whoever reads one line of it. */
export interface Headline {
  tone: 'pass' | 'fail' | 'simulated';
  /** "PASS", "FAIL", "SIMULATED". */
  word: string;
  /** Why, in a few words: "wrong measurement", ... Empty for a plain pass. */
  reason: string;
  /** What else is wrong; short, each once. */
  also: string[];
}

interface Rule {
  reason: string;
  holds: (check: Check, result: FileResult) => boolean;
}

const id = (pattern: RegExp) => (check: Check) => pattern.test(check.id);
const code = (name: string) => (check: Check) => check.detail?.includes(`(${name})`) ?? false;
const too = (check: Check, end: 'before' | 'after'): boolean => {
  const [, from, until] = /^a time in (\S+) to (\S+)$/.exec(check.expected ?? '') ?? [];
  const [begin, stop, at] = [from, until, check.actual].map((text) => Date.parse(text ?? ''));
  return end === 'before' ? (at ?? 0) < (begin ?? 0) : (at ?? 0) > (stop ?? 0);
};
const PERIOD = /^evidence\.(.*-)?(validity|valid-now|time)$/;

/** The gravest first: what makes everything after it worthless. The first that holds is the headline. */
const RULES: Rule[] = [
  { reason: 'unsigned: an emulator made it', holds: code('ERR_EVIDENCE_UNSIGNED') },
  { reason: 'not the evidence that it should be', holds: code('ERR_EVIDENCE_KIND') },
  {
    reason: 'simulated evidence, which was not allowed',
    holds: ({ id }, { simulated }) => simulated && (id === 'evidence.root' || id === 'evidence.simulated'),
  },
  { reason: 'wrong root', holds: id(/^evidence\.(.*-)?root$/) },
  { reason: 'broken certificate chain', holds: id(/^evidence\.(.*-signer(-chain)?|chain|pck|pck-platform)$/) },
  {
    reason: 'signature does not hold',
    holds: id(/^(evidence|receipt|seal|image|sigstruct)\.(signature|owner-signature|qe-report|qe-binding|quotients)$/),
  },
  { reason: 'signed by somebody else, or altered', holds: id(/^signature\.(key|payload-type|method)$/) },
  { reason: 'not signed', holds: id(/^signature\.present$/) },
  { reason: 'the signature is over another build manifest', holds: id(/^signature\.payload$/) },
  { reason: 'not the model that was signed', holds: id(/^model\.(changed|missing|extra)$/) },
  { reason: 'revoked', holds: (check) => /revoked/i.test(`${check.actual}`) && /crl|revocation|tcb/.test(check.id) },
  {
    reason: 'debug enclave: its memory is open to the host',
    holds: id(/^(evidence\.(debug|qe-debug)|measurement\.debug|policy\.debug)$/),
  },
  { reason: 'expired', holds: (check) => PERIOD.test(check.id) && too(check, 'after') },
  { reason: 'not valid yet', holds: (check) => PERIOD.test(check.id) && too(check, 'before') },
  { reason: 'made at another time', holds: id(PERIOD) },
  { reason: 'wrong measurement', holds: id(/^(measurement\..*|receipt\.measurement|policy\.measurement)$/) },
  { reason: 'wrong nonce: it may be an old one', holds: id(/^(nonce\..*|identity\.nonce|receipt\.nonce)$/) },
  { reason: 'another key than the evidence binds', holds: id(/^(identity\..*|receipt\.evidence)$/) },
  { reason: 'another model', holds: id(/^(receipt|policy|configuration)\.model$/) },
  { reason: 'another request', holds: id(/^receipt\.request$/) },
  { reason: 'another response', holds: id(/^receipt\.response$/) },
  { reason: 'a revocation list is missing or does not hold', holds: id(/^evidence\.(.*-crl|revocation)$/) },
  { reason: 'the vendor’s statements on the machine do not hold', holds: id(/^evidence\.(tcb|qe|product|chip)/) },
  { reason: 'platform not accepted: TCB status', holds: id(/^policy\.tcb$/) },
  { reason: 'platform not accepted: product line', holds: id(/^policy\.product$/) },
  { reason: 'refused by policy', holds: id(/^policy\./) },
  {
    reason: 'not what it should be: it cannot be read',
    holds: id(/\.(format|structure|statement|parse|bundle|list)$/),
  },
];

/** Why a file fails, the gravest reason first; empty where nothing fails. */
export function reasons(result: FileResult): string[] {
  const failed = result.checks.filter(({ status }) => status === 'fail');
  // Each check has one reason: the gravest that is about it.
  const own = failed.map((check) => RULES.findIndex(({ holds }) => holds(check, result)));
  const known = RULES.filter((_, index) => own.includes(index)).map(({ reason }) => reason);
  const unknown = failed.filter((_, index) => own[index] === -1).map(({ id }) => `${words(id)} does not hold`);
  return [...known, ...unknown];
}

/** "evidence.pck-crl" as words. */
export const words = (id: string): string => id.replaceAll(/[.-]/g, ' ');

export function headline({ verdict, simulated }: Pick<VerifyReport, 'verdict' | 'simulated'>, results: FileResult[]) {
  const [reason = '', ...also] = [...new Set(results.flatMap(reasons))];
  if (verdict === 'fail') {
    return { tone: 'fail', word: 'FAIL', reason: reason || 'nothing was checked', also } satisfies Headline;
  }
  return simulated
    ? ({ tone: 'simulated', word: 'SIMULATED', reason: 'no hardware vouches for this', also } satisfies Headline)
    : ({ tone: 'pass', word: 'PASS', reason, also } satisfies Headline);
}

/** What a pass rests on that not everybody would accept: said beside the verdict. */
export function caveats({ verdict, policy, results }: VerifyReport): string[] {
  if (verdict === 'fail') return [];
  const { flags } = policy;
  const checks = results.flatMap((result) => result.checks);
  const found = (name: string) => checks.some((check) => check.id === name && check.status !== 'fail');
  const expired = checks.some(
    (check) =>
      check.status !== 'fail' &&
      ((check.id.endsWith('valid-now') && check.status === 'skipped') || check.detail?.includes('by the clock')),
  );
  const rated = [...new Set(results.flatMap(({ evidence }) => evidence?.tcb?.status ?? []))];
  const low = rated.filter((status) => status !== 'UpToDate');
  return [
    ...(found('measurement.any') ? ['Any measurement was accepted: this does not say which program ran.'] : []),
    ...(found('measurement.debug') ? ['A DEBUG enclave was accepted: whoever runs it can read its memory.'] : []),
    ...(flags['--root'] ? ['The vendor’s root was replaced by one that the caller gave.'] : []),
    ...(expired ? ['It held at the time that it was judged for; by the clock some of it has expired since.'] : []),
    ...(low.length > 0 && flags['--accept-tcb'] ? [`A platform rated ${low.join(', ')} was accepted by name.`] : []),
    ...(flags['--accept-product'] && found('policy.product')
      ? ['A product line that is denied by default was accepted by name.']
      : []),
  ];
}
