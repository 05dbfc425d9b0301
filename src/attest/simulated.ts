import { compare, fail, pass } from '../core/check.ts';
import { ALG, parseSign1, type Sign1, verifySign1 } from '../core/cose.ts';
import { usageError } from '../core/errors.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { verifyChain } from './chain.ts';
import { type AttestationDocument, LIMITS, parseDocument } from './document.ts';
import { freshness } from './freshness.ts';
import { nitroClaims } from './nitro.ts';
import { SIMULATED_CONTENT_TYPE } from './simulated-attester.ts';
import { SIMULATED_OID, SIMULATED_VALUE } from './simulated-certificate.ts';
import type { Claims, Verified, VerifyEvidenceOptions } from './types.ts';

/**
 * Verifies evidence of the simulated TEE: the content type and the leaf's critical extension that both say so, a chain to
 * a root that the caller named, the signature, time, debug. What was measured is for `appraise`.
 *
 * Throws `ERR_EVIDENCE_KIND`, `ERR_EVIDENCE_MALFORMED`, `ERR_CERTIFICATE_MALFORMED`, `ERR_COSE_MALFORMED` or
 * `ERR_CBOR_MALFORMED` (all exit 2) where the bytes are not such evidence at all.
 */
export function verifySimulated(evidence: Uint8Array, options: VerifyEvidenceOptions): Verified {
  const message = parseSign1(evidence, { what: 'simulated evidence', maxBytes: LIMITS.document, tag: 'forbidden' });
  checkHeader(message);
  const document = parseDocument(message.payload, 'deterministic');
  const leaf = parseCertificate(document.certificate, 'leaf certificate');
  const chain = document.cabundle.map((bytes, index) => parseCertificate(bytes, `certificate ${index} of cabundle`));
  const timestamp = new Date(document.timestamp);
  const claims = readClaims(document, chain[0] as Certificate, timestamp);
  const mark = leaf.extensions.get(SIMULATED_OID);
  const certificates = [...chain, leaf];
  return {
    claims,
    chain: certificates,
    checks: [
      ...verifyChain(certificates, {
        roots: options.allowSimulated,
        at: options.at ?? timestamp,
        now: options.now,
        current: options.maxAgeSeconds !== undefined,
        understood: [SIMULATED_OID],
      }),
      mark?.critical === true && SIMULATED_VALUE.equals(mark.value)
        ? pass('evidence.simulated', 'the leaf says SIMULATED')
        : fail('evidence.simulated', { expected: 'a critical extension that says SIMULATED', actual: 'none' }),
      leaf.x509.publicKey.asymmetricKeyDetails?.namedCurve === 'secp384r1' &&
      verifySign1(message, ALG.ES384, leaf.x509.publicKey)
        ? pass('evidence.signature', 'ECDSA P-384 by the leaf')
        : fail('evidence.signature', { detail: 'the signature is not the leaf certificate’s over this document' }),
      freshness(timestamp, options),
      compare(
        'evidence.debug',
        'off',
        claims.debug ? `on: ${document.sgx ? '' : 'PCR0, PCR1 and PCR2 are zero, '}a debug enclave` : 'off',
      ),
    ],
  };
}

function checkHeader({ protectedHeader, unprotectedHeader, signature }: Sign1): void {
  const type = protectedHeader.get(3);
  if (type !== SIMULATED_CONTENT_TYPE) {
    const found = typeof type === 'string' ? JSON.stringify(type.slice(0, 80)) : 'another';
    throw usageError(
      'ERR_EVIDENCE_KIND',
      `expected simulated evidence (${SIMULATED_CONTENT_TYPE}), found content type ${found}`,
    );
  }
  const closed = protectedHeader.size === 2 && protectedHeader.get(1) === ALG.ES384 && unprotectedHeader.size === 0;
  if (!closed || signature.length !== 96) {
    throw usageError(
      'ERR_EVIDENCE_MALFORMED',
      'simulated evidence: expected ES384 and the content type as the only headers',
    );
  }
}

function readClaims(document: AttestationDocument, root: Certificate, timestamp: Date): Claims {
  const claims = nitroClaims(document, timestamp);
  const measurement = { tee: 'simulated', root: root.fingerprint, of: claims.measurement } as const;
  return { ...claims, tee: 'simulated', simulated: true, measurement };
}
