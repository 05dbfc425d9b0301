import { ClaimFailure } from '../attest/claim-reader.ts';
import { type AttestationDocument, parseDocument } from '../attest/document.ts';
import { detectKind, parseEvidenceFile } from '../attest/index.ts';
import { RECEIPT_LIMIT } from '../attest/receipt.ts';
import { decodeReceiptClaims } from '../attest/receipt-claims.ts';
import { hex } from '../core/bytes.ts';
import { parseSign1 } from '../core/cose.ts';
import { missingError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { readXWingPrivateKey } from '../keys/keys.ts';
import { inspectEif, nitroCliDescription } from '../nitro/index.ts';
import { inspectSealed } from '../seal/index.ts';
import { readManifest } from './image.ts';
import { fileKind } from './verify/kind.ts';

/**
 * `atoma-tee inspect`: what a file claims, JSON-able, nothing verified. Throws `ERR_KIND_UNKNOWN` and the parsers' errors
 * (exit 2).
 */
export async function inspect(
  path: string,
  options: { key?: string | undefined; onProgress?: OnProgress },
): Promise<Record<string, unknown>> {
  switch (await fileKind(path)) {
    case 'eif':
      return { ...(await inspectEif(path, options.onProgress)) };
    case 'sealed-model': {
      const key = options.key ? readXWingPrivateKey(await readSmallFile(options.key, 'recovery key')) : undefined;
      return { ...(await inspectSealed(path, key)), kind: 'sealed-model' };
    }
    case 'build-manifest':
      return inspectManifest(path);
    case 'evidence':
      return inspectEvidence(await readSmallFile(path, 'evidence', 8 << 20));
    case 'receipt':
      return inspectReceipt(await readSmallFile(path, 'receipt'));
  }
}

/** `inspect --nitro-cli`: the text that `nitro-cli describe-eif` prints. Throws as `nitroCliDescription`. */
export const inspectAsNitroCli = (path: string, onProgress?: OnProgress): Promise<string> =>
  nitroCliDescription(path, onProgress);

async function inspectManifest(path: string) {
  const { subject, predicate } = await readManifest(path);
  const { externalParameters, internalParameters, resolvedDependencies } = predicate.buildDefinition;
  return {
    kind: 'build-manifest',
    verified: false,
    images: subject.map(({ name, digest }) => ({ name, ...digest })),
    project: externalParameters.project,
    model: externalParameters.model.digest,
    owner: externalParameters.owner,
    ...internalParameters,
    inputs: resolvedDependencies.map(({ name, uri, digest }) => ({ name: name ?? uri, ...digest })),
  };
}

async function inspectEvidence(bytes: Buffer) {
  const file = detectKind(bytes) === 'evidence-file' ? parseEvidenceFile(bytes) : undefined;
  const evidence = file?.evidence ?? bytes;
  const tee = detectKind(evidence);
  if (tee !== 'simulated' && tee !== 'nitro') {
    throw missingError('ERR_EVIDENCE_UNSUPPORTED', `this version describes Nitro-shaped evidence only, found ${tee}`);
  }
  const message = parseSign1(evidence, { what: 'evidence', maxBytes: 1 << 16, tag: 'optional', form: 'any' });
  return {
    kind: 'evidence',
    verified: false,
    tee,
    ...(await describeDocument(parseDocument(message.payload, 'any'))),
    ...(file ? { ed25519: hex(file.ed25519) } : {}),
  };
}

async function describeDocument(document: AttestationDocument) {
  const { parseCertificate } = await import('../attest/certificate.ts');
  const shown = (bytes: Uint8Array | null) => (bytes ? hex(bytes) : null);
  const certificates = [...document.cabundle, document.certificate].map((der) => parseCertificate(der, 'certificate'));
  return {
    moduleId: document.moduleId,
    time: new Date(document.timestamp).toISOString(),
    pcrs: Object.fromEntries([...document.pcrs].map(([index, value]) => [`pcr${index}`, hex(value)])),
    publicKey: shown(document.publicKey),
    userData: shown(document.userData),
    nonce: shown(document.nonce),
    certificates: certificates.map(({ x509, notBefore, notAfter, fingerprint }) => ({
      subject: x509.subject.replaceAll('\n', ', '),
      notBefore: notBefore.toISOString(),
      notAfter: notAfter.toISOString(),
      fingerprint,
    })),
  };
}

function receiptClaims(payload: Uint8Array) {
  try {
    return decodeReceiptClaims(payload);
  } catch (cause) {
    if (!(cause instanceof ClaimFailure)) throw cause;
    throw usageError('ERR_RECEIPT_MALFORMED', `receipt: ${cause.code}: ${cause.message}`, { cause });
  }
}

function inspectReceipt(bytes: Buffer) {
  const message = parseSign1(bytes, { what: 'receipt', maxBytes: RECEIPT_LIMIT, tag: 'required' });
  const { measurements, iat, ...claims } = receiptClaims(message.payload);
  const show = (fields: object) =>
    Object.fromEntries(Object.entries(fields).map(([name, v]) => [name, v instanceof Uint8Array ? hex(v) : v]));
  return {
    kind: 'receipt',
    verified: false,
    time: new Date(iat * 1000).toISOString(),
    ...show(claims),
    measurements: show(measurements),
  };
}
