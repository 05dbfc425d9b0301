import { hex } from '../../core/bytes.ts';
import { type Check, fail, pass, skipped } from '../../core/check.ts';
import type { Measurement } from '../../core/measurement.ts';
import type { Certificate } from '../certificate.ts';
import { INTEL_SGX_ROOT } from '../roots/intel.ts';
import { trustedRoots } from '../roots/pinned.ts';
import { type Claims, NO_ENDORSEMENTS, type TcbClaim, type Verified, type VerifyEvidenceOptions } from '../types.ts';
import { findPckChain, readRoots } from './chains.ts';
import { openCollateral, type Signed } from './collateral.ts';
import { DerError } from './der.ts';
import { checkCrl, checkInfoFits, checkPckChain, checkSigned, type Setting } from './endorsement-checks.ts';
import { dcapFacts } from './facts.ts';
import { type PckPlatform, readPckPlatform, SGX_EXTENSION } from './pck.ts';
import type { QeIdentity } from './qe-identity.ts';
import { parseQuote, type Quote, type QuoteBody } from './quote.ts';
import { checkAttributes, checkQe, checkSignatures, isDebug } from './quote-checks.ts';
import type { TcbInfo } from './tcb-info.ts';
import { rateTcb, type TcbRating, type Unrated } from './tcb-level.ts';
import { checkModule } from './tdx-module.ts';

const PINNED = trustedRoots([INTEL_SGX_ROOT], undefined);

/**
 * Verifies an SGX or TDX quote (DCAP, versions 3 to 5) with Intel's collateral, as Intel's own library does (QVL,
 * QuoteVerifier.cpp, 4.1.2.4) and more strictly where that is silent: revocation lists are required, whatever is revoked
 * or debug fails, so do reserved attributes, migratable domains, and statuses that Intel never gave. Which TCB status is good
 * enough is for `appraise`. Quotes have no time of their own: `at` is `now` by default.
 *
 * Throws `ERR_EVIDENCE_MALFORMED` or `ERR_CERTIFICATE_MALFORMED` (exit 2) where the bytes are no quote.
 */
export function verifyDcap(evidence: Uint8Array, options: VerifyEvidenceOptions): Verified {
  const quote = parseQuote(evidence);
  const { tee } = quote.body;
  const trusted = options.roots === undefined ? PINNED : trustedRoots([INTEL_SGX_ROOT], options.roots);
  const setting: Setting = {
    collateral: openCollateral(options.endorsements ?? NO_ENDORSEMENTS),
    roots: readRoots(trusted.certificates),
    fingerprints: trusted.fingerprints,
    note: trusted.note,
    at: options.at ?? options.now,
    options,
  };
  const chain = findPckChain(quote, setting.collateral, setting.roots);
  const platform = chain.leaf && readPlatform(chain.leaf);
  const known = platform instanceof DerError ? undefined : platform;
  const tcbInfo = choose(setting.collateral.tcbInfos, setting.at, (info) => infoRank(info, tee, known));
  const qeIdentity = choose(setting.collateral.qeIdentities, setting.at, ({ id }) =>
    id === (tee === 'sgx' ? 'QE' : 'TD_QE') ? 1 : 0,
  );
  const info = checkSigned('tcb-info', tcbInfo, setting);
  const identity = checkSigned('qe-identity', qeIdentity, setting, info.signer);
  const rating = tcbInfo && qeIdentity && known ? rate(quote, tcbInfo.value, qeIdentity.value, known) : undefined;
  return {
    claims: readClaims(quote, known, rating && 'status' in rating ? rating : undefined),
    chain: [chain.root, chain.authority, chain.leaf].filter((one) => one !== undefined),
    checks: [
      pass('evidence.quote', describe(quote)),
      ...setting.collateral.unreadable.map((why) => fail('evidence.endorsements', { detail: why })),
      ...checkPckChain(chain, setting),
      ...(platform instanceof DerError ? [fail('evidence.pck-platform', { detail: platform.message })] : []),
      checkCrl('evidence.root-crl', chain.root, [chain.authority, info.signer, identity.signer], setting),
      checkCrl('evidence.pck-crl', chain.authority, [chain.leaf], setting),
      ...info.checks,
      checkInfoFits(tcbInfo?.value, tee, known),
      ...identity.checks,
      ...checkQe(quote.qeReport, qeIdentity?.value, tee),
      ...checkSignatures(quote, chain.leaf),
      ...checkTdxModule(quote.body, tcbInfo?.value),
      checkTcb(rating),
      ...checkAttributes(quote.body),
      skipped(
        'evidence.time',
        'a quote has no time of its own: only a nonce in its report data proves that it is fresh',
      ),
    ],
  };
}

const platforms = new WeakMap<Certificate, PckPlatform | DerError>();

/** Once for each certificate. */
function readPlatform(certificate: Certificate): PckPlatform | DerError {
  const known = platforms.get(certificate) ?? readExtension(certificate.extensions.get(SGX_EXTENSION)?.value);
  platforms.set(certificate, known);
  return known;
}

