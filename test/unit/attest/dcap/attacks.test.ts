import { describe, expect, test } from 'vitest';
import { verifyDcap } from '../../../../src/attest/dcap/verify.ts';
import type { Endorsements } from '../../../../src/attest/types.ts';
import { basicConstraints, extension } from '../certificates.ts';
import {
  AT,
  certificate,
  FakeIntel,
  moduleLevel,
  newKey,
  PLATFORM,
  type QuoteRequest,
  SERIAL,
  tcbLevel,
} from './fake-intel.ts';

const intel = new FakeIntel();
const other = new FakeIntel();

interface Attack {
  quote?: QuoteRequest;
  endorsements?: Partial<Endorsements>;
  roots?: Uint8Array[];
  at?: Date;
}

function run({ quote, endorsements, roots = [intel.certificates.root], at = AT }: Attack) {
  const { claims, checks } = verifyDcap(intel.quote(quote), {
    allowSimulated: [],
    now: AT,
    at,
    roots,
    endorsements: intel.endorsements(endorsements),
  });
  return { claims, checks: checks.filter(({ status }) => status === 'fail') };
}
const failed = (attack: Attack) => run(attack).checks.map(({ id }) => id);
const flip = (offset: number, bits: number) => (bytes: Buffer) =>
  bytes.writeUInt8(bytes.readUInt8(offset) ^ bits, offset);

describe('a made-up Intel', () => {
  test.each<[string, QuoteRequest]>([
    ['SGX, version 3', { version: 3 }],
    ['SGX, version 4', { version: 4 }],
    ['SGX, version 5', { version: 5 }],
    ['TDX 1.0, version 4', { version: 4, tee: 'tdx' }],
    ['TDX 1.0, version 5', { version: 5, tee: 'tdx' }],
    ['TDX 1.5, version 5', { version: 5, tee: 'tdx', tdReportLength: 648 }],
    ['TDX with bytes after it', { version: 4, tee: 'tdx', trailing: 39 }],
    ...[1, 2, 3, 7].map((type): [string, QuoteRequest] => [
      `certification data of type ${type}`,
      { certification: { type, data: Buffer.alloc(36) } },
    ]),
  ])('the baseline holds: %s', (_name, quote) => {
    const { pck, signer, authority, root } = intel.certificates;
    const { claims, checks } = run({
      quote,
      endorsements: { certificates: [other.certificates.pck, pck, signer, authority, root] },
    });
    expect(checks).toEqual([]);
    expect(claims.tcb).toMatchObject({ status: 'UpToDate', advisories: [], evaluation: 19 });
    expect(claims.platform).toBe(PLATFORM.ppid.toString('hex'));
  });

  test('endorsements of other vendors, and rubbish among the certificates, are passed over', () => {
    const { certificates } = intel.endorsements();
    const rack = [Buffer.alloc(1500, 0x30), Buffer.from('ARK-Milan'), ...certificates];
    expect(failed({ endorsements: { certificates: rack } })).toEqual([]);
    const broken = Buffer.from(intel.certificates.signer).subarray(1);
    expect(failed({ endorsements: { certificates: [...certificates, broken] } })).toEqual(['evidence.endorsements']);
  });

  test('the newest of several collaterals counts', () => {
    const old = intel.tcbInfo({ tcbEvaluationDataNumber: 3, issueDate: '2026-05-01T00:00:00Z' });
    const tcbInfos = [old, intel.tcbInfo({ tcbEvaluationDataNumber: 17 }), other.tcbInfo({ fmspc: 'FFFFFFFFFFFF' })];
    expect(run({ endorsements: { tcbInfos } }).claims.tcb?.evaluation).toBe(17);
    // A directory may hold those of several months: what holds at the time goes before what is newer.
    const later = intel.tcbInfo({ tcbEvaluationDataNumber: 18, issueDate: '2026-06-02T00:00:00Z' });
    const months = run({ endorsements: { tcbInfos: [later, ...tcbInfos] } });
    expect(months.checks).toEqual([]);
    expect(months.claims.tcb?.evaluation).toBe(17);
  });
});

