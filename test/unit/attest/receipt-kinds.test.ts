import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  AIR_PROFILE,
  encodeKeyConfig,
  encodeReceipt,
  identityReportData,
  layerChecks,
  OWN_PROFILE,
  profileOf,
  type ReceiptClaims,
  type ReceiptContext,
  type ReceiptMeasurements,
  ReplaySet,
  receiptMeasurements,
  type Tee,
  verifyEvidence,
  verifyReceipt,
  verifyReceiptAgainst,
} from '../../../src/attest/index.ts';
import { sha256 } from '../../../src/core/bytes.ts';
import { encodeCbor } from '../../../src/core/cbor.ts';
import { signSign1 } from '../../../src/core/cose.ts';
import { AT, FakeIntel } from './dcap/fake-intel.ts';
import { nitroDocument, trust as nitroTrust } from './nitro-fixture.ts';
import { snpReport, trust as snpTrust } from './snp-fixture.ts';

// A receipt of each kind of TEE, from the answer to the root, under roots of our own.

const now = new Date('2026-11-22T10:00:00Z');
const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const identity = {
  ed25519: publicKey.export({ type: 'spki', format: 'der' }).subarray(-32),
  keyConfig: encodeKeyConfig(randomBytes(1216)),
};
const reportData = identityReportData(identity, null);
const intel = new FakeIntel();
const intelTrust = { roots: [intel.certificates.root], endorsements: intel.endorsements(), at: AT };

const KINDS = {
  sgx: {
    evidence: intel.quote({
      report: (bytes) => {
        bytes.fill(0xe1, 64, 96).fill(0x51, 128, 160).writeUInt16LE(7, 256);
        bytes.writeUInt16LE(3, 258);
        reportData.copy(bytes, 320);
      },
    }),
    trust: intelTrust,
    profile: OWN_PROFILE,
  },
  tdx: {
    evidence: intel.quote({
      version: 4,
      tee: 'tdx',
      report: (bytes) => {
        bytes.fill(0xd0, 136, 184);
        for (const index of [0, 1, 2, 3]) bytes.fill(0xa0 + index, 328 + 48 * index, 376 + 48 * index);
        reportData.copy(bytes, 520);
      },
    }),
    trust: intelTrust,
    profile: AIR_PROFILE,
  },
  snp: { evidence: snpReport({ bytes: [[0x50, reportData]] }), trust: snpTrust(), profile: OWN_PROFILE },
  nitro: {
    evidence: nitroDocument({
      document: {
        public_key: identity.ed25519,
        user_data: sha256(encodeCbor(['atoma-tee/identity/v1', sha256(identity.keyConfig)])),
      },
    }),
    trust: nitroTrust(),
    profile: AIR_PROFILE,
  },
} satisfies Partial<Record<Tee, unknown>>;
type Kind = keyof typeof KINDS;
const NAMES = Object.keys(KINDS) as Kind[];

const measured: Record<string, ReceiptMeasurements> = {};
for (const tee of NAMES) {
  const { evidence, trust } = KINDS[tee];
  const { claims } = await verifyEvidence(evidence, { allowSimulated: [], ...trust, now, tee });
  measured[tee] = receiptMeasurements(claims.measurement);
}

const claimsOf = (tee: Kind, change: Partial<ReceiptClaims> = {}): ReceiptClaims => ({
  iss: 'digits',
  iat: Math.floor(now.getTime() / 1000),
  cti: Buffer.alloc(16, 1),
  modelId: 'digits',
  modelVersion: '1.0.0',
  modelHash: Buffer.alloc(32, 3),
  requestHash: Buffer.alloc(32, 4),
  responseHash: Buffer.alloc(32, 5),
  attestationDocHash: sha256(KINDS[tee].evidence),
  measurements: measured[tee] as ReceiptMeasurements,
  policyVersion: '1',
  sequenceNumber: 1,
  executionTimeMs: 3,
  memoryPeakMb: 100,
  securityMode: 'production',
  ...change,
});
const check = (tee: Kind, change: Partial<ReceiptClaims> = {}, context: Partial<ReceiptContext> = {}) =>
  verifyReceiptAgainst({
    receipt: encodeReceipt(claimsOf(tee, change), privateKey),
    evidenceFile: { tee, evidence: KINDS[tee].evidence, ...identity, nonce: null },
    allowSimulated: [],
    ...KINDS[tee].trust,
    now,
    maxAgeSeconds: 60,
    ...context,
  });
