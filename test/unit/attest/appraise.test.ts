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

  test('a simulated SGX enclave, by its registers and by nothing of a Nitro image', () => {
    const found = {
      tee: 'sgx',
      mrenclave: '0e'.repeat(32),
      mrsigner: '01'.repeat(32),
      isvprodid: 1,
      isvsvn: 2,
    } as const;
    const enclave: Claims = { ...claims, measurement: { ...simulated, of: found } };
    const sgx = { tee: 'sgx', mrsigner: found.mrsigner, isvprodid: 1, min_isvsvn: 1 } as const;
    expect(failed(policy({ any: [{ ...simulated, of: sgx }] }), enclave)).toEqual([]);
    for (const other of [
      { mrsigner: '02'.repeat(32) },
      { mrenclave: '0f'.repeat(32) },
      { isvprodid: 2 },
      { min_isvsvn: 3 },
    ]) {
      expect(failed(policy({ any: [{ ...simulated, of: { ...sgx, ...other } }] }), enclave)).toEqual([
        'policy.measurement',
      ]);
    }
    expect(failed(policy({ any: [{ ...simulated, of: sgx }] }))).toEqual(['policy.measurement']);
    expect(failed(policy(), enclave)).toEqual(['policy.measurement']);
    expect(failed(policy({ any: [sgx] }), enclave)).toEqual(['policy.measurement']);
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

  describe('SGX', () => {
    const measurement = {
      tee: 'sgx',
      mrenclave: '0e'.repeat(32),
      mrsigner: '05'.repeat(32),
      isvprodid: 3,
      isvsvn: 7,
    } as const;
    const tcb = { status: 'SWHardeningNeeded', advisories: ['INTEL-SA-00615'], evaluation: 18 };
    const sgxClaims: Claims = { tee: 'sgx', simulated: false, debug: false, measurement, tcb };
    const { isvsvn: _, ...registers } = measurement;
    const sgx = (more: object = {}, rest: Partial<Policy> = {}) =>
      policy({ any: [{ ...registers, min_isvsvn: 7, ...more }], accept_tcb: ['SWHardeningNeeded'], ...rest });

    test('the enclave, or any newer one of its signer', () => {
      expect(failed(sgx(), sgxClaims)).toEqual([]);
      expect(failed(sgx({ mrenclave: undefined, min_isvsvn: 2 }), sgxClaims)).toEqual([]);
    });

    test.each([{ mrenclave: 'ff'.repeat(32) }, { mrsigner: 'ff'.repeat(32) }, { isvprodid: 4 }, { min_isvsvn: 8 }])(
      'another enclave: %j',
      (more) => expect(failed(sgx(more), sgxClaims)).toEqual(['policy.measurement']),
    );

    test('a TCB status that is not accepted', () => {
      expect(failed(sgx({}, { accept_tcb: undefined }), sgxClaims)).toEqual(['policy.tcb']);
      expect(failed(sgx({}, { accept_tcb: ['OutOfDate'] }), sgxClaims)).toEqual(['policy.tcb']);
      const current = { ...sgxClaims, tcb: { status: 'UpToDate', advisories: [] } };
      expect(failed(sgx({}, { accept_tcb: undefined }), current)).toEqual([]);
    });

    test('revoked is never accepted, whatever the policy says', () => {
      const revoked = { ...sgxClaims, tcb: { status: 'Revoked', advisories: [] } };
      expect(failed(sgx({}, { accept_tcb: ['Revoked'] }), revoked)).toEqual(['policy.tcb']);
    });

    test('collateral that does not know of late bulletins', () => {
      expect(failed(sgx({}, { min_tcb_evaluation: 18 }), sgxClaims)).toEqual([]);
      expect(failed(sgx({}, { min_tcb_evaluation: 19 }), sgxClaims)).toEqual(['policy.tcb']);
      const { evaluation: __, ...silent } = tcb;
      expect(failed(sgx({}, { min_tcb_evaluation: 0 }), { ...sgxClaims, tcb: silent })).toEqual(['policy.tcb']);
    });

    test('an advisory that the owner did not accept', () => {
      expect(failed(sgx({}, { accept_advisories: ['INTEL-SA-00615'] }), sgxClaims)).toEqual([]);
      expect(failed(sgx({}, { accept_advisories: [] }), sgxClaims)).toEqual(['policy.tcb']);
    });
  });

  test('Milan is denied, unless the policy lists the machine', () => {
    const measurement = {
      tee: 'snp',
      measurement: '01'.repeat(48),
      hostdata: '',
      idkeydigest: '',
      authorkeydigest: '',
    } as const;
    const guest = { product: 'Milan', vmpl: 0, migrationAgent: false, platform: 'aa' };
    const snp: Claims = { tee: 'snp', simulated: false, debug: false, measurement, ...guest };
    // No policy names SNP guests yet.
    expect(failed(policy({ any: [of] }), snp)).toEqual(['policy.measurement', 'policy.product']);
    expect(failed(policy({ any: [of], platforms: ['aa'] }), snp)).toEqual(['policy.measurement']);
    expect(failed(policy({ any: [of] }), { ...snp, product: 'Genoa' })).toEqual(['policy.measurement']);
  });

  test('after its end', () => {
    const seconds = Math.floor(now.getTime() / 1000);
    expect(failed(policy({ not_after: seconds + 1 }))).toEqual([]);
    expect(failed(policy({ not_after: seconds - 1 }))).toEqual(['policy.not-after']);
    expect(failed(policy({ not_after: 0 }))).toEqual(['policy.not-after']);
  });
});
