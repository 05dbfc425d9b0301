import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { appraisePlatform, type VerifyEvidenceOptions, verifyEvidence } from '../../../src/attest/index.ts';
import { AMD_ROOTS } from '../../../src/attest/roots/amd.ts';
import { fromPem } from '../../../src/attest/roots/pinned.ts';
import { parseReport } from '../../../src/attest/snp/report.ts';
import { lineOfCpu } from '../../../src/attest/snp/tcb.ts';
import { verifySnp } from '../../../src/attest/snp/verify.ts';
import { hex } from '../../../src/core/bytes.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { basicConstraints, extension, newKey, rawCrl, SIGN_CERTIFICATES, SIGN_DATA, utc } from './certificates.ts';
import {
  ASK_SERIAL,
  ark,
  ask,
  CHIP,
  endorse,
  keys,
  LEVELS,
  now,
  oldTcb,
  type ReportChange,
  snpReport,
  trust,
  turinTcb,
  type VekChange,
  vek,
} from './snp-fixture.ts';

const failed = (report: Uint8Array, options: VerifyEvidenceOptions = trust()): string[] =>
  verifySnp(report, options)
    .checks.filter(({ status }) => status === 'fail')
    .map(({ id }) => id);
const check = (report: Uint8Array, id: string, options: VerifyEvidenceOptions = trust()) =>
  verifySnp(report, options).checks.find((one) => one.id === id);
const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'none';
};
const turin = { bl: 1, tee: 1, snp: 3, ucode: 66, fmc: 7 };
const turinChip = Buffer.concat([Buffer.from('0123456789abcdef', 'hex')], 64);
const turinVek: VekChange = { product: 'Turin-C1', levels: turin, hwid: turinChip.subarray(0, 8) };
const turinReport: ReportChange = { version: 5, cpuid: [0x1a, 2, 1], tcb: turinTcb(turin), chipId: turinChip };

describe.skipIf(!haveVectors)('a report that AMD hardware signed (reference vectors)', () => {
  const open = (file: string) => readFileSync(vectors('snp', file));
  const report = haveVectors ? open('google-milan-report.bin') : Buffer.alloc(0);
  const vcek = haveVectors ? open('google-milan-vcek.der') : Buffer.alloc(0);
  const options = { allowSimulated: [], now, endorsements: endorse([vcek]) };

  test('verifies to the pinned root; that its guest may be debugged is said and refused', async () => {
    const { claims, checks } = await verifyEvidence(report, options);
    expect(checks.map(({ id, status }) => [id, status])).toEqual([
      ['evidence.root', 'pass'],
      ['evidence.chain', 'pass'],
      ['evidence.validity', 'pass'],
      ['evidence.valid-now', 'pass'],
      ['evidence.revocation', 'skipped'],
      ['evidence.product', 'pass'],
      ['evidence.signing-key', 'pass'],
      ['evidence.chip', 'pass'],
      ['evidence.tcb', 'pass'],
      ['evidence.tcb-committed', 'pass'],
      ['evidence.signature', 'pass'],
      ['evidence.time', 'skipped'],
      ['evidence.debug', 'fail'],
    ]);
    expect(claims).toMatchObject({
      tee: 'snp',
      debug: true,
      product: 'Milan',
      vmpl: 0,
      platform: hex(report.subarray(0x1a0, 0x1e0)),
      measurement: { tee: 'snp', measurement: hex(report.subarray(0x90, 0xc0)) },
      facts: { reportedTcb: 'bootloader 2, tee 0, snp 5, microcode 68', firmware: '1.49.3' },
    });
  });

  test('Milan is denied by default, with the reason', async () => {
    const { claims } = await verifyEvidence(report, options);
    expect(appraisePlatform(claims).find(({ status }) => status === 'fail')).toMatchObject({
      id: 'policy.product',
      detail: expect.stringContaining('arXiv 2605.12990'),
    });
    expect(appraisePlatform(claims, { products: ['milan'] }).filter(({ status }) => status === 'fail')).toEqual([]);
  });

  test('after the VCEK has expired', () => {
    expect(failed(report, { ...options, at: new Date('2029-09-24T00:55:29Z') })).toContain('evidence.validity');
    expect(failed(report, { ...options, at: new Date('2022-09-24T00:55:27Z') })).toContain('evidence.validity');
  });

  test('under the root of another product line', () => {
    const roots = fromPem(AMD_ROOTS.Genoa.pem);
    expect(failed(report, { ...options, roots })).toContain('evidence.root');
    const milan = fromPem(AMD_ROOTS.Milan.pem);
    expect(check(report, 'evidence.root', { ...options, roots: milan })).toMatchObject({
      status: 'pass',
      detail: expect.stringContaining('given by --root'),
    });
  });

  test('the ASK may also be given', () => {
    const given = fromPem(open('google-milan-ask-ark.pem').toString());
    expect(failed(report, { ...options, endorsements: endorse([...given, vcek]) })).toEqual(['evidence.debug']);
  });
});

