import { type AttestationDocument, measuredBy, parseDocument } from '../attest/document.ts';
import { detectKind, parseEvidenceFile } from '../attest/index.ts';
import { reportFacts, reportMeasurement } from '../attest/snp/facts.ts';
import { parseReport } from '../attest/snp/report.ts';
import { hex } from '../core/bytes.ts';
import { parseSign1 } from '../core/cose.ts';
import { AtomaError, usageError } from '../core/errors.ts';

/** What evidence of any TEE claims, JSON-able, nothing verified. Throws the parsers' errors (exit 2). */
export async function inspectEvidence(bytes: Buffer) {
  const file = detectKind(bytes) === 'evidence-file' ? parseEvidenceFile(bytes) : undefined;
  const evidence = file?.evidence ?? bytes;
  const tee = detectKind(evidence);
  return {
    kind: 'evidence',
    verified: false,
    tee,
    ...(await describe(evidence, tee)),
    ...(file ? { ed25519: hex(file.ed25519) } : {}),
  };
}

async function describe(evidence: Uint8Array, tee: ReturnType<typeof detectKind>): Promise<Record<string, unknown>> {
  switch (tee) {
    case 'simulated':
    case 'nitro':
      return describeSigned(evidence, tee);
    case 'snp': {
      const report = parseReport(evidence);
      return {
        measurement: reportMeasurement(report),
        debug: report.policy.debug,
        reportData: hex(report.reportData),
        ...reportFacts(report),
      };
    }
    case 'sgx':
    case 'tdx': {
      // Without endorsements every check but those of the quote alone fails; the claims are what is read here.
      const { verifyDcap } = await import('../attest/dcap/verify.ts');
      const { claims } = verifyDcap(evidence, { allowSimulated: [], now: new Date() });
      const { measurement, debug, reportData, facts } = claims;
      return { measurement, debug, reportData: reportData && hex(reportData), ...facts };
    }
    default:
      throw usageError('ERR_EVIDENCE_UNSUPPORTED', `expected evidence of a TEE, found ${tee ?? 'unknown bytes'}`);
  }
}

async function describeSigned(evidence: Uint8Array, tee: 'simulated' | 'nitro') {
  const message = parseSign1(evidence, { what: 'evidence', maxBytes: 1 << 16, tag: 'optional', form: 'any' });
  const unsigned = message.protectedHeader.get(1) === -1;
  return {
    ...(unsigned ? { signature: 'none: an emulator made this' } : {}),
    ...(await describeDocument(parseDocument(message.payload, tee === 'nitro' ? 'any' : 'deterministic'))),
  };
}

async function describeDocument(document: AttestationDocument) {
  const { parseCertificate } = await import('../attest/certificate.ts');
  const shown = (bytes: Uint8Array | null) => (bytes ? hex(bytes) : null);
  return {
    moduleId: document.moduleId,
    time: new Date(document.timestamp).toISOString(),
    // A simulated document may speak for an SGX enclave, whose registers these are not.
    ...(document.sgx === undefined ? {} : measuredBy(document)),
    pcrs: Object.fromEntries([...document.pcrs].map(([index, value]) => [`pcr${index}`, hex(value)])),
    publicKey: shown(document.publicKey),
    userData: shown(document.userData),
    nonce: shown(document.nonce),
    certificates: [...document.cabundle, document.certificate].map((der) => {
      try {
        const { x509, notBefore, notAfter, fingerprint } = parseCertificate(der, 'certificate');
        return {
          subject: x509.subject.replaceAll('\n', ', '),
          notBefore: notBefore.toISOString(),
          notAfter: notAfter.toISOString(),
          fingerprint,
        };
      } catch (error) {
        if (!(error instanceof AtomaError)) throw error;
        return { unreadable: error.message };
      }
    }),
  };
}
