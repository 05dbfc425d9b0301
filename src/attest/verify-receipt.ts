import { hex, sha256 } from '../core/bytes.ts';
import { type Check, compare, fail, pass, skipped } from '../core/check.ts';
import type { EvidenceFile } from './evidence-file.ts';
import { checkIdentity } from './identity.ts';
import { type ReceiptVerdict, verifyReceipt } from './receipt.ts';
import type { ReceiptClaims } from './receipt-claims.ts';
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
}> {
  const { evidenceFile, allowSimulated, now, at, endorsements, roots, maxAgeSeconds } = context;
  const verdict = verifyReceipt(context.receipt, {
    publicKey: evidenceFile.ed25519,
    now,
    policy: maxAgeSeconds === undefined ? {} : { maxAgeSeconds },
  });
  const { claims: evidence, checks } = await verifyEvidence(evidenceFile.evidence, {
    tee: evidenceFile.tee,
    allowSimulated,
    now,
    ...(at === undefined ? {} : { at }),
    ...(endorsements === undefined ? {} : { endorsements }),
    ...(roots === undefined ? {} : { roots }),
  });
  const bound = checkIdentity(evidenceFile, evidence, evidenceFile.nonce);
  const { claims } = verdict;
  return {
    checks: [...layerChecks(verdict), ...checks, ...bound, ...(claims ? compareAll(claims, evidence, context) : [])],
    ...(claims === undefined ? {} : { claims }),
    evidence,
  };
}

/** A verdict's layers as checks: receipt.parse, receipt.signature, receipt.claims, receipt.policy. */
export function layerChecks({ layers, failure }: ReceiptVerdict): Check[] {
  return layers.map(({ name, layer, status }) => {
    const id = `receipt.${name}`;
    if (status === 'pass') return pass(id);
    if (failure?.layer === layer) return fail(id, { detail: `${failure.code}: ${failure.message}` });
    return skipped(id, failure === undefined ? 'no age limit was asked for' : `did not run: ${failure.code} before it`);
  });
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

function checkMeasurement({ measurements }: ReceiptClaims, { pcrs }: Claims): Check {
  const id = 'receipt.measurement';
  const { measurementType, ...registers } = measurements;
  if (measurementType !== 'nitro-pcr' || pcrs === undefined) {
    return fail(id, { expected: 'the kind of measurement that the evidence has', actual: measurementType });
  }
  for (const [name, value] of Object.entries(registers)) {
    const expected = pcrs.get(Number(name.slice(3))) ?? 'none';
    if (expected !== hex(value)) return fail(id, { expected: `${name} ${expected}`, actual: `${name} ${hex(value)}` });
  }
  return pass(id, Object.keys(registers).join(', '));
}

/** Simulated and debug enclaves protect nothing, so they never say "production". */
function checkMode({ securityMode }: ReceiptClaims, { simulated, debug }: Claims): Check {
  return simulated || debug
    ? compare('receipt.mode', 'evaluation', securityMode, simulated ? 'the TEE is SIMULATED' : 'a debug enclave')
    : pass('receipt.mode', securityMode);
}
