/**
 * Evidence -> verified claims -> appraisal; the simulated TEE; evidence files; receipts. No network, no commands.
 * What needs the certificate library (`certificate.ts` and its users) is not here: it loads when evidence is at hand.
 */
export { type Acceptance, appraisePlatform } from './acceptance.ts';
export { appraise } from './appraise.ts';
export { type EvidenceFile, encodeEvidenceFile, parseEvidenceFile } from './evidence-file.ts';
export {
  checkIdentity,
  type EnclaveIdentity,
  encodeKeyConfig,
  identityReportData,
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
export type { ReceiptClaims } from './receipt-claims.ts';
export { checkReceiptClaims } from './receipt-claims.ts';
export {
  AIR_PROFILE,
  type MeasurementType,
  OWN_PROFILE,
  profileOf,
  type ReceiptMeasurements,
  receiptMeasurements,
} from './receipt-measurements.ts';
export { ReplaySet, type ReplayStore } from './replay.ts';
export { fromPem, parseRoots } from './roots/pinned.ts';
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
export type { Claims, Endorsements, SignedJson, Tee, Verified, VerifyEvidenceOptions } from './types.ts';
export { NO_ENDORSEMENTS } from './types.ts';
export { verifyEvidence } from './verify.ts';
export { layerChecks, type ReceiptContext, verifyReceiptAgainst } from './verify-receipt.ts';
