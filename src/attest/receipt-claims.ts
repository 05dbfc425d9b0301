import { isZero } from '../core/bytes.ts';
import { decodeCbor, encodeCbor } from '../core/cbor.ts';
import { AtomaError } from '../core/errors.ts';
import { ClaimFailure, ClaimReader } from './claim-reader.ts';

export const AIR_PROFILE = 'https://spec.cyntrisec.com/air/v1';
const REGISTER_LENGTH = 48;
const MODES = ['production', 'evaluation'] as const;
const SCHEMES = ['sha256-single', 'sha256-concat', 'sha256-manifest'] as const;
/** Which optional registers each measurement type may carry; for TDX, pcr0 is MRTD and pcr1 to pcr4 are RTMR0 to RTMR3. */
const OPTIONAL_REGISTERS = { 'nitro-pcr': ['pcr3', 'pcr4', 'pcr8'], 'tdx-mrtd-rtmr': ['pcr3', 'pcr4'] } as const;

export type SecurityMode = (typeof MODES)[number];
export type ModelHashScheme = (typeof SCHEMES)[number];
export type MeasurementType = keyof typeof OPTIONAL_REGISTERS;

/** Registers of 48 bytes each. */
export interface ReceiptMeasurements {
  measurementType: MeasurementType;
  pcr0: Uint8Array;
  pcr1: Uint8Array;
  pcr2: Uint8Array;
  pcr3?: Uint8Array;
  pcr4?: Uint8Array;
  pcr8?: Uint8Array;
}

/** The claims of AIR v1 (draft-tsyrulnikov-rats-attested-inference-receipt-02). Hashes are SHA-256, 32 bytes. */
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
    [265, AIR_PROFILE],
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
  if (reader.take(265) !== AIR_PROFILE) {
    throw new ClaimFailure('PROFILE', 'BAD_PROFILE', `expected eat_profile ${AIR_PROFILE}`);
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
    measurements: readMeasurements(reader.take(-65543)),
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

function readMeasurements(value: unknown): ReceiptMeasurements {
  if (!(value instanceof Map)) throw new ClaimFailure('MEAS', 'BAD_MEASUREMENTS', 'enclave_measurements is not a map');
  const type: unknown = value.get('measurement_type');
  if (typeof type !== 'string' || !Object.hasOwn(OPTIONAL_REGISTERS, type)) {
    throw new ClaimFailure('MTYPE', 'BAD_MEASUREMENT_TYPE', 'expected measurement_type nitro-pcr or tdx-mrtd-rtmr');
  }
  const measurementType = type as MeasurementType;
  const may: readonly string[] = OPTIONAL_REGISTERS[measurementType];
  const registers: Record<string, Uint8Array> = {};
  for (const [name, register] of value) {
    if (name === 'measurement_type') continue;
    if (typeof name !== 'string' || !(['pcr0', 'pcr1', 'pcr2'].includes(name) || may.includes(name))) {
      throw new ClaimFailure('MEAS', 'UNKNOWN_MEASUREMENT', `${type} has no register ${JSON.stringify(String(name))}`);
    }
    if (!(register instanceof Uint8Array) || register.length !== REGISTER_LENGTH) {
      throw new ClaimFailure('MEAS', 'BAD_MEASUREMENT_LENGTH', `${name}: expected ${REGISTER_LENGTH} bytes`);
    }
    registers[name] = register;
  }
  const { pcr0, pcr1, pcr2, ...rest } = registers;
  if (!pcr0 || !pcr1 || !pcr2) {
    throw new ClaimFailure('MEAS', 'MISSING_MEASUREMENT', 'expected pcr0, pcr1 and pcr2');
  }
  return { measurementType, pcr0, pcr1, pcr2, ...rest };
}

const optional = <K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } =>
  (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };
