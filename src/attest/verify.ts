import { usageError } from '../core/errors.ts';
import { detectKind } from './kind.ts';
import type { Tee, Verified, VerifyEvidenceOptions } from './types.ts';

/**
 * Verifies evidence of any TEE with that TEE's verifier. `tee` is the kind that the caller expects, so that evidence does
 * not choose its own verifier; without it the kind found is used, and is part of the claims.
 * Throws `ERR_EVIDENCE_KIND` (exit 2) for anything else.
 */
export async function verifyEvidence(
  evidence: Uint8Array,
  options: VerifyEvidenceOptions & { tee?: Tee },
): Promise<Verified> {
  const found = detectKind(evidence);
  const { tee = found } = options;
  if (found === null || found === 'evidence-file' || found === 'receipt' || found !== tee) {
    throw usageError(
      'ERR_EVIDENCE_KIND',
      `expected ${options.tee ?? 'evidence of a TEE'}, found ${found ?? 'unknown bytes'}`,
    );
  }
  switch (found) {
    case 'simulated':
      return (await import('./simulated.ts')).verifySimulated(evidence, options);
    case 'nitro':
      return (await import('./nitro.ts')).verifyNitro(evidence, options);
    case 'snp':
      return (await import('./snp/verify.ts')).verifySnp(evidence, options);
    case 'sgx':
    case 'tdx':
      return (await import('./dcap/verify.ts')).verifyDcap(evidence, options);
  }
}