const failed = async (...given: Parameters<typeof check>) =>
  (await check(...given)).checks.filter(({ status }) => status === 'fail').map(({ id }) => id);

describe.each(NAMES)('a receipt of %s', (tee) => {
  test('holds from the answer to the root, key bound in the evidence', async () => {
    expect(await failed(tee)).toEqual([]);
    const { checks } = await check(tee);
    for (const id of ['receipt.evidence', 'receipt.measurement', 'identity.ed25519', 'identity.key-config']) {
      expect(checks.find((one) => one.id === id)?.status, id).toBe('pass');
    }
  });

  test('any register that is not in the evidence is refused', async () => {
    const { measurementType, ...registers } = measured[tee] as ReceiptMeasurements;
    for (const [name, value] of Object.entries(registers)) {
      const other = typeof value === 'number' ? value + 1 : Buffer.alloc(value.length, 0x99);
      const measurements = { measurementType, ...registers, [name]: other } as ReceiptMeasurements;
      expect(await failed(tee, { measurements }), name).toEqual(['receipt.measurement']);
    }
  });

  test('measurements of another kind of TEE are refused', async () => {
    for (const other of NAMES.filter((name) => name !== tee)) {
      const measurements = measured[other] as ReceiptMeasurements;
      expect(await failed(tee, { measurements }), other).toEqual(['receipt.measurement']);
    }
  });

  test('a key that the evidence does not bind is refused', async () => {
    const other = generateKeyPairSync('ed25519');
    const ed25519 = other.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
    const evidenceFile = { tee, evidence: KINDS[tee].evidence, ...identity, ed25519, nonce: null };
    const receipt = encodeReceipt(claimsOf(tee), other.privateKey);
    expect(await failed(tee, {}, { receipt, evidenceFile })).toEqual(['identity.ed25519']);
  });

  test('an encryption key that the evidence does not bind is refused', async () => {
    const keyConfig = encodeKeyConfig(randomBytes(1216));
    const evidenceFile = { tee, evidence: KINDS[tee].evidence, ...identity, keyConfig, nonce: null };
    expect(await failed(tee, {}, { evidenceFile })).toEqual(['identity.key-config']);
  });

  test('its profile says what it is', () => {
    const { profile } = KINDS[tee];
    expect(profileOf(measured[tee] as ReceiptMeasurements)).toBe(profile);
    const receipt = Buffer.from(encodeReceipt(claimsOf(tee), privateKey));
    expect(receipt.includes(profile)).toBe(true);
    const verdict = verifyReceipt(receipt, { publicKey: identity.ed25519, now });
    const said = layerChecks(verdict).find(({ id }) => id === 'receipt.claims')?.detail;
    if (profile === AIR_PROFILE) expect(said).toBeUndefined();
    else expect(said).toBe(`profile ${OWN_PROFILE}: AIR v1 has no form for measurements of kind ${tee}`);
  });
});

