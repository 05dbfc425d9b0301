import { type Check, compare, fail, pass, skipped } from '../../core/check.ts';
import type { Certificate } from '../certificate.ts';
import { verifyChain } from '../chain.ts';
import { checkRevocation } from '../crl.ts';
import type { VerifyEvidenceOptions } from '../types.ts';
import { findSigningChain, NAMES, nameOf, type PckChain } from './chains.ts';
import type { Collateral, Signed } from './collateral.ts';
import { isoTime } from './json.ts';
import type { PckPlatform } from './pck.ts';
import type { QeIdentity } from './qe-identity.ts';
import type { TcbInfo } from './tcb-info.ts';

/** What every check needs to know. */
export interface Setting {
  collateral: Collateral;
  roots: Certificate[];
  fingerprints: string[];
  note: string;
  at: Date;
  options: VerifyEvidenceOptions;
}

const KEYS = { authority: 'P-256', leaf: 'P-256' } as const;

const chainOptions = ({ fingerprints, note, at, options }: Setting) => ({
  roots: fingerprints,
  note,
  at,
  now: options.now,
  current: options.maxAgeSeconds !== undefined,
  keys: KEYS,
});

/** The chain of the PCK certificate and what its certificates are called. */
export function checkPckChain({ root, authority, leaf }: PckChain, setting: Setting): Check[] {
  if (root === undefined || authority === undefined || leaf === undefined) {
    const missing = leaf === undefined ? 'PCK certificate' : authority === undefined ? 'PCK authority' : 'root';
    return [
      fail('evidence.chain', {
        expected: 'a PCK certificate chain, in the quote or among the endorsements',
        actual: `no ${missing}`,
      }),
    ];
  }
  const names = { [NAMES.root]: nameOf(root), [NAMES.pckAuthority]: nameOf(authority), [NAMES.pck]: nameOf(leaf) };
  const wrong = Object.entries(names).find(([part, name]) => !name.includes(part));
  return [
    ...verifyChain([root, authority, leaf], chainOptions(setting)),
    wrong === undefined
      ? pass('evidence.pck', `${nameOf(leaf)} by ${nameOf(authority)}`)
      : fail('evidence.pck', { expected: `a name with "${wrong[0]}"`, actual: wrong[1] || 'no common name' }),
  ];
}

/**
 * A signed JSON object of Intel's: its signer's chain (unless the signer is `known`, whose chain was shown already), the
 * signature over its exact bytes, its time.
 */
export function checkSigned(
  what: 'tcb-info' | 'qe-identity',
  found: Signed<TcbInfo | QeIdentity> | undefined,
  setting: Setting,
  known?: Certificate,
): { checks: Check[]; signer: Certificate | undefined } {
  const id = `evidence.${what}`;
  const title = what === 'tcb-info' ? 'TCB info' : 'QE identity';
  if (found === undefined) {
    const missing = { expected: `${title} of Intel, among the endorsements`, actual: 'none' };
    return { checks: [fail(id, missing)], signer: undefined };
  }
  const { signed, leaf, root } = findSigningChain(found.signed, setting.collateral, setting.roots);
  if (leaf === undefined || root === undefined) {
    const missing = { expected: `a certificate "${NAMES.tcbSigning}" and its root`, actual: 'none' };
    return { checks: [fail(`${id}-signer`, missing)], signer: undefined };
  }
  const shown = known?.fingerprint === leaf.fingerprint;
  const chain = shown ? [] : verifyChain([root, leaf], { ...chainOptions(setting), prefix: `${id}-signer` });
  const signature = signed
    ? pass(id, `signed by ${nameOf(leaf)}; evaluation number ${found.value.evaluation}`)
    : fail(id, { detail: `the signature is not ${nameOf(leaf)}’s over these exact bytes` });
  return { checks: [...chain, signature, ...checkPeriod(`${id}-time`, found.value, setting)], signer: leaf };
}

/** Collateral of Intel's says from when to when it counts. */
function checkPeriod(
  id: string,
  { issueDate, nextUpdate }: { issueDate: Date; nextUpdate: Date },
  { at, options }: Setting,
): Check[] {
  const period = `${isoTime(issueDate)} to ${isoTime(nextUpdate)}`;
  const holds = (time: Date) => time >= issueDate && time <= nextUpdate;
  if (!holds(at)) return [fail(id, { expected: `a time in ${period}`, actual: at.toISOString() })];
  if (holds(options.now)) return [pass(id, period)];
  const { now, maxAgeSeconds } = options;
  if (maxAgeSeconds !== undefined) return [fail(id, { expected: `a time in ${period}`, actual: now.toISOString() })];
  return [pass(id, `${period}; by the clock (${now.toISOString()}) it does not hold now`)];
}

/** Intel publishes a list of each authority; without it nobody knows, and that fails. */
export function checkCrl(
  id: string,
  issuer: Certificate | undefined,
  certificates: (Certificate | undefined)[],
  { collateral, at, options }: Setting,
): Check {
  const given = certificates.filter((one) => one !== undefined);
  if (issuer === undefined) return fail(id, { detail: 'there is no chain whose revocation could be checked' });
  // Live verification has to hold at the clock too.
  const times = options.maxAgeSeconds === undefined ? [at] : [at, options.now];
  const checks = times.map((time) => checkRevocation(id, given, issuer, collateral.crls, time));
  const [check] = [...checks.filter(({ status }) => status !== 'pass'), ...checks];
  if (check?.status !== 'skipped') return check as Check;
  return fail(id, { expected: `a revocation list of ${nameOf(issuer)}, among the endorsements`, actual: 'none' });
}

/** TCB info is for one kind of TEE and one kind of machine. */
export function checkInfoFits(info: TcbInfo | undefined, tee: 'sgx' | 'tdx', platform: PckPlatform | undefined): Check {
  const id = 'evidence.tcb-info-platform';
  if (info === undefined || platform === undefined) {
    return skipped(id, info === undefined ? 'there is no TCB info' : 'the PCK certificate names no platform');
  }
  const describe = (name: string, fmspc: string, pceId: string) => `${name}, FMSPC ${fmspc}, PCEID ${pceId}`;
  return compare(
    id,
    describe(tee.toUpperCase(), platform.fmspc, platform.pceId),
    describe(info.id, info.fmspc, info.pceId),
  );
}
