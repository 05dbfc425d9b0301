import type { Tee } from '../../attest/index.ts';
import type { OnProgress } from '../../core/progress.ts';
import type { Attachment, Kind } from './report.ts';

/** Flags of `verify`; paths are paths, times are dates. */
export interface VerifyOptions {
  files: string[];
  /** Of evidence also the TEE: then it does not choose its own verifier. */
  kind?: Kind | Tee | undefined;
  manifest?: string | undefined;
  expect: string[];
  owner?: string | undefined;
  key?: string | undefined;
  evidence?: string | undefined;
  publicKey?: string | undefined;
  request?: string | undefined;
  response?: string | undefined;
  nonce?: string | undefined;
  maxAge?: number | undefined;
  at?: Date | undefined;
  /** A file or a directory. */
  endorsements?: string | undefined;
  /** PEM, in place of the vendor's pinned root. */
  root?: string | undefined;
  /** Intel's status names; product lines denied by default; the least privileged VMPL of SNP. */
  acceptTcb?: string[] | undefined;
  acceptProduct?: string[] | undefined;
  acceptVmpl?: number | undefined;
  /** Path of a release policy (JSON, as `seal --policy` takes it) that evidence has to satisfy. */
  policy?: string | undefined;
  /** Of an SGX enclave: its libpal.so, and whether a DEBUG one will do. */
  libpal?: string | undefined;
  acceptDebug?: boolean | undefined;
  /** Build again from the lock of a manifest: with the project of this directory, or an archive of inputs. */
  rebuild?: boolean | undefined;
  project?: string | undefined;
  inputs?: string | undefined;
  /** A rebuild fetches nothing. */
  offline?: boolean | undefined;
  /** For tests: see RebuildOptions. */
  cacheDir?: string | undefined;
  programPath?: string | undefined;
  allowSimulated: string[];
  /** Is given the bytes of evidence and receipts as they were judged; `index` is the result's. */
  onAttachment?: ((index: number, attachment: Attachment) => void) | undefined;
  onProgress?: OnProgress;
}