describe('measurements of a receipt', () => {
  const decode = (profile: string, map: Record<string, unknown>) => {
    const header = new Map([
      [1, -8],
      [3, 61],
    ]);
    const { claims } = verifyReceipt(encodeReceipt(claimsOf('nitro'), privateKey), { publicKey: identity.ed25519 });
    if (!claims) throw new Error('no baseline');
    const payload = new Map<number, unknown>([
      [1, claims.iss],
      [6, claims.iat],
      [7, claims.cti],
      [265, profile],
      [-65537, 'm'],
      [-65538, 'v'],
      [-65539, claims.modelHash],
      [-65540, claims.requestHash],
      [-65541, claims.responseHash],
      [-65542, claims.attestationDocHash],
      [-65543, map],
      [-65544, 'p'],
      [-65545, 1],
      [-65546, 1],
      [-65547, 1],
      [-65548, 'production'],
    ]);
    const receipt = signSign1(header, encodeCbor(payload), privateKey, true);
    return verifyReceipt(receipt, { publicKey: identity.ed25519 }).failure?.code;
  };
  const sgx = {
    measurement_type: 'sgx',
    mrenclave: Buffer.alloc(32, 1),
    mrsigner: Buffer.alloc(32, 2),
    isvprodid: 1,
    isvsvn: 65535,
  };
  const snp = { measurement_type: 'snp', measurement: Buffer.alloc(48, 1), hostdata: Buffer.alloc(32) };
  const tdx = {
    measurement_type: 'tdx-mrtd-rtmr',
    ...Object.fromEntries([0, 1, 2, 3, 4].map((index) => [`pcr${index}`, Buffer.alloc(48, index)])),
  };

  test.each<[string, string, Record<string, unknown>, string | undefined]>([
    ['SGX', OWN_PROFILE, sgx, undefined],
    ['SNP', OWN_PROFILE, snp, undefined],
    ['TDX', AIR_PROFILE, tdx, undefined],
    ['SGX under AIR’s name', AIR_PROFILE, sgx, 'BAD_MEASUREMENT_TYPE'],
    ['SNP under AIR’s name', AIR_PROFILE, snp, 'BAD_MEASUREMENT_TYPE'],
    ['AIR’s registers under our name', OWN_PROFILE, tdx, 'BAD_MEASUREMENT_TYPE'],
    ['our profile of another version', 'urn:atoma-tee:receipt:v2', sgx, 'BAD_PROFILE'],
    ['SGX with a register of SNP', OWN_PROFILE, { ...sgx, hostdata: Buffer.alloc(32) }, 'UNKNOWN_MEASUREMENT'],
    ['SGX with a register of the prototype', OWN_PROFILE, { ...sgx, valueOf: 1 }, 'UNKNOWN_MEASUREMENT'],
    ['an ISVSVN beyond 16 bits', OWN_PROFILE, { ...sgx, isvsvn: 65536 }, 'BAD_MEASUREMENT_LENGTH'],
    ['a negative ISVPRODID', OWN_PROFILE, { ...sgx, isvprodid: -1 }, 'BAD_MEASUREMENT_LENGTH'],
    ['an ISVPRODID in bytes', OWN_PROFILE, { ...sgx, isvprodid: Buffer.alloc(2) }, 'BAD_MEASUREMENT_LENGTH'],
    ['a short MRENCLAVE', OWN_PROFILE, { ...sgx, mrenclave: Buffer.alloc(31) }, 'BAD_MEASUREMENT_LENGTH'],
    ['an MRSIGNER of 48 bytes', OWN_PROFILE, { ...sgx, mrsigner: Buffer.alloc(48) }, 'BAD_MEASUREMENT_LENGTH'],
    [
      'SNP without host data',
      OWN_PROFILE,
      { measurement_type: 'snp', measurement: snp.measurement },
      'MISSING_MEASUREMENT',
    ],
    ['a register of TDX with 32 bytes', AIR_PROFILE, { ...tdx, pcr4: Buffer.alloc(32) }, 'BAD_MEASUREMENT_LENGTH'],
    ['TDX with pcr8', AIR_PROFILE, { ...tdx, pcr8: Buffer.alloc(48) }, 'UNKNOWN_MEASUREMENT'],
  ])('%s', (_, profile, map, code) => expect(decode(profile, map)).toBe(code));

  test('TDX: pcr0 is MRTD, pcr1 to pcr4 are RTMR0 to RTMR3', () => {
    expect(measured.tdx).toEqual({
      measurementType: 'tdx-mrtd-rtmr',
      pcr0: Buffer.alloc(48, 0xd0),
      pcr1: Buffer.alloc(48, 0xa0),
      pcr2: Buffer.alloc(48, 0xa1),
      pcr3: Buffer.alloc(48, 0xa2),
      pcr4: Buffer.alloc(48, 0xa3),
    });
  });

  test('a simulated TEE says what the real one would have measured', () => {
    const of = { tee: 'sgx', mrenclave: 'e1'.repeat(32), mrsigner: '51'.repeat(32), isvprodid: 7, isvsvn: 3 } as const;
    expect(receiptMeasurements({ tee: 'simulated', root: 'sha256:00', of })).toEqual(measured.sgx);
  });
});

