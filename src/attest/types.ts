import type { Check } from '../core/check.ts';
import type { Measurement } from '../core/measurement.ts';

/** Who makes evidence. */
export type Tee = 'nitro' | 'sgx' | 'tdx' | 'snp' | 'simulated';

/** What evidence says, in one shape for every TEE. Worth nothing unless every check beside it passed. */
export interface Claims {
  tee: Tee;
  /** True: no hardware protects anything. */
  simulated: boolean;
  measurement: Measurement;
  /** A debug enclave: its memory is open to the host, whatever it measured. */
  debug: boolean;
  /** When the evidence was made, by the TEE's clock; absent where the TEE has none. */
  timestamp?: Date;
  moduleId?: string;
  userData?: Uint8Array;
  nonce?: Uint8Array;
  publicKey?: Uint8Array;
  /** Nitro-shaped evidence: every register it carries, by number, hex. */
  pcrs?: Map<number, string>;
  /** Which machine made it (SGX PPID, SNP chip id), hex; absent where the evidence does not say. */
  platform?: string;
}

/** The result of verifying evidence: hold the claims only where `allPass(checks)`. */
export interface Verified {
  claims: Claims;
  checks: Check[];
}

export interface VerifyEvidenceOptions {
  /** Fingerprints ("sha256:...") of simulated roots that are allowed; [] allows none. */
  allowSimulated: string[];
  /** The verifier's clock. */
  now: Date;
  /** When the chain has to hold; by default the evidence's own time. */
  at?: Date;
  /** Evidence must be this recent and its chain unexpired by the verifier's clock. Brokers and live attestation set it. */
  maxAgeSeconds?: number;
}
