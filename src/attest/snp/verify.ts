import { hex, isZero } from '../../core/bytes.ts';
import { type Check, compare, fail, pass, skipped } from '../../core/check.ts';
import type { Certificate } from '../certificate.ts';
import { verifyChain } from '../chain.ts';
import { checkRevocation, parseCrl } from '../crl.ts';
import { AMD_ROOTS } from '../roots/amd.ts';
import { trustedRoots } from '../roots/pinned.ts';
import { type Claims, NO_ENDORSEMENTS, type Verified, type VerifyEvidenceOptions } from '../types.ts';
import { buildChain, chipFits, findKey, parseAll, signedBy, tcbFits } from './chain.ts';
import type { EndorsementKey } from './endorsement-key.ts';
import { reportFacts, reportMeasurement } from './facts.ts';
import { parseReport, type SnpReport } from './report.ts';
import { lineOfCpu, notNewer, readTcb, showTcb } from './tcb.ts';

const KEYS = { authority: 'RSA-4096', leaf: 'P-384' } as const;

/**
 * Verifies an AMD SEV-SNP attestation report (ABI 56860, KDS 57230): signed by a VCEK or VLEK of a chain to the pinned root
 * of its product line, which says of the chip and its firmware what the report says. A report has no time of its own, so the
 * chain has to hold at `options.at`, or now. Certificates come from the endorsements; the ASKs are known.
 *
 * Throws `ERR_EVIDENCE_MALFORMED` (exit 2) where the bytes are no report, `ERR_ENDORSEMENTS_MISSING` (exit 5) without a
 * VCEK or VLEK, `ERR_CRL_MALFORMED` (exit 2).
 */
export function verifySnp(evidence: Uint8Array, options: VerifyEvidenceOptions): Verified {
  const report = parseReport(evidence);
  const { endorsements = NO_ENDORSEMENTS, now, at = now } = options;
  const key = findKey(report, endorsements.certificates);
  const { certificates, fingerprints, note } = trustedRoots([AMD_ROOTS[key.line]], options.roots);
  const chain = buildChain(key, parseAll(certificates), endorsements);
  const crls = endorsements.crls.map((der, index) => parseCrl(der, `revocation list ${index}`));
  return {
    claims: snpClaims(report, key),
    chain,
    checks: [
      ...verifyChain(chain, {
        roots: fingerprints,
        note,
        at,
        now,
        current: options.maxAgeSeconds !== undefined,
        keys: KEYS,
        leafUsage: 'optional',
      }),
      ...revocation(chain, crls, at),
      checkLine(report, key),
      checkSigningKey(report, key),
      checkChip(report, key),
      tcbFits(report, key)
        ? pass('evidence.tcb', showTcb(key.tcb))
        : fail('evidence.tcb', { expected: showTcb(key.tcb), actual: shownTcb(report.reportedTcb, key) }),
      checkTcbOrder(report, key),
      signedBy(report, key.certificate)
        ? pass('evidence.signature', `ECDSA P-384 by the ${key.kind}`)
        : fail('evidence.signature', { detail: `the signature is not the ${key.kind}’s over this report` }),
      skipped(
        'evidence.time',
        'a report does not say when it was made: only a nonce in its report_data shows that it is new',
      ),
      compare(
        'evidence.debug',
        'off',
        report.policy.debug ? 'on: the host may read and write the guest’s memory' : 'off',
      ),
    ],
  };
}

function revocation(chain: Certificate[], crls: ReturnType<typeof parseCrl>[], at: Date): Check[] {
  const [root, intermediate] = chain;
  if (root === undefined || intermediate === undefined || chain.length < 3) return [];
  return [checkRevocation('evidence.revocation', [intermediate], root, crls, at)];
}

/** The CPUID of reports since version 3 must be of the certificate's product line; a root vouches for its own line only. */
function checkLine({ cpuid }: SnpReport, { line, product }: EndorsementKey): Check {
  const id = 'evidence.product';
  const found = cpuid && lineOfCpu(cpuid);
  if (cpuid === undefined || found === line) return pass(id, product);
  const cpu = `CPUID family 0x${cpuid.family.toString(16)} model 0x${cpuid.model.toString(16)}`;
  return fail(id, { expected: line, actual: `${found ?? 'an unknown processor'} (${cpu})` });
}

function checkSigningKey({ signingKey, maskChipKey }: SnpReport, { kind, provider }: EndorsementKey): Check {
  const id = 'evidence.signing-key';
  if (signingKey === 'none' || maskChipKey) return fail(id, { expected: kind, actual: 'the host had it not signed' });
  if (signingKey !== kind) return compare(id, signingKey, kind);
  return pass(id, provider === undefined ? kind : `${kind} of ${provider}`);
}

function checkChip(report: SnpReport, key: EndorsementKey): Check {
  const id = 'evidence.chip';
  if (key.hwid === undefined) return skipped(id, 'a VLEK is the provider’s, not one chip’s');
  if (isZero(report.chipId)) {
    return skipped(id, 'the host masked the chip id; the VCEK that signed is of one chip all the same');
  }
  return chipFits(report, key)
    ? pass(id, hex(report.chipId))
    : fail(id, { expected: hex(key.hwid), actual: hex(report.chipId) });
}

/** Firmware that is not committed can be rolled back, and what is reported must not be newer than what runs. */
function checkTcbOrder(report: SnpReport, { line }: EndorsementKey): Check {
  const id = 'evidence.tcb-committed';
  const [reported, committed, current] = [report.reportedTcb, report.committedTcb, report.currentTcb].map((bytes) =>
    readTcb(bytes, line),
  );
  if (!reported || !committed || !current) return fail(id, { detail: `a TCB version is not one of ${line}` });
  return notNewer(reported, committed) && notNewer(committed, current)
    ? pass(id, `committed: ${showTcb(committed)}`)
    : fail(id, {
        expected: 'reported TCB <= committed TCB <= current TCB',
        actual: `${showTcb(reported)}; ${showTcb(committed)}; ${showTcb(current)}`,
      });
}

function shownTcb(bytes: Buffer, { line }: EndorsementKey): string {
  const tcb = readTcb(bytes, line);
  return tcb === null ? `${hex(bytes)}, which is not a TCB version of ${line}` : showTcb(tcb);
}

function snpClaims(report: SnpReport, key: EndorsementKey): Claims {
  // The VCEK names the chip even where the host masked it in the report.
  const chip = key.hwid === undefined ? report.chipId : Buffer.concat([key.hwid], report.chipId.length);
  return {
    tee: 'snp',
    simulated: false,
    measurement: reportMeasurement(report),
    debug: report.policy.debug,
    reportData: report.reportData,
    ...(isZero(chip) ? {} : { platform: hex(chip) }),
    product: key.line,
    vmpl: report.vmpl,
    migrationAgent: report.policy.migrationAgent,
    facts: {
      product: key.product,
      ...(key.provider === undefined ? {} : { provider: key.provider }),
      ...reportFacts(report, key.line),
    },
  };
}