describe('reports of each generation, under an ARK of our own', () => {
  test.each<[string, ReportChange, VekChange]>([
    ['Milan, version 2', { version: 2 }, { product: 'Milan-B1' }],
    ['Genoa, version 3', {}, {}],
    ['Genoa, version 2', { version: 2 }, {}],
    ['Bergamo, version 3', { cpuid: [0x19, 0xa0, 2] }, { product: 'Genoa-B1' }],
    ['Siena, version 3', { cpuid: [0x19, 0xa0, 2] }, { product: 'Siena-B0' }],
    ['Turin, version 5', turinReport, turinVek],
    ['Turin, version 2', { ...turinReport, version: 2 }, turinVek],
    ['Turin, dense', { ...turinReport, cpuid: [0x1a, 0x11, 0] }, turinVek],
  ])('%s', (_, report, key) => expect(failed(snpReport(report), trust([ask(), vek(key)]))).toEqual([]));

  test('what a report says', () => {
    const { claims } = verifySnp(snpReport(turinReport), trust([ask(), vek(turinVek)]));
    expect(claims).toMatchObject({
      product: 'Turin',
      platform: hex(turinChip),
      reportData: Buffer.alloc(64, 0xda),
      migrationAgent: false,
      facts: {
        product: 'Turin-C1',
        policy: 'ABI 1.55, smt',
        platformInfo: 'smt, ecc, alias-check-complete',
        reportedTcb: 'fmc 7, bootloader 1, tee 1, snp 3, microcode 66',
        mitigations: 'launch 0x0, current 0x0',
        cpuid: 'family 0x1a model 0x2 stepping 1',
      },
    });
  });

  test('a VLEK', () => {
    const report = snpReport({ keyInfo: 1 << 2, chipId: Buffer.alloc(64) });
    const options = trust([ask(), vek({ csp: 'cloud.example' })]);
    expect(failed(report, options)).toEqual([]);
    expect(check(report, 'evidence.signing-key', options)?.detail).toBe('VLEK of cloud.example');
    expect(verifySnp(report, options).claims.platform).toBeUndefined();
  });

  test('a masked chip id: said, and the VCEK names the chip', () => {
    const report = snpReport({ chipId: Buffer.alloc(64) });
    expect(failed(report)).toEqual([]);
    expect(check(report, 'evidence.chip')).toMatchObject({
      status: 'skipped',
      detail: expect.stringContaining('masked'),
    });
    expect(verifySnp(report, trust()).claims.platform).toBe(hex(CHIP));
  });

  test('the right VCEK of many', () => {
    const others = [
      vek({ hwid: Buffer.alloc(64, 1) }),
      vek({ levels: { ...LEVELS, ucode: 1 } }),
      vek({ csp: 'cloud.example' }),
      Buffer.from('rubbish'),
    ];
    expect(failed(snpReport(), trust([...others, ask(), vek()]))).toEqual([]);
  });
});

describe('many endorsements', () => {
  const rack = Array.from({ length: 40 }, (_, i) =>
    vek({ hwid: Buffer.alloc(64, i + 1), certificate: { publicKey: newKey().publicKey, serial: Buffer.from([1, i]) } }),
  );

  test('the VCEK of this chip, and no other is looked at', () =>
    expect(failed(snpReport(), trust([...rack, ask(), vek()]))).toEqual([]));

  test('where the chip id is masked, the VCEK whose key signed', () => {
    const report = snpReport({ chipId: Buffer.alloc(64) });
    expect(failed(report, trust([...rack, ask(), vek()]))).toEqual([]);
    expect(verifySnp(report, trust([...rack, ask(), vek()])).claims.platform).toBe(hex(CHIP));
    expect(failed(report, trust([...rack, ask()]))).toEqual(['evidence.signature']);
  });

  test('only those of other chips: named', () =>
    expect(failed(snpReport(), trust([...rack, ask()]))).toEqual(['evidence.chip', 'evidence.signature']));
});

