import type { KeyObject } from 'node:crypto';
import { lstat } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { hex, sha256 } from '../core/bytes.ts';
import { negativeError } from '../core/errors.ts';
import { type AtomicFile, withAtomicFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { listModel, type ModelFile, modelDigest } from '../model/model.ts';
import { fileIdentity } from './disk.ts';
import { drawUp } from './draft.ts';
import { sourceChanged } from './errors.ts';
import type { Policy } from './policy.ts';
import { checkRecipients, type PrivateKey } from './recipients.ts';
import { runJob } from './threads.ts';

export interface SealOptions {
  /** File or directory. */
  model: string;
  policy: Policy;
  /** Ed25519 private key. */
  ownerKey: KeyObject;
  /** Raw X-Wing public keys, 1216 bytes each; with threshold 1 each of them can open the model. */
  brokers: Uint8Array[];
  /** How many brokers it takes. */
  threshold: number;
  /** Raw X-Wing public key that opens the model without a broker. */
  recovery?: Uint8Array | undefined;
  out: string;
  /** Unix seconds. */
  created: number;
  /** The model digest (hex) that the image measured. */
  expectDigest: string;
  /** Takes over, byte for byte, the parts of an older sealed model whose plaintext is the same; `key` is its recovery key. */
  reuse?: { sealed: string; key: PrivateKey } | undefined;
  /** Digests every file anew instead of believing the cache. */
  rehash?: boolean | undefined;
  onProgress?: OnProgress | undefined;
  /** Aborting leaves nothing. */
  signal?: AbortSignal | undefined;
}

/** All ids and digests are hex; `size` is the sealed file's. */
export interface SealResult {
  path: string;
  sealId: string;
  digest: string;
  headerDigest: string;
  size: number;
  epoch: number;
  files: number;
  owner: string;
  brokers: string[];
  recovery?: string;
}

/**
 * Encrypts a model into one file that appears whole or not at all. Each byte of the model is read once: what is digested is what is
 * encrypted. Throws as listModel; `ERR_SEAL_MODEL_MISMATCH` (exit 3) if it is not the model expected; `ERR_SEAL_SOURCE_CHANGED`,
 * `ERR_SEAL_THRESHOLD`, `ERR_SEAL_RECIPIENTS`, `ERR_SEAL_TOO_LARGE` (exit 2); `ERR_DISK_FULL` (exit 1).
 */
export async function sealModel(options: SealOptions): Promise<SealResult> {
  checkRecipients(options);
  const files = await listModel(options.model);
  const identities = await Promise.all(files.map(identityOf));
  return withAtomicFile(
    options.out,
    async (file) => {
      const draft = await drawUp(options, files);
      const flushed = flushWhile(file);
      const digests = await runJob(
        {
          direction: 'seal',
          fd: file.handle.fd,
          files: files.map(({ absolute, size }, i) => ({ path: absolute, size, identity: identities[i] ?? '' })),
          fileSizes: files.map(({ size }) => size),
          hash: new Uint8Array(files.length).fill(1),
          parts: draft.parts,
          pieces: draft.pieces,
        },
        {
          phase: 'sealing',
          doing: `cannot write ${options.out}`,
          onProgress: options.onProgress,
          signal: options.signal,
        },
      ).finally(flushed);
      await checkUnchanged(files, identities);
      const digest = modelDigest(files.map(({ path }, i) => ({ name: path, sha256: hex(digests[i] ?? sha256()) })));
      if (digest !== options.expectDigest) throw mismatch(options, digest);
      return { ...(await draft.complete(file, digests)), digest, files: files.length };
    },
    0o644,
  );
}

/** Starts writing to the disk early, so that the sync at the end finds little left to do. Call what it returns, and wait, to stop. */
function flushWhile(file: AtomicFile): () => Promise<void> {
  const stop = new AbortController();
  const { signal } = stop;
  const flushing = (async () => {
    while (!signal.aborted) {
      await setTimeout(100, undefined, { signal }).catch(() => {});
      // An error comes again at the end, where it is reported.
      if (!signal.aborted) await file.handle.datasync().catch(() => {});
    }
  })();
  return () => {
    stop.abort();
    return flushing;
  };
}

async function identityOf({ absolute }: ModelFile): Promise<string> {
  try {
    return fileIdentity(await lstat(absolute, { bigint: true }));
  } catch {
    throw sourceChanged(absolute); // it was there when it was listed
  }
}

/** Also catches what a positional read cannot: a write to bytes that had been read, a file that grew. */
async function checkUnchanged(files: ModelFile[], identities: string[]): Promise<void> {
  for (const [i, file] of files.entries()) {
    if ((await identityOf(file)) !== identities[i]) throw sourceChanged(file.absolute);
  }
}

const mismatch = ({ model, expectDigest }: SealOptions, found: string) =>
  negativeError(
    'ERR_SEAL_MODEL_MISMATCH',
    `${model} is not the model that the image measured: expected digest ${expectDigest}, found ${found}`,
    { hint: 'build the image with this model, or seal the model that it was built with' },
  );
