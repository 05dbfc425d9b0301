import { hex, sha256 } from '../core/bytes.ts';
import { allPass, type Check, compare, fail, pass, skipped } from '../core/check.ts';
import type { Certificate } from './certificate.ts';
import type { EvidenceFile } from './evidence-file.ts';
import { checkIdentity } from './identity.ts';
import { REPLAYED, type ReceiptVerdict, verifyReceipt } from './receipt.ts';
import type { ReceiptClaims } from './receipt-claims.ts';
import { AIR_PROFILE, measurementMismatch, profileOf } from './receipt-measurements.ts';
import type { ReplayStore } from './replay.ts';
import type { Claims, VerifyEvidenceOptions } from './types.ts';
import { verifyEvidence } from './verify.ts';

export interface ReceiptContext
  extends Pick<VerifyEvidenceOptions, 'allowSimulated' | 'now' | 'at' | 'endorsements' | 'roots'> {
  receipt: Uint8Array;
  evidenceFile: EvidenceFile;
  /** The exact bytes of the request and the response. */
  request?: Uint8Array;
  response?: Uint8Array;
  /** The nonce that the client sent with its request. */
  nonce?: Uint8Array;
  /** Model digest, hex. */
  modelDigest?: string;
  /** How old the receipt may be. */
  maxAgeSeconds?: number;
  /** Where receipts that were taken are remembered: a receipt is taken only where everything else holds. */
  replay?: ReplayStore;
}

/**
 * From answer to vendor root: the receipt's layers under the key in the evidence file, the evidence itself, the key bound in
 * it, and that receipt and evidence speak of the same enclave; then model, request, response and nonce where given (what is
 * not given is `skipped`, never a pass). What the measurement should be is for `appraise`.
 *
 * `claims` and `evidence` are there as far as they could be read; hold them only where `allPass(checks)`. Throws what
 * `verifyEvidence` throws where the evidence is not evidence at all.
 */
export async function verifyReceiptAgainst(context: ReceiptContext): Promise<{
  checks: Check[];
  claims?: ReceiptClaims;
  evidence: Claims;
  chain: Certificate[];
}> {
  const { evidenceFile, allowSimulated, now, at, endorsements, roots, maxAgeSeconds } = context;
  const verdict = verifyReceipt(context.receipt, {
    publicKey: evidenceFile.ed25519,
    now,
    policy: maxAgeSeconds === undefined ? {} : { maxAgeSeconds },
  });
  const {
    claims: evidence,
    checks,
    chain,
  } = await verifyEvidence(evidenceFile.evidence, {
    tee: evidenceFile.tee,
    allowSimulated,
    now,
    ...(at === undefined ? {} : { at }),
    ...(endorsements === undefined ? {} : { endorsements }),
    ...(roots === undefined ? {} : { roots }),
  });
  const bound = checkIdentity(evidenceFile, evidence, evidenceFile.nonce);
  const { claims } = verdict;
  const all = [...layerChecks(verdict), ...checks, ...bound, ...(claims ? compareAll(claims, evidence, context) : [])];
  return {
    checks: [...all, ...checkReplay(all, claims, context)],
    ...(claims === undefined ? {} : { claims }),
    evidence,
    chain,
  };
}

/** A verdict's layers as checks: receipt.parse, receipt.signature, receipt.claims, receipt.policy. */
export function layerChecks({ layers, failure, claims }: ReceiptVerdict): Check[] {
  return layers.map(({ name, layer, status }) => {
    const id = `receipt.${name}`;
    if (status === 'pass') return pass(id, name === 'claims' && claims ? ownProfile(claims) : undefined);
    if (failure?.layer === layer) return fail(id, { detail: `${failure.code}: ${failure.message}` });
    return skipped(id, failure === undefined ? 'no age limit was asked for' : `did not run: ${failure.code} before it`);
  });
}

/** Other verifiers of AIR v1 refuse such a receipt, so the verdict says what it is. */
function ownProfile({ measurements }: ReceiptClaims): string | undefined {
  const profile = profileOf(measurements);
  return profile === AIR_PROFILE
    ? undefined
    : `profile ${profile}: AIR v1 has no form for measurements of kind ${measurements.measurementType}`;
}

/** A forger with a key of his own must not fill the set, so nothing is taken before key and evidence held. */
function checkReplay(
  checks: Check[],
  claims: ReceiptClaims | undefined,
  { replay, evidenceFile, now }: ReceiptContext,
): Check[] {
  const id = 'receipt.replay';
  if (replay === undefined) return [];
  if (claims === undefined || !allPass(checks)) return [skipped(id, 'did not run: not everything before it holds')];
  const taken = replay.take(evidenceFile.ed25519, claims.cti, claims.iat, Math.floor(now.getTime() / 1000));
  if (taken === 'taken') return [pass(id)];
  const [code, message] = REPLAYED[taken];
  return [fail(id, { detail: `${code}: ${message}` })];
}

function compareAll(claims: ReceiptClaims, evidence: Claims, context: ReceiptContext): Check[] {
  const { request, response, nonce, modelDigest, evidenceFile } = context;
  const against = (id: string, expected: Uint8Array | undefined, found: Uint8Array | undefined, flag: string) =>
    expected === undefined
      ? skipped(id, `${flag} was not given`)
      : compare(id, hex(expected), found === undefined ? 'none' : hex(found));
  return [
    against('receipt.evidence', sha256(evidenceFile.evidence), claims.attestationDocHash, 'evidence'),
    checkMeasurement(claims, evidence),
    checkMode(claims, evidence),
    modelDigest === undefined
      ? skipped('receipt.model', 'the expected model was not given')
      : compare(
          'receipt.model',
          `sha256-manifest ${modelDigest}`,
          `${claims.modelHashScheme ?? 'sha256-manifest'} ${hex(claims.modelHash)}`,
        ),
    against('receipt.request', request && sha256(request), claims.requestHash, 'the request'),
    against('receipt.response', response && sha256(response), claims.responseHash, 'the response'),
    against('receipt.nonce', nonce, claims.nonce, 'a nonce'),
  ];
}

/** Whatever the receipt says of its enclave has to be in the evidence. */
function checkMeasurement({ measurements }: ReceiptClaims, evidence: Claims): Check {
  const id = 'receipt.measurement';
  const mismatch = measurementMismatch(measurements, evidence);
  if (mismatch) return fail(id, { ...mismatch });
  const { measurementType: _, ...registers } = measurements;
  return pass(id, Object.keys(registers).join(', '));
}

/** Simulated and debug enclaves protect nothing, so they never say "production". */
function checkMode({ securityMode }: ReceiptClaims, { simulated, debug }: Claims): Check {
  return simulated || debug
    ? compare('receipt.mode', 'evaluation', securityMode, simulated ? 'the TEE is SIMULATED' : 'a debug enclave')
    : pass('receipt.mode', securityMode);
}
