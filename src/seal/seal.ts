import type { KeyObject } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { equalBytes, hex, sha256 } from '../core/bytes.ts';
import { negativeError } from '../core/errors.ts';
import { withAtomicFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { ownerPublicRaw } from '../keys/keys.ts';
import { DigestCache } from '../model/digest-cache.ts';
import { digestFiles } from '../model/digest-files.ts';
import { fileIdentity } from '../model/identity.ts';
import { listModel, type ModelFile, modelDigest } from '../model/model.ts';
import { drawUp } from './draft.ts';
import { sourceChanged, wrongDigest } from './errors.ts';
import { flushWhile, requireSpace } from './output.ts';
import { LIMITS, type Limits, planParts } from './plan.ts';
import type { Policy } from './policy.ts';
import { checkRecipients, type PrivateKey } from './recipients.ts';
import { type OldSealed, openOld, planWithOld } from './reuse.ts';
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
  /** The shared cache's directory, where the digests of files are remembered (model/digest-cache.ts). None: nothing is. */
  cacheDir?: string | undefined;
  /** Where files are cut into parts; LIMITS by default. */
  limits?: Limits | undefined;
  /** Digests every file anew, also in parts that are taken over, instead of believing the cache. */
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
  /** What was taken over from the older sealed model; `bytes` of plaintext. */
  reused: { parts: number; bytes: number };
}

/**
 * Encrypts a model into one file that appears whole or not at all. Where digests are remembered or parts taken over, it is their word that
 * the index has; whoever opens the file digests what comes out of it. Otherwise each byte is read once: what is digested is what is
 * encrypted.
 *
 * Throws as listModel; `ERR_SEAL_MODEL_MISMATCH` (exit 3) if it is not the model expected; `ERR_SEAL_SOURCE_CHANGED`,
 * `ERR_MODEL_CHANGED`, `ERR_SEAL_THRESHOLD`, `ERR_SEAL_RECIPIENTS`, `ERR_SEAL_TOO_LARGE` (exit 2); `ERR_DISK_FULL` (exit 1); with
 * `reuse` as openOld, and `ERR_SEAL_TAMPERED` (exit 3) where a part of it is not authentic.
 */
export async function sealModel(options: SealOptions): Promise<SealResult> {
  checkRecipients(options);
  const since = Date.now();
  const files = await listModel(options.model);
  const cache = options.cacheDir === undefined ? null : await DigestCache.open(options.cacheDir, options.model);
  const old = options.reuse && (await openOld(options.reuse, ownerPublicRaw(options.ownerKey)));
  try {
    const known = files.map((file) => (file.size === 0 ? sha256() : options.rehash ? undefined : cache?.digest(file)));
    const { digests, result } = await sealFiles(options, files, known, old);
    await cache?.record(files, digests, since);
    return result;
  } finally {
    await old?.source.close();
  }
}

async function sealFiles(
  options: SealOptions,
  files: ModelFile[],
  remembered: (Buffer | undefined)[],
  old: OldSealed | undefined,
): Promise<{ digests: Buffer[]; result: SealResult }> {
  const { onProgress, signal, limits = LIMITS } = options;
  // What can be taken over depends on every digest.
  const known = old ? await completeDigests(files, remembered, options) : remembered;
  const all = known.filter((digest) => digest !== undefined);
  if (all.length === files.length) requireExpected(options, files, all);
  const run = { phase: 'comparing', doing: `cannot read ${options.model}`, onProgress, signal };
  const plan = old
    ? await planWithOld(
        old,
        files.map((file, i) => ({ ...file, sha256: known[i] ?? sha256() })),
        limits,
        run,
      )
    : planParts(
        files.map(({ size }) => size),
        limits,
      );
  const hash = Uint8Array.from(files, ({ size }, i) => (size > 0 && (options.rehash || !known[i]) ? 1 : 0));
  return withAtomicFile(
    options.out,
    async (file) => {
      const draft = await drawUp(options, files, plan, old);
      await requireSpace(options.out, draft.size);
      await file.handle.truncate(draft.size);
      const flushed = flushWhile(file);
      const computed = await runJob(
        {
          direction: 'seal',
          fd: file.handle.fd,
          ...(old ? { oldFd: old.source.fd } : {}),
          files: files.map(({ absolute, size, identity }) => ({ path: absolute, size, identity })),
          fileSizes: files.map(({ size }) => size),
          hash,
          parts: draft.parts,
          pieces: plan.pieces,
        },
        { phase: 'sealing', doing: `cannot write ${options.out}`, onProgress, signal },
      ).finally(flushed);
      await checkUnchanged(files);
      const digests = known.map((digest, i) => (hash[i] ? (computed[i] ?? sha256()) : (digest ?? sha256())));
      // Known and digested again: what came out of a part that was taken over.
      for (const [i, digest] of known.entries())
        if (digest && !equalBytes(digest, digests[i] ?? sha256())) throw wrongDigest(files[i]?.path ?? '');
      const digest = requireExpected(options, files, digests);
      const reused = plan.parts.filter((_, i) => plan.old[i] !== null);
      const result: SealResult = {
        ...(await draft.complete(file, digests)),
        digest,
        files: files.length,
        reused: { parts: reused.length, bytes: reused.reduce((sum, length) => sum + length, 0) },
      };
      return { digests, result };
    },
    0o644,
  );
}

async function completeDigests(
  files: ModelFile[],
  known: (Buffer | undefined)[],
  options: SealOptions,
): Promise<(Buffer | undefined)[]> {
  const missing = [...files.keys()].filter((i) => known[i] === undefined);
  const digests = await digestFiles(
    files.filter((_, i) => known[i] === undefined),
    options,
  );
  const all = [...known];
  for (const [j, i] of missing.entries()) all[i] = digests[j];
  return all;
}

/** Returns the model digest. */
function requireExpected(options: SealOptions, files: ModelFile[], digests: Buffer[]): string {
  const found = modelDigest(files.map(({ path }, i) => ({ name: path, sha256: hex(digests[i] ?? sha256()) })));
  if (found !== options.expectDigest) throw mismatch(options, found);
  return found;
}

/** Also catches what a positional read cannot: a write to bytes that had been read, a file that grew. */
async function checkUnchanged(files: ModelFile[]): Promise<void> {
  for (const [i, { absolute, identity }] of files.entries()) {
    if (i % 512 === 511) await setImmediate();
    const found = lstatSync(absolute, { bigint: true, throwIfNoEntry: false });
    if (found === undefined || fileIdentity(found) !== identity) throw sourceChanged(absolute);
  }
}

const mismatch = ({ model, expectDigest }: SealOptions, found: string) =>
  negativeError(
    'ERR_SEAL_MODEL_MISMATCH',
    `${model} is not the model that the image measured: expected digest ${expectDigest}, found ${found}`,
    { hint: 'build the image with this model, or seal the model that it was built with' },
  );
