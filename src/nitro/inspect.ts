import type { X509Certificate } from 'node:crypto';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import type { EifArch, EifSectionType } from './layout.ts';
import { parseMetadata } from './metadata.ts';
import { validity } from './pem-certificate.ts';
import { checkSignature, type SignatureCheck } from './signature.ts';
import type { EifSource } from './source.ts';
import { type MeasuredEif, streamEif } from './stream.ts';

/** The shape of `inspect X.eif --json`. */
export interface EifDescription {
  kind: 'eif';
  version: number;
  arch: EifArch;
  cmdline: string;
  crc: { stored: number; computed: number; ok: boolean };
  /** `offset` is that of the data. */
  sections: { type: EifSectionType; offset: number; size: number; sha384: string }[];
  measurement: NitroMeasurement;
  metadata: Record<string, unknown> | null;
  /** Without the certificate's facts where the section cannot be read. */
  signature: ((CertificateFacts | object) & SignatureCheck) | null;
}

interface CertificateFacts {
  subject: string;
  issuer: string;
  /** ISO 8601. */
  notBefore: string;
  notAfter: string;
  /** Hex SHA-256 of the certificate's DER. */
  fingerprint: string;
}

/** Describes an image without trusting it: a wrong CRC or signature is told, not thrown. Throws as `streamEif`. */
export async function inspectEif(image: string | EifSource, onProgress?: OnProgress): Promise<EifDescription> {
  const measured = await streamEif(image, { onProgress, fileDigests: [], tolerant: true });
  const { layout, cmdline, crc, sections, measurement, metadata } = measured;
  return {
    kind: 'eif',
    version: layout.version,
    arch: layout.arch,
    cmdline,
    crc,
    sections,
    measurement,
    metadata: metadata && parseMetadata(metadata),
    signature: describeSignature(measured),
  };
}

function describeSignature({ signature, signatureError, measurement }: MeasuredEif): EifDescription['signature'] {
  if (signatureError) return { valid: false, reason: signatureError.message };
  return signature && { ...facts(signature.certificate), ...checkSignature(signature, measurement.pcr0) };
}

function facts(certificate: X509Certificate): CertificateFacts {
  const { notBefore, notAfter } = validity(certificate);
  return {
    subject: certificate.subject.replaceAll('\n', ', '),
    issuer: certificate.issuer.replaceAll('\n', ', '),
    notBefore: notBefore.toISOString(),
    notAfter: notAfter.toISOString(),
    fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
  };
}
