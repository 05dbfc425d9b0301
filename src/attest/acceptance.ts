import { type Check, compare, fail, pass, skipped } from '../core/check.ts';
import type { Claims } from './types.ts';

/** What a verifier accepts of a platform beyond what anybody should: flags of `verify`, fields of a release policy. */
export interface Acceptance {
  /** Intel's status names; only "UpToDate" by default. "Revoked" is never accepted. */
  tcb?: string[] | undefined;
  /** Least tcbEvaluationDataNumber. */
  minTcbEvaluation?: number | undefined;
  /** The only advisories that may be open; absent: the status speaks for them. */
  advisories?: string[] | undefined;
  /** Product lines accepted although they are denied by default ("Milan"). */
  products?: string[] | undefined;
  /** SNP: the least privileged level whose reports count; 0 (the highest) by default. */
  vmpl?: number | undefined;
}

/** Product lines whose evidence proves little, and why. */
const DENIED: Record<string, string> = {
  Milan:
    'VCEK seeds of Milan were extracted with software alone (arXiv 2605.12990): whoever owns such a machine can forge its reports',
};
const NEVER = 'Revoked';

/**
 * Judges the machine behind verified claims: product line, TCB status, privilege, migration. Apart from the cryptography,
 * because a refusal is not a forgery. What a TEE has nothing of is skipped.
 */
export function appraisePlatform(claims: Claims, acceptance: Acceptance = {}): Check[] {
  return [checkTcb(claims, acceptance), ...(claims.tee === 'snp' ? checkSnp(claims, acceptance) : [])];
}

function checkTcb(
  { tee, tcb }: Claims,
  { tcb: accepted = ['UpToDate'], advisories, minTcbEvaluation }: Acceptance,
): Check {
  const id = 'policy.tcb';
  if (tee !== 'sgx' && tee !== 'tdx') return skipped(id, `${tee} evidence has no TCB status`);
  if (tcb === undefined) return fail(id, { expected: accepted.join(' or '), actual: 'no TCB status' });
  if (!accepted.includes(tcb.status) || tcb.status === NEVER) {
    const open = tcb.advisories.length > 0 ? ` (${tcb.advisories.join(', ')})` : '';
    return fail(id, {
      expected: accepted.filter((s) => s !== NEVER).join(' or ') || 'none',
      actual: `${tcb.status}${open}`,
    });
  }
  if (minTcbEvaluation !== undefined && !((tcb.evaluation ?? -1) >= minTcbEvaluation)) {
    const actual = String(tcb.evaluation ?? 'none');
    return fail(id, { expected: `TCB evaluation data number ${minTcbEvaluation} or later`, actual });
  }
  const open = advisories && tcb.advisories.filter((advisory) => !advisories.includes(advisory));
  if (open !== undefined && open.length > 0) {
    return fail(id, { expected: advisories?.join(', ') || 'no advisory', actual: open.join(', ') });
  }
  return pass(id, [tcb.status, ...tcb.advisories].join(', '));
}

function checkSnp({ product, vmpl, migrationAgent }: Claims, { products = [], vmpl: least = 0 }: Acceptance): Check[] {
  const reason = DENIED[product ?? ''];
  const accepted = products.some((name) => name.toLowerCase() === product?.toLowerCase());
  return [
    reason === undefined || accepted
      ? pass('policy.product', `${product}${reason === undefined ? '' : `, accepted by name: ${reason}`}`)
      : fail('policy.product', {
          expected: `a product line other than ${product}`,
          actual: `${product}`,
          detail: reason,
        }),
    vmpl !== undefined && vmpl <= least
      ? pass('policy.vmpl', `VMPL ${vmpl}`)
      : fail('policy.vmpl', {
          expected: `VMPL ${least}${least > 0 ? ' or higher privilege' : ''}`,
          actual: `VMPL ${vmpl}`,
        }),
    compare(
      'policy.migration',
      'no migration agent',
      migrationAgent === false ? 'no migration agent' : 'a migration agent may take the guest elsewhere',
    ),
  ];
}
