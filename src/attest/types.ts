import type { Check } from '../core/check.ts';
import type { Measurement } from '../core/measurement.ts';
import type { Certificate } from './certificate.ts';

// The one interface of every verifier: evidence + endorsements + roots + time -> claims and checks. A verifier is a
// synchronous function `(evidence, options: VerifyEvidenceOptions) => Verified`; verify.ts loads the right one. It throws
// (exit 2) only where the bytes are not such evidence at all; whatever merely does not hold is a failed check. What is
// right or good enough (measurement, TCB status, product, platform) is no verifier's: appraise.ts judges the claims.

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
  /** When the evidence was made, by the TEE's clock; absent where the TEE has none (SGX, TDX, SNP). */
  timestamp?: Date;
  moduleId?: string;
  userData?: Uint8Array;
  nonce?: Uint8Array;
  publicKey?: Uint8Array;
  /** SGX, TDX, SNP: the 64 bytes that the program asked for, in place of the three fields above. */
  reportData?: Uint8Array;
  /** Nitro-shaped evidence: every register it carries, by number, hex. */
  pcrs?: Map<number, string>;
  /** Which machine made it (SGX and TDX: PPID; SNP: chip id), hex; absent where the evidence does not say. */
  platform?: string;
  /** SNP: the processor's product line, such as "Milan". */
  product?: string;
  /** SNP: the privilege level that asked for the report; 0 is the highest of a guest. */
  vmpl?: number;
  /** SNP: the guest may be bound to a migration agent, which can take its memory elsewhere. */
  migrationAgent?: boolean;
  /** How the vendor's endorsements rate the machine; absent where the vendor rates none (Nitro, SNP). */
  tcb?: TcbClaim;
  /** Whatever else the evidence says, as words for people (`inspect`, reports): name and value, in a good order. */
  facts?: Record<string, string>;
}

/** Intel's rating of a platform, after the convergence of platform, QE and TDX module. */
export interface TcbClaim {
  /** One of Intel's names: "UpToDate", "SWHardeningNeeded", "OutOfDate", "Revoked", ... */
  status: string;
  /** "INTEL-SA-00615", ..., sorted, each once. */
  advisories: string[];
  /** tcbEvaluationDataNumber, the lower one of those used: which security bulletins the rating knows of. */
  evaluation?: number;
  /** tcbDate of the level that matched (ISO 8601). */
  date?: string;
}

/** The result of verifying evidence: hold the claims only where `allPass(checks)`. */
export interface Verified {
  claims: Claims;
  checks: Check[];
  /** The certificates above the evidence as they were found, root first; for people: the checks have judged them. */
  chain: Certificate[];
}

/**
 * What is needed beside evidence, as raw bytes in memory. Nothing of it is trusted for being here: a verifier takes what
 * fits and checks it to a root. Order has no meaning; doubles and things of other vendors are ignored. A directory or a
 * file of collateral becomes one of these (tasks/endorsements.ts); a broker keeps its own and never an attester's.
 */
export interface Endorsements {
  /** X.509 certificates in DER, of any vendor: roots (untrusted for being here), intermediates, VCEK, VLEK, PCK. */
  certificates: Uint8Array[];
  /** CRLs in DER, of any vendor. */
  crls: Uint8Array[];
  /** Intel: TCB infos and QE identities, each with its signature. */
  tcbInfos: SignedJson[];
  qeIdentities: SignedJson[];
}

/** A JSON object of Intel's PCS: the exact bytes that are signed, and the signature over them (r || s, 64 bytes). */
export interface SignedJson {
  body: Uint8Array;
  signature: Uint8Array;
}

/** No endorsements: enough for Nitro, whose documents carry their chain. */
export const NO_ENDORSEMENTS: Endorsements = { certificates: [], crls: [], tcbInfos: [], qeIdentities: [] };

export interface VerifyEvidenceOptions {
  /** Fingerprints ("sha256:...") of simulated roots that are allowed; [] allows none. */
  allowSimulated: string[];
  /** The verifier's clock. */
  now: Date;
  /** When chains and endorsements have to hold; by default the evidence's own time, or `now` where it has none. */
  at?: Date;
  /** Evidence must be this recent and its chain unexpired by the verifier's clock. Brokers and live attestation set it. */
  maxAgeSeconds?: number;
  endorsements?: Endorsements;
  /**
   * Root certificates (DER) that replace the vendor's pinned ones, from `--root`; the checks say so. Not for simulated
   * evidence, whose roots are `allowSimulated` alone.
   */
  roots?: Uint8Array[];
}
