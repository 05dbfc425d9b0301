import { describe, expect, test } from 'vitest';
import { NO_ENDORSEMENTS } from '../../../../src/attest/types.ts';
import { verifyEvidence } from '../../../../src/attest/verify.ts';
import { allPass } from '../../../../src/core/check.ts';
import { type Case, check, failed, haveVectors, NOW, SAMPLE, SGX, TDX } from './vectors.ts';

const at = (given: Case, time: string): Case => ({ ...given, at: new Date(time) });

describe.skipIf(!haveVectors)('genuine quotes (reference vectors needed)', () => {
  test('an SGX quote of version 3 verifies at its time, with its status and advisories', async () => {
    const { claims, checks } = check(SGX);
    expect(checks.filter(({ status }) => status === 'fail')).toEqual([]);
    expect(claims).toMatchObject({
      tee: 'sgx',
      debug: false,
      platform: 'd04ec06d4e6d92dc90d0ad3cf5ee2ddf',
      measurement: {
        mrenclave: '33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb',
        mrsigner: '815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6',
        isvprodid: 0,
        isvsvn: 0,
      },
      tcb: {
        status: 'ConfigurationAndSWHardeningNeeded',
        advisories: ['INTEL-SA-00289', 'INTEL-SA-00615'],
        evaluation: 17,
        date: '2024-03-13T00:00:00Z',
      },
    });
    expect(Buffer.from(claims.reportData ?? []).toString('latin1', 0, 13)).toBe('Hello, world!');
    const { quote, ...options } = SGX;
    const same = await verifyEvidence(quote, { allowSimulated: [], now: NOW, tee: 'sgx', ...options });
    expect(same.claims).toEqual(claims);
  });

  test('a TDX 1.5 quote of version 5 verifies at its time', () => {
    const { claims, checks } = check(TDX);
    expect(allPass(checks)).toBe(true);
    expect(claims).toMatchObject({
      tee: 'tdx',
      debug: false,
      platform: '2734b654f553596897eaadfb5667a954',
      tcb: { status: 'UpToDate', advisories: [], evaluation: 18 },
      measurement: {
        tee: 'tdx',
        mrtd: '7348651a34b2d2d3462822e3a750ec6110125f36757c78480bbfc69cc0d21fb001a1ced3ee19747dda8f750c3bc8f876',
        tdattributes: '0000001000000000',
      },
    });
    expect(claims.facts).toMatchObject({ FMSPC: '90c06f000000', 'TCB of the TDX module': 'UpToDate' });
  });

  test('the checks come in the order of the tree, each id once', () => {
    const ids = check(TDX).checks.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.filter((id) => !id.includes('signer'))).toEqual([
      'evidence.quote',
      'evidence.root',
      'evidence.chain',
      'evidence.validity',
      'evidence.valid-now',
      'evidence.pck',
      'evidence.root-crl',
      'evidence.pck-crl',
      'evidence.tcb-info',
      'evidence.tcb-info-time',
      'evidence.tcb-info-platform',
      'evidence.qe-identity',
      'evidence.qe-identity-time',
      'evidence.qe',
      'evidence.qe-debug',
      'evidence.qe-report',
      'evidence.qe-binding',
      'evidence.signature',
      'evidence.tdx-module',
      'evidence.tcb',
      'evidence.attributes',
      'evidence.migration',
      'evidence.debug',
      'evidence.time',
    ]);
  });

  test.each([
    ['SGX, first second', SGX, '2025-06-19T10:56:11Z', []],
    ['SGX, before the TCB info was issued', SGX, '2025-06-19T10:56:10Z', ['evidence.tcb-info-time']],
    ['SGX, last second', SGX, '2025-07-19T10:01:18Z', []],
    ['SGX, after the QE identity', SGX, '2025-07-19T10:01:19Z', ['evidence.qe-identity-time']],
    ['TDX, first second', TDX, '2026-02-18T10:42:15Z', []],
    ['TDX, before the QE identity', TDX, '2026-02-18T10:42:14Z', ['evidence.qe-identity-time']],
    ['TDX, last second', TDX, '2026-03-03T14:49:26Z', []],
    ['TDX, after the TCB info', TDX, '2026-03-03T14:49:27Z', ['evidence.tcb-info-time']],
  ])('%s', (_name, given, time, expected) => expect(failed(at(given, time))).toEqual(expected));

  test('without a time the clock counts, and by it the collateral is stale', () => {
    const { quote, endorsements } = SGX;
    const stale = failed({ quote, endorsements, at: NOW });
    expect(stale).toEqual([
      'evidence.root-crl',
      'evidence.pck-crl',
      'evidence.tcb-info-time',
      'evidence.qe-identity-time',
    ]);
    // The broker's way: valid at its own clock too, whatever `at` says.
    expect(failed(SGX, { maxAgeSeconds: 300 })).toEqual(stale);
  });

  test('Intel’s sample data is refused under the real root and accepted under its own', () => {
    expect(failed(SAMPLE)).toEqual(['evidence.root', 'evidence.tcb-info-signer.root']);
    expect(failed(SAMPLE, { roots: SAMPLE.roots })).toEqual([]);
    const { claims } = check(SAMPLE, { roots: SAMPLE.roots });
    expect(claims.tcb).toMatchObject({ status: 'UpToDate', evaluation: 0 });
    expect(failed(SGX, { roots: SAMPLE.roots })).toContain('evidence.root');
  });

  test('without endorsements everything that needs them fails', () => {
    expect(failed({ ...SGX, endorsements: NO_ENDORSEMENTS })).toEqual([
      'evidence.root-crl',
      'evidence.pck-crl',
      'evidence.tcb-info',
      'evidence.qe-identity',
      'evidence.tcb',
    ]);
  });

  test('TCB info of another FMSPC, collateral of the other TEE', () => {
    expect(failed({ ...SGX, endorsements: { ...SGX.endorsements, tcbInfos: TDX.endorsements.tcbInfos } })).toEqual([
      'evidence.tcb-info-time',
      'evidence.tcb-info-platform',
      'evidence.tcb',
    ]);
    expect(
      failed({ ...SGX, endorsements: { ...SGX.endorsements, qeIdentities: TDX.endorsements.qeIdentities } }),
    ).toEqual(['evidence.qe-identity-time', 'evidence.qe']);
    expect(failed({ ...SGX, endorsements: { ...SGX.endorsements, crls: TDX.endorsements.crls } })).toEqual([
      'evidence.pck-crl',
    ]);
  });

  test('bytes after a quote are ignored and reported', () => {
    const { claims, checks } = check({ ...TDX, quote: Buffer.concat([TDX.quote, Buffer.alloc(70, 1)]) });
    expect(allPass(checks)).toBe(true);
    expect(checks[0]?.detail).toContain('70 bytes after it are ignored');
    expect(claims.facts).toMatchObject({ 'bytes after the quote': '70' });
  });
});
