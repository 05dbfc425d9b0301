import {
  layerChecks,
  parseEvidenceFile,
  type ReceiptContext,
  verifyReceipt,
  verifyReceiptAgainst,
} from '../../attest/index.ts';
import type { EvidenceTrust } from './evidence.ts';
import { compareMeasurement, type Expected } from './expect.ts';
import type { Findings } from './report.ts';

export interface ReceiptInputs {
  evidence: Uint8Array;
  request?: Uint8Array | undefined;
  response?: Uint8Array | undefined;
  modelDigest?: string | undefined;
  maxAge?: number | undefined;
}

/** A receipt with its evidence: from the root of trust to the answer. */
export async function verifyReceiptFile(
  receipt: Uint8Array,
  inputs: ReceiptInputs,
  expected: Expected,
  trust: EvidenceTrust,
  findings: Findings,
): Promise<void> {
  const evidenceFile = await findings.step('file.evidence', () => parseEvidenceFile(inputs.evidence));
  if (!evidenceFile) return;
  const context: ReceiptContext = {
    receipt,
    evidenceFile,
    allowSimulated: trust.allowSimulated,
    now: trust.now,
    ...(trust.at ? { at: trust.at } : {}),
    ...(inputs.request ? { request: inputs.request } : {}),
    ...(inputs.response ? { response: inputs.response } : {}),
    ...(inputs.modelDigest ? { modelDigest: inputs.modelDigest } : {}),
    ...(trust.nonce ? { nonce: trust.nonce } : {}),
    ...(inputs.maxAge === undefined ? {} : { maxAgeSeconds: inputs.maxAge }),
  };
  const result = await findings.step('evidence.format', () => verifyReceiptAgainst(context));
  if (!result) return;
  findings.simulated ||= result.evidence.simulated;
  // The tree reads from the root of trust to the answer; the verifier runs in the order of AIR's layers.
  const [receiptChecks, rootChecks] = [true, false].map((own) =>
    result.checks.filter((check) => check.id.startsWith('receipt.') === own),
  ) as [typeof result.checks, typeof result.checks];
  findings.add(...rootChecks, ...compareMeasurement(expected, result.evidence.measurement), ...receiptChecks);
}

/** `--public-key`: signature and claims only, and the report says so. */
export function verifyReceiptByKey(
  receipt: Uint8Array,
  publicKey: Uint8Array,
  inputs: { maxAge?: number | undefined; now: Date; nonce?: Uint8Array | undefined },
  findings: Findings,
): void {
  const policy = {
    ...(inputs.maxAge === undefined ? {} : { maxAgeSeconds: inputs.maxAge }),
    ...(inputs.nonce ? { expectedNonce: inputs.nonce } : {}),
  };
  findings.add(...layerChecks(verifyReceipt(receipt, { publicKey, now: inputs.now, policy })));
  findings.notChecked.push(
    'evidence: whether a TEE holds the signing key (--public-key checks signature and claims only)',
    'which program and which model answered: only what the receipt says',
  );
}
