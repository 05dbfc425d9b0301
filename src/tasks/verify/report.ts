import type { Tee } from '../../attest/index.ts';
import { allPass, type Check, fail, pass } from '../../core/check.ts';
import { AtomaError, EXIT } from '../../core/errors.ts';
import type { EvidenceFacts } from './facts.ts';
import type { RebuildReport } from './rebuild.ts';

export const KINDS = [
  'build-manifest',
  'manifest-signature',
  'model-signature',
  'eif',
  'gramine-manifest',
  'sigstruct',
  'sealed-model',
  'evidence',
  'receipt',
] as const;
export type Kind = (typeof KINDS)[number];

/** Of whose evidence a file must be (`--kind`): then it does not choose its own verifier. */
export const TEES = ['nitro', 'sgx', 'tdx', 'snp', 'simulated'] as const satisfies Tee[];

const TITLES: Record<Kind, string> = {
  'build-manifest': 'build manifest',
  'manifest-signature': 'signature of a build manifest (Sigstore bundle)',
  'model-signature': 'signature of a model (OpenSSF Model Signing)',
  eif: 'Nitro enclave image (EIF)',
  'gramine-manifest': 'signed Gramine manifest (SGX enclave)',
  sigstruct: 'SGX enclave signature (SIGSTRUCT)',
  'sealed-model': 'sealed model',
  evidence: 'attestation evidence',
  receipt: 'inference receipt (AIR v1)',
};

/** What `verify` found out about one file. */
export interface FileResult {
  file: string;
  kind: Kind;
  title: string;
  verdict: 'pass' | 'fail';
  simulated: boolean;
  checks: Check[];
  notChecked: string[];
  /** What the evidence says that was verified, as a file or for a receipt. */
  evidence?: EvidenceFacts;
  /** Of a build manifest, with --rebuild, once it was built. */
  rebuild?: RebuildReport;
}

/** By what everything was judged: the flags as they were given (files by their paths), and the clocks. ISO 8601. */
export interface Policy {
  now: string;
  /** Absent: evidence at its own time, or now where it has none. */
  at?: string;
  flags: Record<string, string[]>;
}

/** Shape of `verify --json`. */
export interface VerifyReport {
  verdict: 'pass' | 'fail';
  simulated: boolean;
  policy: Policy;
  results: FileResult[];
}

/** The exact bytes that a verdict is about, for those who want to judge them again. */
export interface Attachment {
  /** A name for a file, of our own making. */
  name: string;
  bytes: Uint8Array;
}

/** Collects the checks of one file; a refusal by a parser or verifier becomes a failed check, not a crash. */
export class Findings {
  readonly checks: Check[] = [];
  readonly notChecked: string[] = [];
  simulated = false;
  evidence: EvidenceFacts | undefined;
  rebuild: RebuildReport | undefined;

  add(...checks: Check[]): void {
    this.checks.push(...checks);
  }

  /** Runs one step. Malformed or refused: a failed check, and undefined. Anything else is thrown. */
  async step<T>(
    id: string,
    run: () => Promise<T> | T,
    detail?: (value: T) => string | undefined,
    judged: (code: string) => boolean = (code) => !code.startsWith('ERR_FILE_'),
  ): Promise<T | undefined> {
    try {
      const value = await run();
      this.add(pass(id, detail?.(value)));
      return value;
    } catch (error) {
      const verdict =
        error instanceof AtomaError && (error.exitCode === EXIT.usage || error.exitCode === EXIT.negative);
      if (!verdict || !judged(error.code)) throw error;
      this.add(fail(id, { detail: `${error.message} (${error.code})` }));
      return undefined;
    }
  }

  /** The same for what lies beside the file that was named: where it is missing, or no file, that check fails, and the others go on. */
  besideStep<T>(id: string, run: () => Promise<T> | T): Promise<T | undefined> {
    return this.step(id, run, undefined, () => true);
  }

  result(file: string, kind: Kind): FileResult {
    // No check at all is no verdict: an empty list must never read as a pass.
    const good = allPass(this.checks) && this.checks.some((c) => c.status === 'pass');
    const { checks, notChecked, simulated, evidence, rebuild } = this;
    return {
      file,
      kind,
      title: TITLES[kind],
      verdict: good ? 'pass' : 'fail',
      simulated,
      checks,
      notChecked,
      ...(evidence === undefined ? {} : { evidence }),
      ...(rebuild === undefined ? {} : { rebuild }),
    };
  }
}
