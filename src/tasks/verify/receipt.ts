import {
  appraisePlatform,
  layerChecks,
  parseEvidenceFile,
  type ReceiptContext,
  verifyReceipt,
  verifyReceiptAgainst,
} from '../../attest/index.ts';
import { hex, sha256 } from '../../core/bytes.ts';
import { compare } from '../../core/check.ts';
import type { EvidenceTrust } from './evidence.ts';
import { compareMeasurement, type Expected } from './expect.ts';
import { evidenceFacts } from './facts.ts';
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
    ...(trust.endorsements ? { endorsements: trust.endorsements } : {}),
    ...(trust.roots ? { roots: trust.roots } : {}),
    ...(inputs.request ? { request: inputs.request } : {}),
    ...(inputs.response ? { response: inputs.response } : {}),
    ...(inputs.modelDigest ? { modelDigest: inputs.modelDigest } : {}),
    ...(trust.nonce ? { nonce: trust.nonce } : {}),
    ...(inputs.maxAge === undefined ? {} : { maxAgeSeconds: inputs.maxAge }),
  };
  const result = await findings.step('evidence.format', () => verifyReceiptAgainst(context));
  if (!result) return;
  findings.simulated ||= result.evidence.simulated;
  findings.evidence = evidenceFacts({ claims: result.evidence, chain: result.chain }, evidenceFile.evidence, expected);
  // The tree reads from the root of trust to the answer; the verifier runs in the order of AIR's layers.
  const [receiptChecks, rootChecks] = [true, false].map((own) =>
    result.checks.filter((check) => check.id.startsWith('receipt.') === own),
  ) as [typeof result.checks, typeof result.checks];
  findings.add(
    ...rootChecks,
    ...appraisePlatform(result.evidence, trust.acceptance).filter(({ status }) => status !== 'skipped'),
    ...compareMeasurement(expected, result.evidence.measurement),
    ...receiptChecks,
  );
}

const digest = (bytes: Uint8Array): string => hex(sha256(bytes));

/** `--public-key`: signature, claims and the bytes they speak of; the report says so. */
export function verifyReceiptByKey(
  receipt: Uint8Array,
  publicKey: Uint8Array,
  inputs: Pick<ReceiptInputs, 'maxAge' | 'request' | 'response'> & { now: Date; nonce?: Uint8Array | undefined },
  findings: Findings,
): void {
  const policy = {
    ...(inputs.maxAge === undefined ? {} : { maxAgeSeconds: inputs.maxAge }),
    ...(inputs.nonce ? { expectedNonce: inputs.nonce } : {}),
  };
  const verdict = verifyReceipt(receipt, { publicKey, now: inputs.now, policy });
  findings.add(...layerChecks(verdict));
  const { claims } = verdict;
  if (claims) {
    // By its own word no TEE in production made it.
    findings.simulated ||= claims.securityMode === 'evaluation';
    if (inputs.request) findings.add(compare('receipt.request', digest(inputs.request), hex(claims.requestHash)));
    if (inputs.response) findings.add(compare('receipt.response', digest(inputs.response), hex(claims.responseHash)));
  }
  findings.notChecked.push(
    'evidence: whether a TEE holds the signing key (--public-key checks signature and claims only)',
    'which program and which model answered: only what the receipt says',
  );
}
