import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  checkIdentity,
  createSimulatedAttester,
  createSimulatedRoot,
  detectKind,
  encodeEvidenceFile,
  encodeKeyConfig,
  identityReportData,
  identityRequest,
  parseEvidenceFile,
  parseKeyConfig,
  verifyEvidence,
} from '../../../src/attest/index.ts';

const measured = { tee: 'nitro', pcr0: '01'.repeat(48), pcr1: '02'.repeat(48), pcr2: '03'.repeat(48) } as const;
const root = await createSimulatedRoot();
const attester = createSimulatedAttester(root, measured);
const identity = { ed25519: randomBytes(32), keyConfig: encodeKeyConfig(randomBytes(1216), 7) };
const nonce = randomBytes(32);
const claims = async (given?: Uint8Array) => {
  const evidence = await attester.attest(identityRequest(identity, given));
  return (await verifyEvidence(evidence, { allowSimulated: [root.fingerprint], now: new Date() })).claims;
};
/** An SNP guest's, but for report_data. */
const measurementless = {
  tee: 'snp',
  simulated: false,
  debug: false,
  measurement: { tee: 'snp', measurement: '', hostdata: '', idkeydigest: '', authorkeydigest: '' },
} as const;
const statuses = (checks: { status: string }[]) => checks.map((c) => c.status);

describe('identity', () => {
  test('evidence binds both keys and the nonce', async () => {
    expect(statuses(checkIdentity(identity, await claims(nonce), nonce))).toEqual(['pass', 'pass', 'pass']);
    expect(statuses(checkIdentity(identity, await claims(), null))).toEqual(['pass', 'pass', 'pass']);
    expect(statuses(checkIdentity(identity, await claims(nonce)))).toEqual(['pass', 'pass', 'skipped']);
  });

  test('another signing key, another request key, another nonce', async () => {
    const bound = await claims(nonce);
    const other = { ed25519: randomBytes(32), keyConfig: encodeKeyConfig(randomBytes(1216), 7) };
    expect(statuses(checkIdentity({ ...identity, ed25519: other.ed25519 }, bound, nonce))).toEqual([
      'fail',
      'pass',
      'pass',
    ]);
    expect(statuses(checkIdentity({ ...identity, keyConfig: other.keyConfig }, bound, nonce))).toEqual([
      'pass',
      'fail',
      'pass',
    ]);
    expect(statuses(checkIdentity(identity, bound, randomBytes(32)))).toEqual(['pass', 'pass', 'fail']);
    expect(statuses(checkIdentity(identity, await claims(), nonce))).toEqual(['pass', 'pass', 'fail']);
  });

  test('where report_data is all that there is, it binds both keys and the nonce', () => {
    const snp = (reportData: Uint8Array) => ({ ...measurementless, reportData });
    const boot = snp(identityReportData(identity, null));
    const fresh = snp(identityReportData(identity, nonce));
    expect(statuses(checkIdentity({ ...identity, nonce }, fresh, nonce))).toEqual(['pass', 'pass', 'pass']);
    expect(statuses(checkIdentity({ ...identity, nonce: null }, boot, null))).toEqual(['pass', 'pass', 'pass']);
    expect(statuses(checkIdentity({ ...identity, nonce }, fresh))).toEqual(['pass', 'pass', 'skipped']);
    // The file says the nonce that is wanted, the evidence has another: the digest shows it.
    expect(statuses(checkIdentity({ ...identity, nonce: randomBytes(32) }, fresh, nonce))).toEqual([
      'pass',
      'fail',
      'fail',
    ]);
    expect(statuses(checkIdentity({ ...identity, nonce }, boot, nonce))).toEqual(['pass', 'fail', 'pass']);
    expect(statuses(checkIdentity({ ...identity, nonce: null }, boot, nonce))).toEqual(['pass', 'pass', 'fail']);
    const other = { ...identity, nonce, ed25519: randomBytes(32) };
    expect(statuses(checkIdentity(other, fresh, nonce))).toEqual(['fail', 'pass', 'pass']);
    expect(statuses(checkIdentity({ ...identity, nonce }, snp(Buffer.alloc(64)), nonce))).toEqual([
      'fail',
      'fail',
      'pass',
    ]);
  });

  test('evidence that binds no key', async () => {
    const { claims: none } = await verifyEvidence(await attester.attest({}), { allowSimulated: [], now: new Date() });
    expect(statuses(checkIdentity(identity, none, null))).toEqual(['fail', 'fail', 'pass']);
  });

  test.each([0, 15, 65])('a nonce of %i bytes is refused', (length) =>
    expect(() => identityRequest(identity, new Uint8Array(length))).toThrow('16 to 64'),
  );

  test('key configuration: round trip; anything else is refused', () => {
    const publicRaw = randomBytes(1216);
    const config = encodeKeyConfig(publicRaw, 3);
    expect(parseKeyConfig(config)).toEqual({ id: 3, publicRaw });
    for (let n = 0; n < config.length; n++) expect(() => parseKeyConfig(config.subarray(0, n))).toThrow();
    for (const i of [1, 2, 1219, 1220, 1221, 1224]) {
      const bad = Buffer.from(config);
      bad[i] = (bad[i] ?? 0) ^ 1;
      expect(() => parseKeyConfig(bad), String(i)).toThrow('RFC 9458');
    }
  });
});

describe('evidence file', () => {
  const file = { tee: 'simulated' as const, evidence: randomBytes(300), ...identity, nonce };
  const change = (more: object) =>
    Buffer.from(JSON.stringify({ ...JSON.parse(encodeEvidenceFile(file).toString()), ...more }));

  test('round trip', () => {
    expect(parseEvidenceFile(encodeEvidenceFile(file))).toEqual(file);
    const boot = { ...file, nonce: null, endorsements: { root_ca_crl: 'aa' } };
    expect(parseEvidenceFile(encodeEvidenceFile(boot))).toEqual(boot);
    expect(detectKind(encodeEvidenceFile(file))).toBe('evidence-file');
  });

  test.each([
    ['unknown key', { extra: 1 }],
    ['another kind', { kind: 'x' }],
    ['another version', { version: 2 }],
    ['unknown TEE', { tee: 'trustzone' }],
    ['not base64', { evidence: '***' }],
    ['base64 without padding', { evidence: 'AA' }],
    ['a short key', { ed25519: 'AAAA' }],
    ['a short nonce', { nonce: 'AAAA' }],
    ['no nonce at all', { nonce: undefined }],
    ['oversized evidence', { evidence: Buffer.alloc(65537).toString('base64') }],
  ])('%s', (_, more) => expect(() => parseEvidenceFile(change(more))).toThrow(/^evidence file: /));

  test('truncated at every length, not UTF-8, oversized', () => {
    const bytes = encodeEvidenceFile(file);
    for (let n = 0; n < bytes.length - 2; n++) expect(() => parseEvidenceFile(bytes.subarray(0, n))).toThrow();
    expect(() => parseEvidenceFile(Buffer.from([0x7b, 0xff, 0x7d]))).toThrow('not JSON');
    expect(() => parseEvidenceFile(new Uint8Array(5 << 20))).toThrow('at most');
  });
});
