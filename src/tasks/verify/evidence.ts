import {
  checkIdentity,
  detectKind,
  type EvidenceFile,
  parseEvidenceFile,
  type VerifyEvidenceOptions,
  verifyEvidence,
} from '../../attest/index.ts';
import { hex } from '../../core/bytes.ts';
import { compare, skipped } from '../../core/check.ts';
import { compareMeasurement, type Expected } from './expect.ts';
import type { Findings } from './report.ts';

export type EvidenceTrust = VerifyEvidenceOptions & { nonce?: Uint8Array | undefined };

/** Evidence, in our file or as raw vendor bytes: signature to a root, debug, measurement, nonce, bound keys. */
export async function verifyEvidenceFile(
  bytes: Uint8Array,
  expected: Expected,
  trust: EvidenceTrust,
  findings: Findings,
): Promise<void> {
  const file: EvidenceFile | undefined =
    detectKind(bytes) === 'evidence-file'
      ? await findings.step('file.format', () => parseEvidenceFile(bytes))
      : undefined;
  if (file === undefined && findings.checks.length > 0) return;
  const verified = await findings.step('evidence.format', () =>
    verifyEvidence(file?.evidence ?? bytes, { ...trust, ...(file ? { tee: file.tee } : {}) }),
  );
  if (!verified) return;
  const { claims, checks } = verified;
  findings.simulated ||= claims.simulated;
  findings.add(...checks, ...compareMeasurement(expected, claims.measurement));
  if (file) {
    findings.add(...checkIdentity(file, claims, trust.nonce));
  } else {
    findings.notChecked.push('which keys the evidence binds: give the evidence file of this toolkit for that');
    findings.add(
      trust.nonce === undefined
        ? skipped('nonce.none', 'no --nonce: the evidence may be old')
        : compare('nonce.equal', hex(trust.nonce), claims.nonce ? hex(claims.nonce) : 'none'),
    );
  }
}
