import {
  type Acceptance,
  appraise,
  appraisePlatform,
  type Claims,
  checkIdentity,
  detectKind,
  type EvidenceFile,
  parseEvidenceFile,
  type Tee,
  type VerifyEvidenceOptions,
  verifyEvidence,
} from '../../attest/index.ts';
import { hex } from '../../core/bytes.ts';
import { type Check, compare, fail, skipped } from '../../core/check.ts';
import type { Policy } from '../../seal/policy.ts';
import { compareMeasurement, type Expected } from './expect.ts';
import { evidenceFacts } from './facts.ts';
import type { Findings } from './report.ts';

/** What the user says of evidence: roots, time, endorsements; which TEE it must be of (`--kind`); what else is accepted. */
export type EvidenceTrust = VerifyEvidenceOptions & {
  nonce?: Uint8Array | undefined;
  tee?: Tee | undefined;
  acceptance?: Acceptance | undefined;
  /** A release policy: it names the measurements that will do, and what else of a platform is accepted. */
  policy?: Policy | undefined;
};

/** Evidence, in our file or as raw vendor bytes: signature to a root, debug, measurement, nonce, bound keys. */
export async function verifyEvidenceFile(
  bytes: Uint8Array,
  expected: Expected | undefined,
  trust: EvidenceTrust,
  findings: Findings,
): Promise<void> {
  const file: EvidenceFile | undefined =
    detectKind(bytes) === 'evidence-file'
      ? await findings.step('file.format', () => parseEvidenceFile(bytes))
      : undefined;
  if (file === undefined && findings.checks.length > 0) return;
  const { tee = file?.tee, policy: _, ...options } = trust;
  if (file) findings.add(compare('evidence.kind', tee ?? file.tee, file.tee));
  const verified = await findings.step('evidence.format', () =>
    verifyEvidence(file?.evidence ?? bytes, { ...options, ...(tee === undefined ? {} : { tee }) }),
  );
  if (!verified) return;
  const { claims, checks } = verified;
  findings.simulated ||= claims.simulated;
  findings.evidence = evidenceFacts(verified, file?.evidence ?? bytes, expected ?? { from: 'none' });
  if (claims.simulated && trust.roots !== undefined) {
    findings.add(
      fail('evidence.simulated', { expected: 'evidence under the root of --root', actual: 'SIMULATED evidence' }),
    );
  }
  findings.add(
    ...checks,
    ...(trust.policy
      ? appraise(trust.policy, claims, trust.at ?? trust.now)
      : appraisePlatform(claims, trust.acceptance)
    ).filter(({ status }) => status !== 'skipped'),
    ...(expected ? compareMeasurement(expected, claims.measurement) : []),
  );
  findings.notChecked.push(...checks.filter(({ id }) => id.endsWith('.revocation')).flatMap(notRevoked));
  if (file) {
    findings.add(...checkIdentity(file, claims, trust.nonce), ...checkDeclaredNonce(file, claims));
  } else {
    findings.notChecked.push('which keys the evidence binds: give the evidence file of this toolkit for that');
    findings.add(
      trust.nonce === undefined
        ? skipped('nonce.none', 'no --nonce: the evidence may be old')
        : compareNonce(trust.nonce, claims),
    );
  }
}

/** What the file says of the nonce is not the evidence's word; where there is a field of report data, the keys' check covers it. */
function checkDeclaredNonce({ nonce }: EvidenceFile, { nonce: found, reportData }: Claims): Check[] {
  const [declared, actual] = [nonce, found].map((bytes) => (bytes ? hex(bytes) : 'none')) as [string, string];
  return reportData !== undefined || declared === actual
    ? []
    : [
        fail('nonce.declared', {
          expected: declared,
          actual,
          detail: 'the file names another nonce than the evidence',
        }),
      ];
}

/** Where there is one field of 64 bytes, a nonce stands at its beginning, zeros after it. */
function compareNonce(nonce: Uint8Array, { nonce: found, reportData }: Claims): Check {
  if (reportData === undefined) return compare('nonce.equal', hex(nonce), found ? hex(found) : 'none');
  const padded = Buffer.concat([nonce], Math.max(nonce.length, reportData.length));
  return compare('nonce.equal', hex(padded), hex(reportData), 'report_data');
}

const notRevoked = ({ status, detail }: Check): string[] =>
  status === 'skipped' ? [`whether the vendor revoked a certificate: ${detail}`] : [];
