import { type Check, compare, fail, pass, skipped } from '../core/check.ts';
import type { SgxMeasurement } from '../core/measurement.ts';
import type { NitroPolicy, Policy, PolicyMeasurement, SgxPolicy } from '../seal/policy.ts';
import { appraisePlatform } from './acceptance.ts';
import type { Claims } from './types.ts';

const REGISTERS = ['pcr0', 'pcr1', 'pcr2', 'pcr3', 'pcr4', 'pcr8'] as const;

/**
 * Judges verified claims by a release policy; apart from the cryptography, because a refusal is not a forgery. `project` and
 * `model` are the enclave's to check, against its measured configuration. Anything that the policy asks for and the claims do
 * not answer fails.
 */
export function appraise(policy: Policy, claims: Claims, now: Date): Check[] {
  return [
    compare('policy.debug', 'off', claims.debug ? 'on: a debug enclave' : 'off'),
    checkMeasurement(policy.any, claims),
    checkPlatform(policy, claims),
    ...appraisePlatform(claims, {
      tcb: policy.accept_tcb,
      minTcbEvaluation: policy.min_tcb_evaluation,
      advisories: policy.accept_advisories,
      // Whoever lists a machine by its chip id has looked at it, product line included.
      products: policy.platforms === undefined ? [] : [claims.product ?? ''],
    }),
    checkTime(policy, now),
  ];
}

function checkMeasurement(any: PolicyMeasurement[], claims: Claims): Check {
  const id = 'policy.measurement';
  const problems = any.map((wanted) => mismatch(wanted, claims));
  const match = problems.indexOf(undefined);
  if (match >= 0) return pass(id, any.length === 1 ? undefined : `alternative ${match + 1} of ${any.length}`);
  // The nearest alternative is the one that a person wants to read about: usually there is one.
  const [first] = problems;
  return fail(id, {
    expected: first?.expected ?? 'none',
    actual: first?.actual ?? 'none',
    ...(any.length > 1 ? { detail: `none of ${any.length} alternatives holds; the first is shown` } : {}),
  });
}

interface Mismatch {
  expected: string;
  actual: string;
}

function mismatch(wanted: PolicyMeasurement, claims: Claims): Mismatch | undefined {
  const { measurement } = claims;
  if (wanted.tee === 'simulated') {
    if (measurement.tee !== 'simulated') {
      return { expected: 'a simulated TEE', actual: claims.tee };
    }
    if (wanted.root !== measurement.root) {
      return { expected: `simulated root ${wanted.root}`, actual: measurement.root };
    }
    const { of } = measurement;
    if (wanted.of.tee === 'nitro' && of.tee === 'nitro') return differingRegister(wanted.of, claims);
    if (wanted.of.tee === 'sgx' && of.tee === 'sgx') return differingEnclave(wanted.of, of);
    return { expected: `simulated ${wanted.of.tee}`, actual: `simulated ${of.tee}` };
  }
  if (wanted.tee === 'nitro' && measurement.tee === 'nitro') return differingRegister(wanted, claims);
  if (wanted.tee === 'sgx' && measurement.tee === 'sgx') return differingEnclave(wanted, measurement);
  return { expected: wanted.tee, actual: claims.simulated ? 'SIMULATED' : claims.tee };
}

function differingRegister(wanted: NitroPolicy, { pcrs }: Claims): Mismatch | undefined {
  for (const name of REGISTERS) {
    const expected = wanted[name];
    const actual = pcrs?.get(Number(name.slice(3))) ?? 'none';
    if (expected !== undefined && expected !== actual) {
      return { expected: `${name} ${expected}`, actual: `${name} ${actual}` };
    }
  }
  return undefined;
}

/** Without mrenclave any enclave of that signer, product and version does; the version may be newer. */
function differingEnclave(wanted: SgxPolicy, found: SgxMeasurement): Mismatch | undefined {
  for (const name of ['mrenclave', 'mrsigner', 'isvprodid'] as const) {
    const [expected, actual] = [wanted[name], found[name]];
    if (expected !== undefined && expected !== actual) {
      return { expected: `${name} ${expected}`, actual: `${name} ${actual}` };
    }
  }
  return found.isvsvn >= wanted.min_isvsvn
    ? undefined
    : { expected: `isvsvn ${wanted.min_isvsvn} or later`, actual: `isvsvn ${found.isvsvn}` };
}

function checkPlatform({ platforms }: Policy, { platform }: Claims): Check {
  const id = 'policy.platform';
  if (platforms === undefined) return skipped(id, 'the policy names no platforms');
  if (platform !== undefined && platforms.includes(platform)) return pass(id, platform);
  return fail(id, { expected: platforms.join(' or '), actual: platform ?? 'the evidence names no platform' });
}

function checkTime({ not_after }: Policy, now: Date): Check {
  const id = 'policy.not-after';
  if (not_after === undefined) return skipped(id, 'the policy has no end');
  const end = new Date(not_after * 1000);
  if (now.getTime() <= not_after * 1000) return pass(id);
  const text = Number.isNaN(end.getTime()) ? String(not_after) : end.toISOString();
  return fail(id, { expected: `not after ${text}`, actual: now.toISOString() });
}
