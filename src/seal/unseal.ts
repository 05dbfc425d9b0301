import { chmodSync, closeSync, openSync } from 'node:fs';
import { lstat, mkdir, rename } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { hex } from '../core/bytes.ts';
import { AtomaError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { stagingDirectory } from '../core/staging.ts';
import { modelDigest } from '../model/model.ts';
import { type ParsedHeader, verifyHeaderSignature } from './header.ts';
import type { IndexFile, SealIndex } from './index-part.ts';
import { checkDigest, type ExtractSink, extract, openIndex, partOffsets, readHeader } from './open.ts';
import { type PrivateKey, unwrapContentKey } from './recipients.ts';
import { partAad } from './secrets.ts';
import { type FileSource, fileSource } from './source.ts';
import { type RunOptions, runJob } from './threads.ts';

export interface UnsealOptions {
  sealed: string;
  key: PrivateKey;
  /** Raw Ed25519 public key; any other owner is refused. */
  owner?: Uint8Array | undefined;
  /** A directory that does not exist yet. */
  out: string;
  /**
   * Writes the files below `directory` in another form; their directories are there. Called when the index is authenticated; may
   * refuse the files by throwing.
   */
  sink?: ((directory: string, files: IndexFile[]) => UnsealSink) | undefined;
  onProgress?: OnProgress | undefined;
  /** Aborting leaves nothing. */
  signal?: AbortSignal | undefined;
}

export interface UnsealSink extends ExtractSink {
  /** Called once, after the last file or after a failure: lets go of what is open. */
  end(): Promise<void>;
}

/** Hex; `files` is their number, `bytes` their size. */
export interface UnsealResult {
  out: string;
  files: number;
  bytes: number;
  digest: string;
  owner: string;
  sealId: string;
}

/**
 * Decrypts a sealed model into a new directory, which appears only after everything in it was authenticated. Throws as readHeader,
 * verifyHeaderSignature, openIndex and extract; `ERR_SEAL_RECIPIENT` (exit 3) if the key is none of the recipients';
 * `ERR_UNSEAL_EXISTS` (exit 2); `ERR_DISK_FULL` (exit 1).
 */
export async function unsealFile(options: UnsealOptions): Promise<UnsealResult> {
  const out = resolve(options.out);
  await refuseExisting(out, options.out);
  const source = await fileSource(options.sealed);
  try {
    const parsed = await readHeader(source);
    verifyHeaderSignature(parsed, options.owner);
    const ck = await unwrapContentKey(parsed.header, options.key);
    const index = await openIndex(source, parsed, ck);
    const { onProgress, signal } = options;
    const run: RunOptions = { phase: 'unsealing', doing: `cannot write ${options.out}`, onProgress, signal };
    const staging = await stagingDirectory(out, 0o700);
    const partial = staging.path;
    try {
      await makeDirectories(partial, index);
      if (options.sink) await openInto(options.sink(partial, index.files), source, parsed, index, ck, run);
      else await openAsTheyAre(source, parsed, index, partial, run);
      await refuseExisting(out, options.out);
      await rename(partial, out);
    } catch (error) {
      throw ioError(error, run.doing);
    } finally {
      await staging.remove();
    }
    return {
      out: options.out,
      files: index.files.length,
      bytes: index.files.reduce((sum, file) => sum + file.size, 0),
      digest: modelDigest(index.files.map((file) => ({ name: file.path, sha256: hex(file.sha256) }))),
      owner: hex(parsed.header.owner),
      sealId: hex(parsed.header.sealId),
    };
  } finally {
    await source.close();
  }
}

/** Files between two turns of the event loop. */
const BATCH = 512;

async function openAsTheyAre(
  source: FileSource,
  parsed: ParsedHeader,
  index: SealIndex,
  directory: string,
  run: RunOptions,
): Promise<void> {
  await openParts(source, parsed, index, directory, run);
  for (const [i, { path, size, mode }] of index.files.entries()) {
    // A promise for each of a hundred thousand files would take longer, and more memory.
    if (i % BATCH === BATCH - 1) await setImmediate();
    if (size === 0) closeSync(openSync(join(directory, path), 'wx'));
    chmodSync(join(directory, path), mode);
  }
}

async function openInto(
  sink: UnsealSink,
  source: FileSource,
  parsed: ParsedHeader,
  index: SealIndex,
  ck: Uint8Array,
  { phase, onProgress, signal }: RunOptions,
): Promise<void> {
  try {
    await extract(source, parsed, index, ck, sink, (progress) => {
      if (signal?.aborted) {
        throw new AtomaError('unexpected', 'ERR_INTERRUPTED', 'interrupted; nothing was left half-written');
      }
      onProgress?.({ ...progress, phase });
    });
  } finally {
    await sink.end();
  }
}

/**
 * Decrypts every segment on several threads, into `directory` or, if that is null, nowhere. Checks every file's digest and all padding;
 * only then does it return.
 */
export async function openParts(
  source: FileSource,
  parsed: ParsedHeader,
  index: SealIndex,
  directory: string | null,
  run: RunOptions,
): Promise<void> {
  const offsets = partOffsets(parsed);
  const digests = await runJob(
    {
      direction: 'open',
      fd: source.fd,
      files: directory === null ? null : index.files.map(({ path, size }) => ({ path: join(directory, path), size })),
      fileSizes: index.files.map(({ size }) => size),
      hash: new Uint8Array(index.files.length).fill(1),
      parts: index.parts.map(({ id, key, length }, i) => ({
        aad: partAad(id, length),
        key,
        length,
        offset: offsets[i] ?? 0,
      })),
      pieces: index.pieces,
    },
    run,
  );
  for (const [i, file] of index.files.entries()) checkDigest(file, digests[i] ?? Buffer.alloc(0));
}

async function makeDirectories(root: string, index: SealIndex): Promise<void> {
  const directories = new Set(index.files.map(({ path }) => dirname(path)));
  for (const directory of directories) await mkdir(join(root, directory), { recursive: true, mode: 0o755 });
}

async function refuseExisting(path: string, shown: string): Promise<void> {
  const exists = await lstat(path).then(
    () => true,
    () => false,
  );
  if (exists) {
    throw usageError('ERR_UNSEAL_EXISTS', `${shown} exists; expected a directory that does not exist yet`, {
      hint: 'give another --out',
    });
  }
}
