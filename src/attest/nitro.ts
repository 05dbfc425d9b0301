import { hex, isZero } from '../core/bytes.ts';
import { compare, fail, pass } from '../core/check.ts';
import { ALG, parseSign1, type Sign1, verifySign1 } from '../core/cose.ts';
import { negativeError, usageError } from '../core/errors.ts';
import type { NitroMeasurement, SgxMeasurement } from '../core/measurement.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { verifyChain } from './chain.ts';
import { type AttestationDocument, LIMITS, measuredBy, parseDocument } from './document.ts';
import { freshness } from './freshness.ts';
import { AWS_NITRO_ROOT } from './roots/aws.ts';
import { trustedRoots } from './roots/pinned.ts';
import { SIMULATED_CONTENT_TYPE } from './simulated-attester.ts';
import { SIMULATED_OID } from './simulated-certificate.ts';
import type { Claims, Verified, VerifyEvidenceOptions } from './types.ts';

const P384 = { authority: 'P-384', leaf: 'P-384' } as const;

/**
 * Verifies an AWS Nitro attestation document (aws-nitro-enclaves-nsm-api, docs/attestation_process.md, and what real
 * documents have, design nitro.md section F): COSE_Sign1 under ES384, tagged or not, by the leaf of a chain to the pinned
 * root, which holds at the document's own time or at `options.at`. What was measured is for `appraise`.
 *
 * Throws `ERR_EVIDENCE_UNSIGNED` (exit 3) for an emulator's document, `ERR_EVIDENCE_KIND` for a simulated one, under any
 * root; `ERR_EVIDENCE_MALFORMED`, `ERR_CERTIFICATE_MALFORMED`, `ERR_COSE_MALFORMED` or `ERR_CBOR_MALFORMED` (all exit 2)
 * where the bytes are no such document.
 */
export function verifyNitro(evidence: Uint8Array, options: VerifyEvidenceOptions): Verified {
  const message = parseSign1(evidence, {
    what: 'Nitro document',
    maxBytes: LIMITS.document,
    tag: 'optional',
    form: 'any',
  });
  checkHeader(message);
  const document = parseDocument(message.payload, 'any');
  const leaf = parseCertificate(document.certificate, 'leaf certificate');
  const chain = document.cabundle.map((bytes, index) => parseCertificate(bytes, `certificate ${index} of cabundle`));
  const timestamp = new Date(document.timestamp);
  const claims = nitroClaims(document, timestamp);
  const { fingerprints, note } = trustedRoots([AWS_NITRO_ROOT], options.roots);
  const certificates = [...chain, leaf];
  return {
    claims,
    chain: certificates,
    checks: [
      ...verifyChain(certificates, {
        roots: fingerprints,
        note,
        at: options.at ?? timestamp,
        now: options.now,
        current: options.maxAgeSeconds !== undefined,
        keys: P384,
      }),
      ...(leaf.extensions.has(SIMULATED_OID)
        ? [fail('evidence.simulated', { expected: 'evidence of real hardware', actual: 'the leaf says SIMULATED' })]
        : []),
      signedBy(leaf, message)
        ? pass('evidence.signature', 'ECDSA P-384 by the leaf')
        : fail('evidence.signature', { detail: 'the signature is not the leaf certificate’s over this document' }),
      freshness(timestamp, options),
      compare('evidence.debug', 'off', claims.debug ? 'on: PCR0, PCR1 and PCR2 are zero, a debug enclave' : 'off'),
    ],
  };
}

/** Another curve would make the verifier hash with SHA-384 what nobody signed so; the chain check names the curve. */
const signedBy = (leaf: Certificate, message: Sign1): boolean =>
  leaf.key === 'P-384' && verifySign1(message, ALG.ES384, leaf.x509.publicKey);

function checkHeader({ protectedHeader, unprotectedHeader, signature }: Sign1): void {
  if (protectedHeader.get(3) === SIMULATED_CONTENT_TYPE) {
    throw usageError('ERR_EVIDENCE_KIND', 'expected an AWS Nitro document, found SIMULATED evidence');
  }
  // QEMU's nitro-enclave machine: algorithm -1 and zeros in the signature's place (hw/virtio/cbor-helpers.c, virtio-nsm.c).
  if (protectedHeader.get(1) === -1 || isZero(signature)) {
    throw negativeError(
      'ERR_EVIDENCE_UNSIGNED',
      'expected a document that AWS Nitro hardware signed, found an unsigned one: an emulator’s',
      { hint: 'QEMU signs nothing: evidence from it proves nothing' },
    );
  }
  const closed = protectedHeader.size === 1 && protectedHeader.get(1) === ALG.ES384 && unprotectedHeader.size === 0;
  if (!closed || signature.length !== 96) {
    throw usageError(
      'ERR_EVIDENCE_MALFORMED',
      'Nitro document: expected ES384 as the only header and a signature of 96 bytes',
    );
  }
}

/** What a Nitro-shaped document says; its measurement is a Nitro enclave's, unless it is a simulated one. */
export function nitroClaims(
  document: AttestationDocument,
  timestamp: Date,
): Claims & { measurement: NitroMeasurement | SgxMeasurement } {
  return {
    tee: 'nitro',
    simulated: false,
    ...measuredBy(document),
    timestamp,
    moduleId: document.moduleId,
    pcrs: new Map([...document.pcrs].map(([index, value]) => [index, hex(value)])),
    ...(document.userData === null ? {} : { userData: document.userData }),
    ...(document.nonce === null ? {} : { nonce: document.nonce }),
    ...(document.publicKey === null ? {} : { publicKey: document.publicKey }),
  };
}