describe('replay', () => {
  const seconds = Math.floor(now.getTime() / 1000);

  test('the same receipt twice is refused, with and without its evidence', async () => {
    const replay = new ReplaySet(60);
    expect(await failed('snp', {}, { replay })).toEqual([]);
    expect(await failed('snp', {}, { replay })).toEqual(['receipt.replay']);
    expect(await failed('snp', { cti: Buffer.alloc(16, 2) }, { replay })).toEqual([]);
    const receipt = encodeReceipt(claimsOf('snp', { cti: Buffer.alloc(16, 3) }), privateKey);
    const options = { publicKey: identity.ed25519, now, policy: { replay } };
    expect(verifyReceipt(receipt, options).failure).toBeUndefined();
    expect(verifyReceipt(receipt, options).failure).toMatchObject({ layer: 4, check: 'REPLAY', code: 'CTI_SEEN' });
  });

  test('a receipt that does not hold is not remembered: nobody spoils a good one, or fills the set', async () => {
    const replay = new ReplaySet(60);
    expect(await failed('snp', {}, { replay, request: Buffer.from('another') })).toEqual(['receipt.request']);
    const other = generateKeyPairSync('ed25519');
    const ed25519 = other.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
    const evidenceFile = { tee: 'snp' as const, evidence: KINDS.snp.evidence, ...identity, ed25519, nonce: null };
    const receipt = encodeReceipt(claimsOf('snp'), other.privateKey);
    expect(await failed('snp', {}, { replay, receipt, evidenceFile })).toEqual(['identity.ed25519']);
    expect(replay.size).toBe(0);
    expect(await failed('snp', {}, { replay })).toEqual([]);
  });

  test('another signer’s cti is another receipt', () => {
    const replay = new ReplaySet(60);
    const cti = Buffer.alloc(16);
    expect(replay.take(Buffer.alloc(32, 1), cti, seconds, seconds)).toBe('taken');
    expect(replay.take(Buffer.alloc(32, 2), cti, seconds, seconds)).toBe('taken');
    expect(replay.take(Buffer.alloc(32, 1), cti, seconds + 1, seconds)).toBe('seen');
  });

  test('what could have been forgotten is refused: too old, or from the future', () => {
    const replay = new ReplaySet(60);
    const take = (iat: number) => replay.take(Buffer.alloc(32), randomBytes(16), iat, seconds);
    expect(take(seconds - 60)).toBe('taken');
    expect(take(seconds - 61)).toBe('old');
    expect(take(seconds + 61)).toBe('old');
  });

  test('a full set takes no more, and forgets only what is too old to come again', () => {
    const replay = new ReplaySet(60, 2);
    const key = Buffer.alloc(32);
    const take = (n: number, iat: number, at: number) => replay.take(key, Buffer.alloc(16, n), iat, at);
    expect(take(1, seconds, seconds)).toBe('taken');
    expect(take(2, seconds + 30, seconds)).toBe('taken');
    expect(take(3, seconds, seconds)).toBe('full');
    expect(take(1, seconds, seconds)).toBe('seen');
    expect(take(3, seconds + 121, seconds + 121)).toBe('taken');
    expect(replay.size).toBe(2);
    expect(take(1, seconds, seconds + 121)).toBe('old');
  });
});