describe('hostile reports', () => {
  test.each<[string, ReportChange, string[]]>([
    ['signed by another key', { signer: newKey().privateKey }, ['evidence.signature']],
    ['of another chip', { chipId: Buffer.alloc(64, 1) }, ['evidence.chip']],
    ['of older firmware than the VCEK’s', { reported: oldTcb({ ...LEVELS, snp: 22 }) }, ['evidence.tcb']],
    [
      'with TCB bytes that Genoa has not',
      { reported: Buffer.from([4, 0, 1, 0, 0, 0, 23, 211]) },
      ['evidence.tcb', 'evidence.tcb-committed'],
    ],
    ['with firmware that is not committed', { committed: oldTcb({ ...LEVELS, bl: 3 }) }, ['evidence.tcb-committed']],
    [
      'with committed firmware that does not run',
      { current: oldTcb({ ...LEVELS, ucode: 210 }) },
      ['evidence.tcb-committed'],
    ],
    ['of a processor of another line', { cpuid: [0x1a, 2, 1] }, ['evidence.product']],
    ['of an unknown processor', { cpuid: [0x17, 0x31, 0] }, ['evidence.product']],
    ['that says VLEK, with a VCEK', { keyInfo: 1 << 2 }, ['evidence.signing-key']],
    ['that says unsigned', { keyInfo: 7 << 2 }, ['evidence.signing-key']],
    ['with the chip key masked', { keyInfo: 2 }, ['evidence.signing-key']],
    ['of a guest that may be debugged', { policy: 0xb0137n }, ['evidence.debug']],
  ])('%s', (_, change, expected) => expect(failed(snpReport(change))).toEqual(expected));

  test.each<[string, ReportChange]>([
    ['version 1', { version: 1 }],
    ['version 6', { version: 6 }],
    ['no bit 17 in its policy', { policy: 0x10137n }],
    ['an unknown bit in its policy', { policy: 0x30137n | (1n << 26n) }],
    ['the highest bit in its policy', { policy: 0x30137n | (1n << 63n) }],
    ['a reserved signing key', { keyInfo: 2 << 2 }],
    ['unknown key information', { keyInfo: 1 << 5 }],
    ['another signature algorithm', { bytes: [[0x34, Buffer.from([2])]] }],
    ['something in 0x4c', { bytes: [[0x4c, Buffer.from([1])]] }],
    ['a CPUID in version 2', { version: 2, bytes: [[0x188, Buffer.from([0x19])]] }],
    ['something after the CPUID', { bytes: [[0x18b, Buffer.from([1])]] }],
    ['mitigations in version 3', { bytes: [[0x1f8, Buffer.from([1])]] }],
    ['something in 0x208 of version 5', { ...turinReport, bytes: [[0x208, Buffer.from([1])]] }],
    ['something before the signature', { bytes: [[0x29f, Buffer.from([1])]] }],
  ])('malformed: %s', (_, change) => expect(code(() => parseReport(snpReport(change)))).toBe('ERR_EVIDENCE_MALFORMED'));

  test.each<[string, number]>([
    ['r longer than 48 bytes', 0x2a0 + 48],
    ['s longer than 48 bytes', 0x2a0 + 72 + 48],
    ['bytes after the signature', 0x2a0 + 144],
    ['the last byte', 1183],
  ])('malformed: %s', (_, offset) => {
    const report = snpReport();
    report[offset] = 1;
    expect(code(() => parseReport(report))).toBe('ERR_EVIDENCE_MALFORMED');
  });

  test('cut, or with bytes after it', () => {
    const report = snpReport();
    for (let length = 0; length < report.length; length++)
      expect(code(() => parseReport(report.subarray(0, length)))).toBe('ERR_EVIDENCE_MALFORMED');
    expect(code(() => parseReport(Buffer.concat([report, Buffer.from([0])])))).toBe('ERR_EVIDENCE_MALFORMED');
  });

  test('a signature of zeros', () => {
    const report = snpReport();
    report.fill(0, 0x2a0);
    expect(failed(report)).toEqual(['evidence.signature']);
  });
});

