/** Evidence -> verified claims -> appraisal; the simulated TEE; evidence files; receipts. No network, no commands. */
export { appraise } from './appraise.ts';
export { type Certificate, parseCertificate } from './certificate.ts';
export { type EvidenceFile, encodeEvidenceFile, parseEvidenceFile } from './evidence-file.ts';
export {
  checkIdentity,
  type EnclaveIdentity,
  encodeKeyConfig,
  identityRequest,
  identityUserData,
  parseKeyConfig,
} from './identity.ts';
export { type AttestedKind, detectKind, isSimulatedDocument } from './kind.ts';
export {
  encodeReceipt,
  type ReceiptFailure,
  type ReceiptLayer,
  type ReceiptPolicy,
  type ReceiptVerdict,
  verifyReceipt,
} from './receipt.ts';
export type { ReceiptClaims, ReceiptMeasurements } from './receipt-claims.ts';
export { verifySimulated } from './simulated.ts';
export {
  type Attester,
  type AttestRequest,
  createSimulatedAttester,
  RELEASE_PCR,
  SIMULATED_CONTENT_TYPE,
  type SimulatedAttester,
} from './simulated-attester.ts';
export {
  createSimulatedRoot,
  loadOrCreateLocalRoot,
  localRootDirectory,
  localRootFingerprint,
  resolveSimulatedRoots,
  type SimulatedRoot,
} from './simulated-root.ts';
export type { Claims, Tee, Verified, VerifyEvidenceOptions } from './types.ts';
export { verifyEvidence } from './verify.ts';
export { layerChecks, type ReceiptContext, verifyReceiptAgainst } from './verify-receipt.ts';
