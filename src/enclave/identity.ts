import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { parseQuote } from '../attest/dcap/quote.ts';
import { measuredBy, parseDocument } from '../attest/document.ts';
import { encodeEvidenceFile } from '../attest/evidence-file.ts';
import { type EnclaveIdentity, encodeKeyConfig, identityRequest } from '../attest/identity.ts';
import { hex, sha256 } from '../core/bytes.ts';
import { parseSign1 } from '../core/cose.ts';
import type { NitroMeasurement, SgxMeasurement } from '../core/measurement.ts';
import { newXWingSeed, xwingPublicFromSeed } from '../keys/xwing.ts';
import type { EnclaveAttester } from './attester.ts';

/** The keys of one launch, and the evidence that binds them (key-release.md, "The enclave's identity"). */
export interface Identity extends EnclaveIdentity {
  /** Signs receipts. */
  receiptKey: KeyObject;
  /** Opens requests. */
  requestSeed: Uint8Array;
  /** SHA-256 of the boot evidence: what receipts refer to. */
  bootEvidenceHash: Buffer;
  /** What the boot evidence says that was measured. */
  measurement: NitroMeasurement | SgxMeasurement;
  /** The evidence file: fresh with a nonce (16 to 64 bytes), else the boot evidence. */
  evidenceFile(nonce?: Uint8Array): Promise<Buffer>;
}

export async function createIdentity(attester: EnclaveAttester): Promise<Identity> {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const requestSeed = newXWingSeed();
  const keys: EnclaveIdentity = {
    ed25519: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32),
    keyConfig: encodeKeyConfig(xwingPublicFromSeed(requestSeed)),
  };
  const boot = await attester.attest(identityRequest(keys));
  const file = (evidence: Uint8Array, nonce: Uint8Array | null) =>
    encodeEvidenceFile({ ...keys, tee: attester.tee, evidence, nonce });
  const bootFile = file(boot, null);
  return {
    ...keys,
    receiptKey: privateKey,
    requestSeed,
    bootEvidenceHash: sha256(boot),
    measurement: measurementOf(boot, attester.tee),
    evidenceFile: async (nonce) =>
      nonce === undefined ? bootFile : file(await attester.attest(identityRequest(keys, nonce)), nonce),
  };
}

/** Of our own evidence, made a moment ago: what receipts repeat. A verifier holds both against each other. */
function measurementOf(evidence: Uint8Array, tee: EnclaveAttester['tee']): NitroMeasurement | SgxMeasurement {
  if (tee === 'sgx') {
    const { body } = parseQuote(evidence);
    if (body.tee !== 'sgx') throw new TypeError('not a quote of an SGX enclave');
    const { mrenclave, mrsigner, isvProdId: isvprodid, isvSvn: isvsvn } = body.report;
    return { tee, mrenclave: hex(mrenclave), mrsigner: hex(mrsigner), isvprodid, isvsvn };
  }
  const { payload } = parseSign1(evidence, { what: 'boot evidence', maxBytes: 16384, tag: 'optional', form: 'any' });
  return measuredBy(parseDocument(payload, tee === 'simulated' ? 'deterministic' : 'any')).measurement;
}