describe('hostile endorsements', () => {
  test('none: the error says which is wanted', () => {
    for (const certificates of [[], [ask()], [Buffer.from('rubbish')]])
      expect(() => verifySnp(snpReport(), trust(certificates))).toThrow(
        expect.objectContaining({
          code: 'ERR_ENDORSEMENTS_MISSING',
          exitCode: 5,
          hint: expect.stringContaining(hex(CHIP)),
        }),
      );
  });

  test('without the ASK there is no chain', () =>
    expect(failed(snpReport(), trust([vek()]))).toEqual(['evidence.root', 'evidence.chain']));

  test('no root of ours by default', () => {
    const { roots: _, ...options } = trust([ark, ask(), vek()]);
    expect(failed(snpReport(), options)).toEqual(['evidence.root']);
  });

  const other = newKey();
  test.each<[string, Buffer[], string]>([
    ['an ASK of the same name with another key', [ask({ publicKey: keys.ark.publicKey }), vek()], 'not its issuer'],
    ['an ASK that another ARK signed', [ask({}, keys.ask.privateKey), vek()], 'not its issuer'],
    [
      'an ASK that is no authority',
      [ask({ extensions: [basicConstraints(false), SIGN_CERTIFICATES] }), vek()],
      'certificates below the root',
    ],
    [
      'an ASK that may only sign data',
      [ask({ extensions: [basicConstraints(true), SIGN_DATA] }), vek()],
      'keyCertSign',
    ],
    ['a VCEK that the ARK signed', [ask(), vek({ certificate: { issuer: 'ARK' } })], 'not its issuer'],
    ['a VCEK that nobody signed', [ask(), vek({ issuerKey: other.privateKey })], 'not its issuer'],
    ['a VCEK on another curve', [ask(), vek({ certificate: { publicKey: newKey('P-256').publicKey } })], 'P-384'],
    [
      'a VCEK that may only encrypt',
      [ask(), vek({ more: [basicConstraints(false), extension('2.5.29.15', Buffer.from('03020520', 'hex'))] })],
      'digitalSignature',
    ],
    [
      'an unknown critical extension',
      [ask(), vek({ more: [extension('1.2.3.4', Buffer.from([5, 0]), 0xff)] })],
      '1.2.3.4',
    ],
  ])('%s', (_, certificates, expected) => {
    const detail = check(snpReport(), 'evidence.chain', trust(certificates))?.detail;
    expect(detail).toContain(expected);
  });

  test('two ASKs of one name: the one that signed counts, in either order', () => {
    const impostor = ask({ publicKey: keys.ark.publicKey });
    expect(failed(snpReport(), trust([impostor, ask(), vek()]))).toEqual([]);
    expect(failed(snpReport(), trust([ask(), impostor, vek()]))).toEqual([]);
  });

  test('an intermediate too many: the ASK’s path length', () => {
    const middle = {
      subject: 'middle',
      issuer: 'ASK',
      extensions: [basicConstraints(true), SIGN_CERTIFICATES],
      publicKey: keys.ark.publicKey,
    };
    const certificates = [
      ask(),
      ask(middle, keys.ask.privateKey),
      vek({ certificate: { issuer: 'middle' }, issuerKey: keys.ark.privateKey }),
    ];
    expect(check(snpReport(), 'evidence.chain', trust(certificates))?.detail).toContain('path length 0');
  });

  test.each<[string, VekChange]>([
    ['no product', { without: ['2'] }],
    ['an unknown product', { product: 'Rome-B0' }],
    ['no chip and no provider', { hwid: null }],
    ['chip and provider', { hwid: CHIP, csp: 'x' }],
    ['a chip id of 8 bytes on Genoa', { hwid: Buffer.alloc(8, 1) }],
    ['no microcode level', { without: ['3.8'] }],
    ['Turin without FMC', { product: 'Turin-B1', hwid: Buffer.alloc(8, 1) }],
    ['its struct version missing', { without: ['1'] }],
  ])('a VCEK with %s is none', (_, change) =>
    expect(code(() => verifySnp(snpReport(), trust([ask(), vek(change)])))).toBe('ERR_ENDORSEMENTS_MISSING'),
  );

  test('expired now', () => {
    const certificate = { times: [utc('250101000000Z'), utc('260101000000Z')] as [Buffer, Buffer] };
    const certificates = [ask(), vek({ certificate })];
    expect(failed(snpReport(), trust(certificates))).toEqual(['evidence.validity']);
    expect(failed(snpReport(), trust(certificates, { at: new Date('2025-06-01T00:00:00Z') }))).toEqual([]);
    expect(
      failed(snpReport(), trust(certificates, { at: new Date('2025-06-01T00:00:00Z'), maxAgeSeconds: 300 })),
    ).toEqual(['evidence.valid-now']);
  });
});

