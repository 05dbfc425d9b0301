import { isZero } from '../core/bytes.ts';
import { decodeCbor, encodeCbor } from '../core/cbor.ts';
import { AtomaError } from '../core/errors.ts';
import { ClaimFailure, ClaimReader } from './claim-reader.ts';
import {
  AIR_PROFILE,
  OWN_PROFILE,
  profileOf,
  type ReceiptMeasurements,
  readMeasurements,
} from './receipt-measurements.ts';

const MODES = ['production', 'evaluation'] as const;
const SCHEMES = ['sha256-single', 'sha256-concat', 'sha256-manifest'] as const;

export type SecurityMode = (typeof MODES)[number];
export type ModelHashScheme = (typeof SCHEMES)[number];

/**
 * The claims of AIR v1 (draft-tsyrulnikov-rats-attested-inference-receipt-02), and of our own profile for the TEEs that it has
 * no form for: which of the two follows from the measurements. Hashes are SHA-256, 32 bytes.
 */
export interface ReceiptClaims {
  iss: string;
  /** Unix seconds, when the inference completed. */
  iat: number;
  /** 16 random bytes. */
  cti: Uint8Array;
  /** 8 to 64 bytes, the client's. */
  nonce?: Uint8Array;
  modelId: string;
  modelVersion: string;
  modelHash: Uint8Array;
  requestHash: Uint8Array;
  responseHash: Uint8Array;
  attestationDocHash: Uint8Array;
  measurements: ReceiptMeasurements;
  policyVersion: string;
  sequenceNumber: number;
  executionTimeMs: number;
  memoryPeakMb: number;
  securityMode: SecurityMode;
  modelHashScheme?: ModelHashScheme;
}

/** The closed claims map as deterministic CBOR. Judges nothing: see `checkReceiptClaims`. */
export function encodeReceiptClaims(claims: ReceiptClaims): Uint8Array {
  const { measurementType, ...registers } = claims.measurements;
  const entries: [number, unknown][] = [
    [1, claims.iss],
    [6, claims.iat],
    [7, claims.cti],
    [10, claims.nonce],
    [265, profileOf(claims.measurements)],
    [-65537, claims.modelId],
    [-65538, claims.modelVersion],
    [-65539, claims.modelHash],
    [-65540, claims.requestHash],
    [-65541, claims.responseHash],
    [-65542, claims.attestationDocHash],
    [-65543, { ...registers, measurement_type: measurementType }],
    [-65544, claims.policyVersion],
    [-65545, claims.sequenceNumber],
    [-65546, claims.executionTimeMs],
    [-65547, claims.memoryPeakMb],
    [-65548, claims.securityMode],
    [-65549, claims.modelHashScheme],
  ];
  return encodeCbor(new Map(entries.filter(([, value]) => value !== undefined)));
}

/** Throws ClaimFailure for claims that a verifier would refuse. A signer asks once, before it serves: it costs more than a signature. */
export function checkReceiptClaims(claims: ReceiptClaims): void {
  decodeReceiptClaims(encodeReceiptClaims(claims));
}

/** Decodes and judges a payload whose signature holds. Throws ClaimFailure at the first rule that it breaks. */
export function decodeReceiptClaims(payload: Uint8Array): ReceiptClaims {
  const reader = new ClaimReader(decodePayload(payload));
  const profile = reader.take(265);
  if (profile !== AIR_PROFILE && profile !== OWN_PROFILE) {
    throw new ClaimFailure('PROFILE', 'BAD_PROFILE', `expected eat_profile ${AIR_PROFILE} or ${OWN_PROFILE}`);
  }
  const claims: ReceiptClaims = {
    iss: reader.text(1, 'iss'),
    iat: reader.uint(6, 'iat'),
    cti: reader.bytes(7, 'cti', 16, 16, 'CTI', 'BAD_CTI_LENGTH'),
    ...optional('nonce', reader.optionalBytes(10, 'eat_nonce', 8, 64)),
    modelId: reader.text(-65537, 'model_id'),
    modelVersion: reader.text(-65538, 'model_version'),
    modelHash: reader.hash(-65539, 'model_hash'),
    requestHash: reader.hash(-65540, 'request_hash'),
    responseHash: reader.hash(-65541, 'response_hash'),
    attestationDocHash: reader.hash(-65542, 'attestation_doc_hash'),
    measurements: readMeasurements(reader.take(-65543), profile),
    policyVersion: reader.text(-65544, 'policy_version'),
    sequenceNumber: reader.uint(-65545, 'sequence_number'),
    executionTimeMs: reader.uint(-65546, 'execution_time_ms'),
    memoryPeakMb: reader.uint(-65547, 'memory_peak_mb'),
    securityMode: reader.oneOf(-65548, 'security_mode', MODES, 'MODE', 'BAD_SECURITY_MODE'),
    ...(reader.has(-65549)
      ? { modelHashScheme: reader.oneOf(-65549, 'model_hash_scheme', SCHEMES, 'SCHEME', 'BAD_MODEL_HASH_SCHEME') }
      : {}),
  };
  reader.end();
  if (claims.iat === 0) throw new ClaimFailure('IAT', 'ZERO_IAT', 'iat is zero');
  if (isZero(claims.modelHash)) throw new ClaimFailure('MHASH_PRESENT', 'ZERO_MODEL_HASH', 'model_hash is all zeros');
  return claims;
}

function decodePayload(payload: Uint8Array): Map<unknown, unknown> {
  try {
    const map = decodeCbor(payload, { what: 'payload', maxBytes: 65536 });
    if (map instanceof Map) return map;
  } catch (error) {
    if (!(error instanceof AtomaError)) throw error;
    throw new ClaimFailure('CLAIMS', 'BAD_PAYLOAD', error.message);
  }
  throw new ClaimFailure('CLAIMS', 'BAD_PAYLOAD', 'expected a map of claims');
}

const optional = <K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } =>
  (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };
