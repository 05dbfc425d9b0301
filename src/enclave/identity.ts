import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { type AttestationDocument, parseDocument } from '../attest/document.ts';
import { encodeEvidenceFile } from '../attest/evidence-file.ts';
import { type EnclaveIdentity, encodeKeyConfig, identityRequest } from '../attest/identity.ts';
import { sha256 } from '../core/bytes.ts';
import { parseSign1 } from '../core/cose.ts';
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
  /** Registers that the boot evidence says, 48 bytes each. */
  registers: AttestationDocument['pcrs'];
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
  const document = parseSign1(boot, { what: 'boot evidence', maxBytes: 16384, tag: 'optional', form: 'any' });
  const file = (evidence: Uint8Array, nonce: Uint8Array | null) =>
    encodeEvidenceFile({ ...keys, tee: attester.tee, evidence, nonce });
  const bootFile = file(boot, null);
  return {
    ...keys,
    receiptKey: privateKey,
    requestSeed,
    bootEvidenceHash: sha256(boot),
    registers: parseDocument(document.payload, 'any').pcrs,
    evidenceFile: async (nonce) =>
      nonce === undefined ? bootFile : file(await attester.attest(identityRequest(keys, nonce)), nonce),
  };
}