describe('attacks on the chain', () => {
  test('another root with the same name', () => {
    expect(failed({ roots: [other.certificates.root] })).toContain('evidence.root');
    expect(failed({ roots: [] })).toContain('evidence.root');
  });

  test('a PCK certificate of another root with the same names', () => {
    const quote = { certification: { type: 5, data: Buffer.from(mixedPem()) } };
    expect(failed({ quote })).toEqual(['evidence.chain', 'evidence.qe-report']);
  });

  test('the certificate that signs TCB infos signs a quoting enclave', () => {
    const { signer, root } = intel.certificates;
    const imposter = certificate(
      {
        subject: 'Intel SGX TCB Signing',
        issuer: 'Intel SGX PCK Processor CA',
        serial: 9,
        extensions: [basicConstraints(false), LEAF_USAGE],
      },
      intel.pck.publicKey,
      intel.authority.privateKey,
    );
    const quote = { certification: { type: 5, data: pemOf([imposter, intel.certificates.authority, root]) } };
    expect(failed({ quote, endorsements: { certificates: [signer, root] } })).toEqual([
      'evidence.pck',
      'evidence.pck-platform',
      'evidence.tcb',
    ]);
  });

  test('a chain that skips the authority, or has none at all', () => {
    const { pck, root } = intel.certificates;
    const two = { certification: { type: 5, data: pemOf([pck, root]) } };
    expect(() => run({ quote: two })).toThrowError(expect.objectContaining({ code: 'ERR_EVIDENCE_MALFORMED' }));
    const named = { certification: { type: 3, data: Buffer.alloc(404) } };
    expect(failed({ quote: named })).toEqual([
      'evidence.chain',
      'evidence.root-crl',
      'evidence.pck-crl',
      'evidence.qe-report',
      'evidence.tcb',
    ]);
  });
});

describe('attacks on revocation', () => {
  const crls = (root: Buffer, authority: Buffer) => ({ endorsements: { crls: [root, authority] } });
  const [root, authority] = [intel.crl('root'), intel.crl('authority')];

  test.each<[string, Attack, string]>([
    ['a revoked PCK certificate', crls(root, intel.crl('authority', { revoked: [7, SERIAL.pck] })), 'evidence.pck-crl'],
    ['a revoked authority', crls(intel.crl('root', { revoked: [SERIAL.authority] }), authority), 'evidence.root-crl'],
    [
      'a revoked signer of TCB infos',
      crls(intel.crl('root', { revoked: [SERIAL.signer] }), authority),
      'evidence.root-crl',
    ],
    ['no list of the root', { endorsements: { crls: [authority] } }, 'evidence.root-crl'],
    ['no list of the authority', { endorsements: { crls: [root] } }, 'evidence.pck-crl'],
    [
      'a list of another authority',
      crls(root, intel.crl('authority', { issuer: 'Intel SGX PCK Platform CA' })),
      'evidence.pck-crl',
    ],
    ['a list signed by somebody else', crls(root, intel.crl('authority', {}, newKey())), 'evidence.pck-crl'],
    [
      'a list of the authority signed by the root',
      crls(root, intel.crl('authority', {}, intel.root)),
      'evidence.pck-crl',
    ],
    ['a stale list', crls(root, intel.crl('authority', { nextUpdate: '2026-05-31T23:59:59Z' })), 'evidence.pck-crl'],
    [
      'a list of the future',
      crls(intel.crl('root', { thisUpdate: '2026-06-01T00:00:01Z' }), authority),
      'evidence.root-crl',
    ],
  ])('%s', (_name, attack, expected) => expect(failed(attack)).toEqual([expected]));

  test.each<[string, Buffer]>([
    ['random bytes', Buffer.from('not a revocation list at all, only text')],
    ['an empty file', Buffer.alloc(0)],
    ['a certificate', intel.certificates.root],
    ['a list cut short', authority.subarray(0, -1)],
    ['a list with bytes after it', Buffer.concat([authority, Buffer.alloc(1)])],
    [
      'a partial list (critical scope)',
      intel.crl('authority', { extensions: [extension('2.5.29.28', Buffer.from([0x30, 0]), 0xff)] }),
    ],
    [
      'a delta (critical)',
      intel.crl('authority', { extensions: [extension('2.5.29.27', Buffer.from([2, 1, 1]), 0xff)] }),
    ],
  ])('garbage for a list: %s', (_name, garbage) => {
    expect(failed(crls(root, garbage))).toEqual(['evidence.endorsements', 'evidence.pck-crl']);
  });
});

