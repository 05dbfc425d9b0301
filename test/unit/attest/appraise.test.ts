import { describe, expect, test } from 'vitest';
import {
  appraise,
  type Claims,
  createSimulatedAttester,
  createSimulatedRoot,
  verifyEvidence,
} from '../../../src/attest/index.ts';
import type { Policy } from '../../../src/seal/policy.ts';

const pcrs = { pcr0: '01'.repeat(48), pcr1: '02'.repeat(48), pcr2: '03'.repeat(48) };
const of = { tee: 'nitro', ...pcrs } as const;
const root = await createSimulatedRoot();
const now = new Date();
const evidence = await createSimulatedAttester(root, { ...of, pcr8: '08'.repeat(48) }).attest({});
const { claims } = await verifyEvidence(evidence, { allowSimulated: [root.fingerprint], now });
const base = { project: 'digits', model: 'ab'.repeat(32) };
const simulated = { tee: 'simulated', root: root.fingerprint, of } as const;
const policy = (more: Partial<Policy> = {}): Policy => ({ any: [simulated], ...base, ...more });
const failed = (p: Policy, c: Claims = claims) =>
  appraise(p, c, now)
    .filter((check) => check.status === 'fail')
    .map((check) => check.id);

describe('appraisal', () => {
  test('the measured image', () => expect(failed(policy())).toEqual([]));

  test('any image signed with the key', () =>
    expect(failed(policy({ any: [{ ...simulated, of: { tee: 'nitro', pcr8: '08'.repeat(48) } }] }))).toEqual([]));

  test('one of several alternatives', () => {
    const other = { ...simulated, of: { ...of, pcr1: 'ff'.repeat(48) } };
    expect(failed(policy({ any: [other, simulated] }))).toEqual([]);
    expect(failed(policy({ any: [other, other] }))).toEqual(['policy.measurement']);
  });

  test.each(['pcr0', 'pcr1', 'pcr2', 'pcr3', 'pcr4', 'pcr8'])('another %s', (name) => {
    const any = [{ ...simulated, of: { ...of, [name]: 'ff'.repeat(48) } }];
    const check = appraise(policy({ any }), claims, now).find((c) => c.id === 'policy.measurement');
    expect(check).toMatchObject({ status: 'fail', expected: `${name} ${'ff'.repeat(48)}` });
  });

  test('another simulated root', () =>
    expect(failed(policy({ any: [{ ...simulated, root: `sha256:${'00'.repeat(32)}` }] }))).toEqual([
      'policy.measurement',
    ]));

  test('simulated evidence for a policy of real hardware, with the same registers', () =>
    expect(failed(policy({ any: [of] }))).toEqual(['policy.measurement']));

  test('real evidence for a simulated policy', () =>
    expect(failed(policy(), { ...claims, tee: 'nitro', simulated: false, measurement: of })).toEqual([
      'policy.measurement',
    ]));

  test('a simulated SGX enclave', () => {
    const sgx = { tee: 'sgx', mrsigner: '01'.repeat(32), isvprodid: 1, min_isvsvn: 1 } as const;
    expect(failed(policy({ any: [{ ...simulated, of: sgx }] }))).toEqual(['policy.measurement']);
    expect(failed(policy({ any: [sgx] }))).toEqual(['policy.measurement']);
  });

  test('debug enclave', () => expect(failed(policy(), { ...claims, debug: true })).toEqual(['policy.debug']));

  test('a platform that the evidence does not name', () => {
    expect(failed(policy({ platforms: ['aa'] }))).toEqual(['policy.platform']);
    expect(failed(policy({ platforms: ['aa'] }), { ...claims, platform: 'bb' })).toEqual(['policy.platform']);
    expect(failed(policy({ platforms: ['aa'] }), { ...claims, platform: 'aa' })).toEqual([]);
  });

  test('a TCB that nothing vouches for', () => {
    expect(failed(policy({ accept_tcb: ['UpToDate'] }))).toEqual([]);
    expect(failed(policy(), { ...claims, tee: 'sgx', simulated: false })).toContain('policy.tcb');
  });

  test('after its end', () => {
    const seconds = Math.floor(now.getTime() / 1000);
    expect(failed(policy({ not_after: seconds + 1 }))).toEqual([]);
    expect(failed(policy({ not_after: seconds - 1 }))).toEqual(['policy.not-after']);
    expect(failed(policy({ not_after: 0 }))).toEqual(['policy.not-after']);
  });
});
