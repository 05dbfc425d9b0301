import type { KeyObject } from 'node:crypto';
import { equalBytes, hex } from '../core/bytes.ts';
import { ALG, parseSign1, type Sign1, signSign1, sigStructure } from '../core/cose.ts';
import { verifyEd25519Strict } from '../core/ed25519.ts';
import { AtomaError } from '../core/errors.ts';
import { ClaimFailure } from './claim-reader.ts';
import { decodeReceiptClaims, encodeReceiptClaims, type ReceiptClaims } from './receipt-claims.ts';
import type { MeasurementType } from './receipt-measurements.ts';
import type { ReplayStore } from './replay.ts';

/** A receipt is at most this long. */
export const RECEIPT_LIMIT = 65536;
/** COSE content type: application/cwt. */
const CWT = 61;
const LAYERS = ['parse', 'signature', 'claims', 'policy'] as const;
/** How far into the future the enclave's clock may be when age is judged. */
const SKEW_SECONDS = 60;

/** Signs claims with the enclave's Ed25519 key: AIR v1 or our profile of it (receipt-measurements.ts), tagged COSE_Sign1. */
export function encodeReceipt(claims: ReceiptClaims, privateKey: KeyObject): Uint8Array {
  const header = new Map<number, unknown>([
    [1, ALG.EdDSA],
    [3, CWT],
  ]);
  return signSign1(header, encodeReceiptClaims(claims), privateKey, true);
}

/** What the verifier expects; only what is given is checked. */
export interface ReceiptPolicy {
  expectedNonce?: Uint8Array;
  /** 32 bytes. */
  modelHash?: Uint8Array;
  platform?: MeasurementType;
  maxAgeSeconds?: number;
  /** Where receipts that were taken are remembered; asked last, so that only receipts which hold are in it. */
  replay?: ReplayStore;
}

export interface ReceiptLayer {
  /** 1 parse, 2 signature, 3 claims, 4 policy: the layers of AIR v1, in order. */
  layer: 1 | 2 | 3 | 4;
  name: (typeof LAYERS)[number];
  /** `skipped`: an earlier layer failed, or (policy) nothing was asked for. */
  status: 'pass' | 'fail' | 'skipped';
}

export interface ReceiptFailure {
  layer: 1 | 2 | 3 | 4;
  /** The rule, and a stable code: those of the AIR v1 vectors where they have one. */
  check: string;
  code: string;
  message: string;
}

export interface ReceiptVerdict {
  layers: ReceiptLayer[];
  /** Present once layer 3 held. */
  claims?: ReceiptClaims;
  failure?: ReceiptFailure;
}

/**
 * Verifies a receipt by its public key (raw Ed25519, 32 bytes), layer by layer; the payload is not decoded before its
 * signature holds. Never throws for bad bytes: the verdict says which layer failed and why, and which did not run.
 * `now` (default: the machine's clock) matters only with `maxAgeSeconds`.
 */
export function verifyReceipt(
  receipt: Uint8Array,
  options: { publicKey: Uint8Array; now?: Date; policy?: ReceiptPolicy },
): ReceiptVerdict {
  const { publicKey, now = new Date(), policy = {} } = options;
  let layer: ReceiptLayer['layer'] = 1;
  let claims: ReceiptClaims | undefined;
  const asked = Object.values(policy).some((value) => value !== undefined);
  try {
    const message = parseEnvelope(receipt);
    layer = 2;
    const signed = sigStructure(message.protectedBytes, message.payload);
    if (!verifyEd25519Strict(publicKey, signed, message.signature)) {
      throw new ClaimFailure('SIG', 'SIG_FAILED', 'the signature is not by this key');
    }
    layer = 3;
    claims = decodeReceiptClaims(message.payload);
    layer = 4;
    applyPolicy(claims, policy, now);
    requireNew(claims, policy, publicKey, now);
    return { layers: outcome(undefined, asked), claims };
  } catch (error) {
    if (!(error instanceof ClaimFailure)) throw error;
    const failure = { layer, check: error.check, code: error.code, message: error.message };
    return { layers: outcome(layer, asked), ...(claims === undefined ? {} : { claims }), failure };
  }
}