describe('attacks on signed collateral', () => {
  const info = (tcbInfo: Endorsements['tcbInfos'][number]) => ({ endorsements: { tcbInfos: [tcbInfo] } });
  const identity = (one: Endorsements['qeIdentities'][number]) => ({ endorsements: { qeIdentities: [one] } });
  const genuine = intel.tcbInfo();
  const again = (body: string) => ({ body: Buffer.from(body), signature: genuine.signature });
  const text = Buffer.from(genuine.body).toString();

  test.each<[string, Attack, string[]]>([
    ['the same TCB info written again', info(again(JSON.stringify(JSON.parse(text), null, 1))), ['evidence.tcb-info']],
    ['a blank after it', info(again(`${text} `)), ['evidence.tcb-info']],
    ['another status', info(again(text.replace('UpToDate', 'ConfigurationNeeded'))), ['evidence.tcb-info']],
    ['signed by another key', info(intel.tcbInfo({}, newKey())), ['evidence.tcb-info']],
    ['signed by the PCK key', info(intel.tcbInfo({}, intel.pck)), ['evidence.tcb-info']],
    ['a QE identity signed by another key', identity(intel.qeIdentity({}, newKey())), ['evidence.qe-identity']],
    [
      'the signature of the other file',
      { endorsements: { qeIdentities: [{ ...intel.qeIdentity(), signature: genuine.signature }] } },
      ['evidence.qe-identity'],
    ],
    ['another FMSPC', info(intel.tcbInfo({ fmspc: '00906ED50000' })), ['evidence.tcb-info-platform', 'evidence.tcb']],
    ['another PCEID', info(intel.tcbInfo({ pceId: '0001' })), ['evidence.tcb-info-platform', 'evidence.tcb']],
    ['TCB info for TDX', info(intel.tdxInfo()), ['evidence.tcb-info-platform', 'evidence.tcb']],
    ['TCB info that ended', info(intel.tcbInfo({ nextUpdate: '2026-05-31T23:59:59Z' })), ['evidence.tcb-info-time']],
    ['TCB info of the future', info(intel.tcbInfo({ issueDate: '2026-06-01T00:00:01Z' })), ['evidence.tcb-info-time']],
    [
      'a QE identity that ended',
      identity(intel.qeIdentity({ nextUpdate: '2026-05-31T23:59:59Z' })),
      ['evidence.qe-identity-time'],
    ],
    ['no TCB info', { endorsements: { tcbInfos: [] } }, ['evidence.tcb-info', 'evidence.tcb']],
    ['no QE identity', { endorsements: { qeIdentities: [] } }, ['evidence.qe-identity', 'evidence.tcb']],
    [
      'TCB info that is no JSON',
      info(intel.signed('{"id":')),
      ['evidence.endorsements', 'evidence.tcb-info', 'evidence.tcb'],
    ],
    [
      'an unknown status',
      info(intel.tcbInfo({ tcbLevels: [{ tcb: {}, tcbStatus: 'Fine' }] })),
      ['evidence.endorsements', 'evidence.tcb-info', 'evidence.tcb'],
    ],
    [
      'TCB info of version 1',
      info(intel.tcbInfo({ version: 1 })),
      ['evidence.endorsements', 'evidence.tcb-info', 'evidence.tcb'],
    ],
  ])('%s', (_name, attack, expected) => expect(failed(attack)).toEqual(expected));

  test('a signer that another Intel certified', () => {
    const { authority, root } = intel.certificates;
    const certificates = [other.certificates.signer, authority, root, other.certificates.root];
    const attack = { certificates, tcbInfos: [other.tcbInfo()], qeIdentities: [other.qeIdentity()] };
    expect(failed({ endorsements: attack })).toEqual(['evidence.tcb-info-signer.root']);
  });

  test('no certificate of the signer', () => {
    expect(failed({ endorsements: { certificates: [intel.certificates.root] } })).toEqual([
      'evidence.tcb-info-signer',
      'evidence.qe-identity-signer',
    ]);
  });
});

