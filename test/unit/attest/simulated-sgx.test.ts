import { describe, expect, test } from 'vitest';
import { parseDocument } from '../../../src/attest/document.ts';
import { createSimulatedAttester, createSimulatedRoot, verifyEvidence } from '../../../src/attest/index.ts';
import { decodeCbor, encodeCbor } from '../../../src/core/cbor.ts';
import { parseSign1 } from '../../../src/core/cose.ts';
import { inspectEvidence } from '../../../src/tasks/inspect-evidence.ts';

// What gramine-direct gives: simulated evidence that speaks for an SGX enclave.

const measured = {
  tee: 'sgx',
  mrenclave: '0e'.repeat(32),
  mrsigner: '51'.repeat(32),
  isvprodid: 7,
  isvsvn: 3,
} as const;
const root = await createSimulatedRoot();
const now = new Date();
const evidenceOf = (debug = false) => createSimulatedAttester(root, { ...measured, debug });
const verify = (evidence: Uint8Array) => verifyEvidence(evidence, { allowSimulated: [root.fingerprint], now });
const failed = async (evidence: Uint8Array) =>
  (await verify(evidence)).checks.filter(({ status }) => status === 'fail').map(({ id }) => id);

const evidence = await evidenceOf().attest({ userData: Buffer.from('bound') });
const payload = () =>
  decodeCbor(parseSign1(evidence, { what: 'evidence', maxBytes: 16384, tag: 'optional', form: 'any' }).payload, {
    what: 'document',
    maxBytes: 16384,
  }) as Map<string, unknown>;

test('says what SGX would have measured, and that it is simulated', async () => {
  const { claims } = await verify(evidence);
  expect(claims).toMatchObject({
    tee: 'simulated',
    simulated: true,
    debug: false,
    measurement: { tee: 'simulated', root: root.fingerprint, of: measured },
    userData: new Uint8Array(Buffer.from('bound')),
  });
  expect(await failed(evidence)).toEqual([]);
});

test('a debug enclave', async () => {
  expect(await failed(await evidenceOf(true).attest({}))).toEqual(['evidence.debug']);
});

test('once its model is open, it says so', async () => {
  const attester = evidenceOf();
  attester.lockRelease();
  const { claims } = await verify(await attester.attest({}));
  expect(claims.pcrs?.get(16)).toMatch(/[1-9a-f]/);
});

test('is no document of Nitro hardware, whose parser knows no such field', () => {
  const bytes = encodeCbor(payload());
  expect(() => parseDocument(bytes, 'any')).toThrow(expect.objectContaining({ code: 'ERR_EVIDENCE_MALFORMED' }));
  expect(parseDocument(bytes, 'deterministic').sgx).toEqual({ ...measured, debug: false });
});

test('inspect shows what was measured', async () => {
  expect(await inspectEvidence(Buffer.from(evidence))).toMatchObject({
    tee: 'simulated',
    verified: false,
    measurement: measured,
    debug: false,
  });
});

describe('malformed', () => {
  const whole = { mrenclave: Buffer.alloc(32), mrsigner: Buffer.alloc(32), isvprodid: 0, isvsvn: 0, debug: false };
  test.each<[what: string, value: unknown]>([
    ['no map', 1],
    ['an empty map', {}],
    ['a short register', { ...whole, mrenclave: Buffer.alloc(31) }],
    ['a register as text', { ...whole, mrsigner: '00'.repeat(32) }],
    ['a number too large', { ...whole, isvsvn: 65536 }],
    ['a number below zero', { ...whole, isvprodid: -1 }],
    ['no word about debug', { ...whole, debug: null }],
    ['debug as a number', { ...whole, debug: 0 }],
    ['a field too many', { ...whole, xfrm: 3 }],
    ['a field missing', { ...whole, isvsvn: undefined, other: 1 }],
  ])('%s', (_, value) => {
    const bytes = encodeCbor(new Map([...payload(), ['sgx', value]]));
    expect(() => parseDocument(bytes, 'deterministic')).toThrow();
  });
});