function parseEnvelope(receipt: Uint8Array): Sign1 {
  if (receipt.length > RECEIPT_LIMIT) {
    throw new ClaimFailure('SIZE', 'TOO_LARGE', `expected at most ${RECEIPT_LIMIT} bytes, found ${receipt.length}`);
  }
  let message: Sign1;
  try {
    message = parseSign1(receipt, { what: 'receipt', maxBytes: RECEIPT_LIMIT, tag: 'required' });
  } catch (error) {
    if (!(error instanceof AtomaError)) throw error;
    throw new ClaimFailure('PARSE', 'BAD_COSE', error.message);
  }
  const { protectedHeader, unprotectedHeader, signature } = message;
  if (protectedHeader.get(1) !== ALG.EdDSA) throw new ClaimFailure('ALG', 'BAD_ALG', 'expected algorithm EdDSA (-8)');
  if (protectedHeader.get(3) !== CWT) {
    throw new ClaimFailure('CONTENT_TYPE', 'BAD_CONTENT_TYPE', 'expected content type application/cwt (61)');
  }
  if (protectedHeader.size !== 2) {
    throw new ClaimFailure('PARSE', 'BAD_PROTECTED_HEADER', 'expected two protected headers');
  }
  if (unprotectedHeader.size !== 0) {
    throw new ClaimFailure('PARSE', 'BAD_UNPROTECTED_HEADER', 'expected no unprotected header');
  }
  if (signature.length !== 64) throw new ClaimFailure('SIG', 'BAD_SIG_LENGTH', 'expected a signature of 64 bytes');
  return message;
}

function applyPolicy(claims: ReceiptClaims, policy: ReceiptPolicy, now: Date): void {
  const { expectedNonce, modelHash, platform, maxAgeSeconds } = policy;
  const seconds = Math.floor(now.getTime() / 1000);
  if (expectedNonce && (claims.nonce === undefined || !equalBytes(claims.nonce, expectedNonce))) {
    const found = claims.nonce === undefined ? 'none' : hex(claims.nonce);
    throw new ClaimFailure('NONCE', 'NONCE_MISMATCH', `expected nonce ${hex(expectedNonce)}, found ${found}`);
  }
  if (modelHash && !equalBytes(claims.modelHash, modelHash)) {
    const found = hex(claims.modelHash);
    throw new ClaimFailure('MODEL', 'MODEL_HASH_MISMATCH', `expected model ${hex(modelHash)}, found ${found}`);
  }
  const { measurementType } = claims.measurements;
  if (platform !== undefined && platform !== measurementType) {
    throw new ClaimFailure('PLATFORM', 'PLATFORM_MISMATCH', `expected ${platform}, found ${measurementType}`);
  }
  if (maxAgeSeconds === undefined) return;
  if (claims.iat > seconds + SKEW_SECONDS) {
    throw new ClaimFailure('FRESH', 'TIMESTAMP_FUTURE', `made at ${claims.iat}, after ${seconds}`);
  }
  if (claims.iat < seconds - maxAgeSeconds) {
    const age = seconds - claims.iat;
    throw new ClaimFailure('FRESH', 'TIMESTAMP_STALE', `expected at most ${maxAgeSeconds} s old, found ${age} s`);
  }
}

function requireNew({ cti, iat }: ReceiptClaims, { replay }: ReceiptPolicy, publicKey: Uint8Array, now: Date): void {
  const taken = replay?.take(publicKey, cti, iat, Math.floor(now.getTime() / 1000)) ?? 'taken';
  if (taken === 'taken') return;
  const [code, message] = REPLAYED[taken];
  throw new ClaimFailure('REPLAY', code, message);
}

/** Codes and words for what a replay store answers. */
export const REPLAYED = {
  seen: ['CTI_SEEN', 'a receipt that was taken before'],
  old: ['CTI_TOO_OLD', 'not of the time that is remembered: it may have been taken before'],
  full: ['REPLAY_SET_FULL', 'no more receipts can be remembered, so none can be told from a replay'],
} as const;

function outcome(failed: number | undefined, asked: boolean): ReceiptLayer[] {
  return LAYERS.map((name, index) => {
    const layer = (index + 1) as ReceiptLayer['layer'];
    const ran = failed === undefined || layer < failed;
    return { layer, name, status: layer === failed ? 'fail' : ran && (layer < 4 || asked) ? 'pass' : 'skipped' };
  });
}