describe('revocation', () => {
  const withCrl = (crl: Buffer) => trust([], { endorsements: endorse([ask(), vek()], [crl]) });
  const verdict = (crl: Buffer) => check(snpReport(), 'evidence.revocation', withCrl(crl));

  test('a list that does not name the ASK', () =>
    expect(verdict(rawCrl({ issuer: 'ARK', revoked: [Buffer.from([9])] }, keys.ark.privateKey))).toMatchObject({
      status: 'pass',
    }));

  test('a revoked ASK', () =>
    expect(
      verdict(rawCrl({ issuer: 'ARK', revoked: [Buffer.from([9]), ASK_SERIAL] }, keys.ark.privateKey)),
    ).toMatchObject({
      status: 'fail',
      actual: 'serial 010001 is revoked',
    }));

  test('revoked after the time that is asked about: a stolen key can sign for any time', () => {
    const crl = rawCrl({ issuer: 'ARK', revoked: [ASK_SERIAL] }, keys.ark.privateKey);
    const before = trust([], { endorsements: endorse([ask(), vek()], [crl]), at: new Date('2025-06-01T00:00:00Z') });
    expect(check(snpReport(), 'evidence.revocation', before)).toMatchObject({
      status: 'fail',
      actual: 'serial 010001 was revoked since',
    });
  });

  test.each<[string, Buffer, string]>([
    ['signed by somebody else', rawCrl({ issuer: 'ARK' }, keys.ask.privateKey), 'not its issuer'],
    ['with another algorithm', rawCrl({ issuer: 'ARK' }, newKey().privateKey), 'algorithm'],
    [
      'too old',
      rawCrl({ issuer: 'ARK', times: [utc('250101000000Z'), utc('260101000000Z')] }, keys.ark.privateKey),
      'it holds from',
    ],
    [
      'not in force yet',
      rawCrl({ issuer: 'ARK', times: [utc('270101000000Z'), utc('280101000000Z')] }, keys.ark.privateKey),
      'it holds from',
    ],
  ])('a list %s does not count as "not revoked"', (_, crl, expected) =>
    expect(verdict(crl)).toMatchObject({ status: 'fail', detail: expect.stringContaining(expected) }),
  );

  test.each<[string, Parameters<typeof rawCrl>[0]]>([
    ['without an end', { issuer: 'ARK', times: [utc('260101000000Z')] }],
    ['of version 1', { issuer: 'ARK', version: Buffer.alloc(0) }],
    ['for a part only', { issuer: 'ARK', extensions: [extension('2.5.29.28', Buffer.from([0x30, 0]), 0xff)] }],
    ['a delta', { issuer: 'ARK', extensions: [extension('2.5.29.27', Buffer.from([2, 1, 1]), 0xff)] }],
    ['a negative serial number', { issuer: 'ARK', revoked: [Buffer.from([0x80])] }],
  ])('a list %s is refused', (_, crl) =>
    expect(code(() => verdict(rawCrl(crl, keys.ark.privateKey)))).toBe('ERR_CRL_MALFORMED'),
  );

  test('of another issuer: said that nothing was checked', () =>
    expect(verdict(rawCrl({ issuer: 'somebody' }, keys.ark.privateKey))).toMatchObject({ status: 'skipped' }));
});

describe('what is accepted of a guest', () => {
  const refused = (change: ReportChange, acceptance = {}) =>
    appraisePlatform(verifySnp(snpReport(change), trust()).claims, acceptance)
      .filter(({ status }) => status === 'fail')
      .map(({ id }) => id);

  test('Genoa at VMPL 0 without migration agent', () => expect(refused({})).toEqual([]));
  test('a report that a less privileged layer asked for', () => {
    expect(refused({ vmpl: 2 })).toEqual(['policy.vmpl']);
    expect(refused({ vmpl: 2 }, { vmpl: 2 })).toEqual([]);
    expect(refused({ vmpl: 0xffffffff }, { vmpl: 3 })).toEqual(['policy.vmpl']);
  });
  test('a guest that may have a migration agent', () =>
    expect(refused({ policy: 0x70137n })).toEqual(['policy.migration']));
});

test('processors and their lines', () => {
  expect(lineOfCpu({ family: 0x19, model: 1 })).toBe('Milan');
  expect(lineOfCpu({ family: 0x19, model: 0x11 })).toBe('Genoa');
  expect(lineOfCpu({ family: 0x19, model: 0xa0 })).toBe('Genoa');
  expect(lineOfCpu({ family: 0x1a, model: 2 })).toBe('Turin');
  // Desktop processors have no SNP.
  expect(lineOfCpu({ family: 0x19, model: 0x21 })).toBeNull();
  expect(lineOfCpu({ family: 0x1a, model: 0x44 })).toBeNull();
});