describe('attacks on the quoting enclave', () => {
  test.each<[string, Attack, string[]]>([
    ['another signer', { quote: { qeReport: flip(128, 1) } }, ['evidence.qe']],
    ['another product', { quote: { qeReport: flip(256, 1) } }, ['evidence.qe']],
    ['another MISCSELECT', { quote: { qeReport: flip(16, 1) } }, ['evidence.qe']],
    ['another attribute', { quote: { qeReport: flip(48, 0x20) } }, ['evidence.qe']],
    ['an attribute that the mask leaves open', { quote: { qeReport: flip(48, 0x04) } }, []],
    ['a debug quoting enclave', { quote: { qeReport: flip(48, 0x02) } }, ['evidence.qe', 'evidence.qe-debug']],
    [
      'an identity for the other TEE',
      { endorsements: { qeIdentities: [intel.qeIdentity({ id: 'TD_QE' })] } },
      ['evidence.qe'],
    ],
    ['another attestation key', { quote: { qeReport: flip(320, 1) } }, ['evidence.qe-binding']],
    ['something in the second half of its report data', { quote: { qeReport: flip(383, 1) } }, ['evidence.qe-binding']],
    ['an SVN below every level', { quote: { qeReport: (bytes) => bytes.writeUInt16LE(3, 258) } }, ['evidence.tcb']],
  ])('%s', (_name, attack, expected) => expect(failed(attack)).toEqual(expected));
});

describe('attacks on the enclave and the domain', () => {
  const td = (report: (bytes: Buffer) => void, tdReportLength: 584 | 648 = 584): Attack => ({
    quote: { version: 5, tee: 'tdx', tdReportLength, report },
  });
  test.each<[string, Attack, string[]]>([
    ['a debug enclave', { quote: { report: flip(48, 0x02) } }, ['evidence.debug']],
    ['a reserved attribute of SGX', { quote: { report: flip(48, 0x08) } }, ['evidence.attributes']],
    ['a high reserved attribute of SGX', { quote: { report: flip(55, 0x80) } }, ['evidence.attributes']],
    ['KSS and AEX notify are no debug', { quote: { report: (b) => b.writeUInt16LE(0x485, 48) } }, []],
    ['a debug domain', td(flip(120, 0x01)), ['evidence.debug']],
    ...[1, 2, 3, 4, 5, 6, 7].map((bit): [string, Attack, string[]] => [
      `TUD bit ${bit}`,
      td(flip(120, 1 << bit)),
      ['evidence.debug'],
    ]),
    ['a reserved attribute of TDX', td(flip(121, 0x01)), ['evidence.attributes']],
    ['a migratable domain', td(flip(123, 0x20)), ['evidence.migration']],
    ['a service domain', td(flip(600, 0x01), 648), ['evidence.migration']],
    ['a TDX module of another signer', td(flip(64, 1)), ['evidence.tdx-module']],
    ['a TDX module with attributes', td(flip(112, 1)), ['evidence.tdx-module']],
    ['a TDX module of an unknown version', td((b) => b.writeUInt8(2, 1)), ['evidence.tdx-module', 'evidence.tcb']],
  ])('%s', (_name, attack, expected) => {
    const { claims, checks } = run(attack);
    expect(checks.map(({ id }) => id)).toEqual(expected);
    expect(claims.debug).toBe(expected.includes('evidence.debug'));
  });

  test('a TDX module with attributes, even if the TCB info has the same', () => {
    const odd = { mrsigner: '00'.repeat(48), attributes: `01${'00'.repeat(7)}`, attributesMask: 'FF'.repeat(8) };
    const tdxModuleIdentities = [{ id: 'TDX_01', ...odd, tcbLevels: [moduleLevel(6, 'UpToDate')] }];
    const endorsements = { tcbInfos: [intel.tdxInfo({ tdxModuleIdentities })] };
    expect(failed({ ...td(flip(112, 1)), endorsements })).toEqual(['evidence.tdx-module']);
  });

  test('a debug enclave is named as that', () => {
    const { checks } = run({ quote: { report: flip(48, 0x02) } });
    expect(checks[0]?.actual).toMatch(/^on: a debug enclave/);
  });
});