function readExtension(value: Uint8Array | undefined): PckPlatform | DerError {
  try {
    if (value === undefined) return new DerError('the PCK certificate has no SGX extension');
    return readPckPlatform(value);
  } catch (error) {
    if (error instanceof DerError) return error;
    throw error;
  }
}

/** The best of several: what fits best, then what holds at the time, then the newest evaluation, then the newest issue. */
function choose<T extends TcbInfo | QeIdentity>(
  list: Signed<T>[],
  at: Date,
  rank: (value: T) => number,
): Signed<T> | undefined {
  const key = ({ value }: Signed<T>) => {
    const holds = at >= value.issueDate && at <= value.nextUpdate;
    return [rank(value), Number(holds), value.evaluation, value.issueDate.getTime()];
  };
  const keyed = list.map((item) => ({ item, key: key(item) }));
  keyed.sort((a, b) => b.key.map((value, index) => value - (a.key[index] ?? 0)).find((gap) => gap !== 0) ?? 0);
  return keyed[0]?.item;
}

function infoRank(info: TcbInfo, tee: 'sgx' | 'tdx', platform: PckPlatform | undefined): number {
  const same = info.fmspc === platform?.fmspc && info.pceId === platform?.pceId;
  return (info.id === tee.toUpperCase() ? 2 : 0) + (same ? 1 : 0);
}

/** Only what fits is rated: another machine's levels say nothing. */
function rate(quote: Quote, info: TcbInfo, identity: QeIdentity, platform: PckPlatform): TcbRating | Unrated {
  const { body, qeReport } = quote;
  if (infoRank(info, body.tee, platform) !== 3) return { unrated: 'the TCB info is not of this platform' };
  return rateTcb(info, identity, platform, qeReport, body.tee === 'tdx' ? body.report : undefined);
}

function checkTdxModule(body: QuoteBody, info: TcbInfo | undefined): Check[] {
  if (body.tee === 'sgx') return [];
  const id = 'evidence.tdx-module';
  if (info?.tdxModule === undefined) return [fail(id, { expected: 'TCB info for TDX', actual: info?.id ?? 'none' })];
  const mismatch = checkModule(info, body.report);
  const [svn, version] = body.report.teeTcbSvn;
  return [mismatch ? fail(id, { ...mismatch }) : pass(id, `version ${version}, SVN ${svn}`)];
}

/** Any status but Revoked is a fact for the policy; no status at all is not. */
function checkTcb(rating: TcbRating | Unrated | undefined): Check {
  const id = 'evidence.tcb';
  if (rating === undefined) return fail(id, { detail: 'the platform cannot be rated without the above' });
  if ('unrated' in rating) return fail(id, { detail: rating.unrated });
  const { status, advisories, date } = rating;
  if (status === 'Revoked') return fail(id, { expected: 'a TCB that Intel has not revoked', actual: status });
  return pass(id, `${status} (${date})${advisories.length > 0 ? `: ${advisories.join(', ')}` : ''}`);
}

const describe = ({ version, body, trailing }: Quote): string =>
  `${body.tee.toUpperCase()} quote, version ${version}${trailing > 0 ? `; ${trailing} bytes after it are ignored` : ''}`;

function readClaims(quote: Quote, platform: PckPlatform | undefined, rating: TcbRating | undefined): Claims {
  const { body } = quote;
  const tcb: TcbClaim | undefined = rating && {
    status: rating.status,
    advisories: rating.advisories,
    evaluation: rating.evaluation,
    date: rating.date,
  };
  return {
    tee: body.tee,
    simulated: false,
    measurement: measure(body),
    debug: isDebug(body),
    reportData: body.report.reportData,
    ...(platform === undefined ? {} : { platform: platform.ppid }),
    ...(tcb === undefined ? {} : { tcb }),
    facts: dcapFacts(quote, platform, rating),
  };
}

function measure(body: QuoteBody): Measurement {
  if (body.tee === 'sgx') {
    const { mrenclave, mrsigner, isvProdId: isvprodid, isvSvn: isvsvn } = body.report;
    return { tee: 'sgx', mrenclave: hex(mrenclave), mrsigner: hex(mrsigner), isvprodid, isvsvn };
  }
  const { report } = body;
  const [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmr;
  return {
    tee: 'tdx',
    mrtd: hex(report.mrTd),
    rtmr0: hex(rtmr0),
    rtmr1: hex(rtmr1),
    rtmr2: hex(rtmr2),
    rtmr3: hex(rtmr3),
    mrseam: hex(report.mrSeam),
    mrsignerseam: hex(report.mrSignerSeam),
    mrconfigid: hex(report.mrConfigId),
    mrowner: hex(report.mrOwner),
    mrownerconfig: hex(report.mrOwnerConfig),
    tdattributes: hex(report.tdAttributes),
    xfam: hex(report.xfam),
  };
}
