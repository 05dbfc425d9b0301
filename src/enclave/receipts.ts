import { randomBytes } from 'node:crypto';
import { encodeReceipt } from '../attest/receipt.ts';
import { checkReceiptClaims, type ReceiptClaims, type SecurityMode } from '../attest/receipt-claims.ts';
import { receiptMeasurements } from '../attest/receipt-measurements.ts';
import { knownHex, sha256 } from '../core/bytes.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import type { Identity } from './identity.ts';
import { peakMemoryMb } from './memory.ts';

/** What happened, to be signed. Request and response are the exact bytes; nobody outside supplies a hash. */
export interface Answered {
  request: Uint8Array;
  response: Uint8Array;
  executionTimeMs: number;
  /** The caller's, 8 to 64 bytes. */
  nonce?: Uint8Array | undefined;
}

/** Signs receipts, AIR v1 or our profile of it (key-release.md, "Receipts"), for one launch, numbered from 1. */
export function createReceiptSigner(config: MeasuredConfig, identity: Identity, securityMode: SecurityMode) {
  const fixed = {
    iss: `atoma-tee/${config.project}`,
    modelId: config.project,
    modelVersion: config.projectVersion,
    modelHash: knownHex(config.model.digest),
    modelHashScheme: 'sha256-manifest' as const,
    attestationDocHash: identity.bootEvidenceHash,
    measurements: receiptMeasurements(identity.measurement),
    policyVersion: config.policyVersion,
    securityMode,
  };
  const claims = ({ request, response, executionTimeMs, nonce }: Answered, sequenceNumber: number): ReceiptClaims => ({
    ...fixed,
    iat: Math.floor(Date.now() / 1000),
    cti: randomBytes(16),
    ...(nonce === undefined ? {} : { nonce }),
    requestHash: sha256(request),
    responseHash: sha256(response),
    sequenceNumber,
    executionTimeMs: Math.round(executionTimeMs),
    memoryPeakMb: peakMemoryMb(),
  });
  // What every receipt will say is judged now, so that none is signed later that a verifier would refuse.
  checkReceiptClaims(claims({ request: Buffer.alloc(0), response: Buffer.alloc(0), executionTimeMs: 0 }, 1));
  let sequenceNumber = 0;
  return (answered: Answered): Uint8Array => encodeReceipt(claims(answered, ++sequenceNumber), identity.receiptKey);
}