describe('what a rating comes to', () => {
  const level = (status: string) =>
    intel.tcbInfo({ tcbLevels: [tcbLevel(5, 11, status, { advisoryIDs: ['INTEL-SA-00001'] })] });

  test.each(['SWHardeningNeeded', 'ConfigurationNeeded', 'OutOfDate', 'OutOfDateConfigurationNeeded'])(
    '%s is a fact for the policy',
    (status) => {
      const { claims, checks } = run({ endorsements: { tcbInfos: [level(status)] } });
      expect(checks).toEqual([]);
      expect(claims.tcb).toMatchObject({ status, advisories: ['INTEL-SA-00001'] });
    },
  );

  test('a revoked TCB is refused, and named', () => {
    const { claims, checks } = run({ endorsements: { tcbInfos: [level('Revoked')] } });
    expect(checks).toEqual([
      { id: 'evidence.tcb', status: 'fail', expected: 'a TCB that Intel has not revoked', actual: 'Revoked' },
    ]);
    expect(claims.tcb?.status).toBe('Revoked');
  });

  test('a TDX 1.5 domain that should be started again', () => {
    const report = (bytes: Buffer) => {
      bytes.writeUInt8(3, 0);
      bytes.fill(4, 584, 600).writeUInt8(6, 584);
      bytes.writeUInt8(1, 585);
    };
    const { claims, checks } = run({ quote: { version: 5, tee: 'tdx', tdReportLength: 648, report } });
    expect(checks).toEqual([]);
    expect(claims.tcb).toMatchObject({ status: 'TDRelaunchAdvised', advisories: ['INTEL-SA-00002'] });
  });
});

describe('live verification', () => {
  const verify = (at: Date, now: Date) =>
    verifyDcap(intel.quote(), {
      allowSimulated: [],
      at,
      now,
      maxAgeSeconds: 300,
      roots: [intel.certificates.root],
      endorsements: intel.endorsements(),
    })
      .checks.filter(({ status }) => status === 'fail')
      .map(({ id }) => id);

  test('collateral has to hold by the verifier’s clock, whatever time was asked for', () => {
    expect(verify(AT, AT)).toEqual([]);
    expect(verify(AT, new Date('2026-07-01T00:00:00Z'))).toEqual([
      'evidence.tcb-info-time',
      'evidence.qe-identity-time',
    ]);
    expect(verify(AT, new Date('2050-01-01T00:00:00Z'))).toEqual([
      'evidence.valid-now',
      'evidence.root-crl',
      'evidence.pck-crl',
      'evidence.tcb-info-signer.valid-now',
      'evidence.tcb-info-time',
      'evidence.qe-identity-time',
    ]);
  });
});

const LEAF_USAGE = extension('2.5.29.15', Buffer.from([3, 2, 6, 0xc0]), 0xff);

function pemOf(certificates: Buffer[]): Buffer {
  const blocks = certificates.map(
    (der) => `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`,
  );
  return Buffer.from(blocks.join(''));
}

function mixedPem(): Buffer {
  return pemOf([other.certificates.pck, intel.certificates.authority, intel.certificates.root]);
}
