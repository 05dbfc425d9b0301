import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { AtomaError, missingError, negativeError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import type { Cache, Digest } from './cache.ts';
import { httpRequest } from './http.ts';
import { entryName, type LockEntry } from './lock-file.ts';
import { archiveOf, findMirrors, MIRROR_VARIABLES } from './mirrors.ts';
import { npmTarball } from './npm.ts';

export interface FetchOptions {
  /** Project directory: npm reads its .npmrc. */
  dir: string;
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
}

/** What the lock says that a package's bytes hash to. */
export function entryDigest(entry: LockEntry): Digest {
  return entry.kind === 'deb'
    ? { algorithm: 'sha256', hex: entry.sha256 }
    : { algorithm: 'sha512', hex: Buffer.from(entry.integrity.slice('sha512-'.length), 'base64').toString('hex') };
}

/**
 * Fetches a package into the cache and returns its path there. Nothing enters the cache whose digest is not the lock's.
 * Throws `ERR_INPUT_DIGEST` (exit 3), `ERR_INPUT_GONE`, `ERR_INPUT_FETCH`, `ERR_MIRROR_MISSING` (exit 5).
 */
export async function fetchArchive(entry: LockEntry, cache: Cache, options: FetchOptions): Promise<string> {
  const body = entry.kind === 'npm' ? await npmTarball(entry, options) : await debBody(entry, options);
  const temporary = cache.temporary();
  const digest = entryDigest(entry);
  const hash = createHash(digest.algorithm);
  const total = entry.kind === 'deb' ? entry.size : undefined;
  const out = await open(temporary, 'wx', 0o644);
  try {
    let done = 0;
    for await (const chunk of body) {
      done += chunk.length;
      if (total !== undefined && done > total) throw wrongDigest(entry, `${total} bytes`, 'more');
      hash.update(chunk);
      await out.write(chunk);
      options.onProgress?.({ phase: `fetching ${entry.name}`, done, ...(total === undefined ? {} : { total }) });
    }
    await out.close();
    const found = hash.digest('hex');
    if (found !== digest.hex) throw wrongDigest(entry, digest.hex, found);
    await cache.adopt(temporary, cache.archivePath(digest));
    return cache.archivePath(digest);
  } catch (error) {
    await out.close().catch(() => {});
    await rm(temporary, { force: true });
    const mapped = ioError(error, `cannot write to the cache ${cache.dir}`);
    if (mapped instanceof AtomaError && mapped.code !== 'ERR_IO') throw mapped;
    throw missingError('ERR_INPUT_FETCH', `fetching ${entryName(entry)} broke off`, { cause: error });
  }
}

async function debBody(
  entry: Extract<LockEntry, { kind: 'deb' }>,
  { signal }: FetchOptions,
): Promise<AsyncIterable<Uint8Array>> {
  // "+" and "~" are literal in a pool's paths; URL leaves them alone.
  for (const mirror of await findMirrors(process.env, undefined, archiveOf(entry.path))) {
    const result = await httpRequest(`${mirror}/${entry.path}`, signal);
    if (result.status === 'found') return result.body;
  }
  throw gone(entry);
}

export const gone = (entry: LockEntry): AtomaError =>
  missingError(
    'ERR_INPUT_GONE',
    `${entryName(entry)} is pinned by the lock, and the ${source(entry)} no longer has it`,
    {
      hint:
        entry.kind === 'deb'
          ? `set ${MIRROR_VARIABLES[archiveOf(entry.path)]} to a mirror that keeps old versions (a snapshot service), or run \`atoma-tee lock --update\`, which shows what changes`
          : 'use a registry that has it, or run `atoma-tee lock --update`, which shows what changes',
      details: { input: entryName(entry) },
    },
  );

const source = (entry: LockEntry) => (entry.kind === 'deb' ? 'Debian mirror' : 'npm registry');

const wrongDigest = (entry: LockEntry, expected: string, found: string) =>
  negativeError(
    'ERR_INPUT_DIGEST',
    `${entryName(entry)} is not what the lock pins: expected ${expected}, found ${found}`,
    {
      hint: `the ${source(entry)} delivered other bytes under the same name, or the lock was edited; do not build from it before you know which`,
      details: { input: entryName(entry), expected, found },
    },
  );
