import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  createSimulatedAttester,
  createSimulatedRoot,
  encodeKeyConfig,
  encodeReceipt,
  identityRequest,
  type ReceiptClaims,
  type ReceiptContext,
  verifyReceiptAgainst,
} from '../../../src/attest/index.ts';
import { fromHex, sha256 } from '../../../src/core/bytes.ts';

const register = (byte: number) => Buffer.alloc(48, byte);
const measured = { tee: 'nitro', pcr0: '01'.repeat(48), pcr1: '02'.repeat(48), pcr2: '03'.repeat(48) } as const;
const root = await createSimulatedRoot();
const now = new Date();
const request = Buffer.from('{"inputs":[]}');
const response = Buffer.from('{"outputs":[]}');
const modelDigest = 'ab'.repeat(32);
const nonce = randomBytes(16);

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const identity = {
  ed25519: publicKey.export({ type: 'spki', format: 'der' }).subarray(-32),
  keyConfig: encodeKeyConfig(randomBytes(1216)),
};
const evidence = await createSimulatedAttester(root, measured).attest(identityRequest(identity));
const evidenceFile = { tee: 'simulated' as const, evidence, ...identity, nonce: null };

const measurements = {
  measurementType: 'nitro-pcr',
  pcr0: register(1),
  pcr1: register(2),
  pcr2: register(3),
} as const;
const claims: ReceiptClaims = {
  iss: 'digits',
  iat: Math.floor(now.getTime() / 1000),
  cti: randomBytes(16),
  nonce,
  modelId: 'digits',
  modelVersion: '1.0.0',
  modelHash: fromHex(modelDigest) ?? Buffer.alloc(0),
  requestHash: sha256(request),
  responseHash: sha256(response),
  attestationDocHash: sha256(evidence),
  measurements,
  policyVersion: '1',
  sequenceNumber: 1,
  executionTimeMs: 3,
  memoryPeakMb: 100,
  securityMode: 'evaluation',
  modelHashScheme: 'sha256-manifest',
};
const failed = async (change: Partial<ReceiptClaims> = {}, context: Partial<ReceiptContext> = {}) => {
  const { checks } = await verifyReceiptAgainst({
    receipt: encodeReceipt({ ...claims, ...change }, privateKey),
    evidenceFile,
    allowSimulated: [root.fingerprint],
    now,
    request,
    response,
    nonce,
    modelDigest,
    maxAgeSeconds: 60,
    ...context,
  });
  return checks.filter((c) => c.status !== 'pass').map((c) => `${c.id} ${c.status}`);
};

describe('a receipt against its evidence', () => {
  test('holds from the answer to the root', async () => expect(await failed()).toEqual([]));

  test('what is not given is said to be unchecked', async () => {
    const { checks } = await verifyReceiptAgainst({
      receipt: encodeReceipt(claims, privateKey),
      evidenceFile,
      allowSimulated: [root.fingerprint],
      now,
    });
    expect(checks.filter((c) => c.status !== 'pass').map((c) => `${c.id} ${c.status}`)).toEqual([
      'receipt.policy skipped',
      'receipt.model skipped',
      'receipt.request skipped',
      'receipt.response skipped',
      'receipt.nonce skipped',
    ]);
  });

  test.each<[string, Partial<ReceiptClaims>, string[]]>([
    ['evidence of another boot', { attestationDocHash: Buffer.alloc(32, 1) }, ['receipt.evidence fail']],
    ['another measurement', { measurements: { ...measurements, pcr1: register(9) } }, ['receipt.measurement fail']],
    [
      'a signature register the evidence does not have',
      { measurements: { ...measurements, pcr8: register(9) } },
      ['receipt.measurement fail'],
    ],
    [
      'registers of a TDX guest',
      { measurements: { ...measurements, measurementType: 'tdx-mrtd-rtmr' } },
      ['receipt.measurement fail'],
    ],
    ['simulated but "production"', { securityMode: 'production' }, ['receipt.mode fail']],
    ['another model', { modelHash: Buffer.alloc(32, 1) }, ['receipt.model fail']],
    ['another way of hashing the model', { modelHashScheme: 'sha256-single' }, ['receipt.model fail']],
    ['another request', { requestHash: Buffer.alloc(32, 1) }, ['receipt.request fail']],
    ['another response', { responseHash: Buffer.alloc(32, 1) }, ['receipt.response fail']],
    ['another nonce', { nonce: Buffer.alloc(16, 1) }, ['receipt.nonce fail']],
    ['an old receipt', { iat: claims.iat - 100 }, ['receipt.policy fail']],
  ])('%s', async (_, change, expected) => expect(await failed(change)).toEqual(expected));

  test('simulated evidence where none is allowed', async () =>
    expect(await failed({}, { allowSimulated: [] })).toEqual(['evidence.root fail']));

  test('a key that the evidence does not bind', async () => {
    const other = generateKeyPairSync('ed25519');
    const ed25519 = other.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
    const receipt = encodeReceipt(claims, other.privateKey);
    expect(await failed({}, { receipt, evidenceFile: { ...evidenceFile, ed25519 } })).toEqual([
      'identity.ed25519 fail',
    ]);
  });

  test('signed by another enclave', async () => {
    const receipt = encodeReceipt(claims, generateKeyPairSync('ed25519').privateKey);
    expect(await failed({}, { receipt })).toEqual([
      'receipt.signature fail',
      'receipt.claims skipped',
      'receipt.policy skipped',
    ]);
  });

  test('evidence that names another TEE than its file', async () =>
    expect(failed({}, { evidenceFile: { ...evidenceFile, tee: 'nitro' } })).rejects.toThrow(
      'expected nitro, found simulated',
    ));

  test('a nonce in the file that the evidence does not carry', async () =>
    expect(await failed({}, { evidenceFile: { ...evidenceFile, nonce: Buffer.alloc(16) } })).toEqual([
      'identity.nonce fail',
    ]));
});
