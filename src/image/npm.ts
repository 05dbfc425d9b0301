import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import { missingError } from '../core/errors.ts';
import type { FetchOptions } from './fetch.ts';
import { gone } from './fetch.ts';
import { entryName, type LockEntry } from './lock-file.ts';
import { npmOptions } from './npm-config.ts';

/**
 * The bytes of a package's tarball, from npm's own cache or the configured registry. The caller compares the digest.
 * Throws `ERR_INPUT_GONE`, `ERR_INPUT_FETCH` (exit 5).
 */
export async function npmTarball(
  entry: Extract<LockEntry, { kind: 'npm' }>,
  { dir }: FetchOptions,
): Promise<AsyncIterable<Uint8Array>> {
  const { default: pacote } = await import('pacote');
  const options = await npmOptions(dir);
  const out = new PassThrough({ highWaterMark: 1 << 18 });
  // The promise ends when the stream does, so its failure is the stream's.
  const done = pacote.tarball.stream(
    entryName(entry),
    async (stream: Readable) => {
      stream.on('error', (error) => out.destroy(error));
      stream.pipe(out);
      await once(stream, 'end');
    },
    { ...options, preferOffline: true },
  );
  const failed = done.then(
    () => undefined,
    (error: unknown) => {
      const mapped = npmError(entry, error);
      out.destroy(mapped);
      return mapped;
    },
  );
  const first = await Promise.race([once(out, 'readable').catch(() => undefined), failed]);
  if (first instanceof Error) throw first;
  return out;
}

function npmError(entry: LockEntry, error: unknown): Error {
  const code = (error as { code?: string }).code;
  if (code === 'E404' || code === 'ETARGET') return gone(entry);
  return missingError('ERR_INPUT_FETCH', `cannot fetch ${entryName(entry)} from the npm registry: ${code ?? 'error'}`, {
    cause: error,
    hint: 'check the network and the registry that `npm config get registry` names',
  });
}

/** The newest version that the entry allows, and its integrity. Throws like npmTarball. */
export async function npmNewest(
  entry: Extract<LockEntry, { kind: 'npm' }>,
  { dir }: FetchOptions,
): Promise<{ version: string; integrity: string }> {
  const { default: pacote } = await import('pacote');
  try {
    const spec = `${entry.name}@${entry.allow}`;
    const found = await pacote.manifest(spec, { ...(await npmOptions(dir)), preferOnline: true });
    const integrity = String(found.dist?.integrity ?? found._integrity);
    return { version: found.version, integrity };
  } catch (error) {
    throw npmError(entry, error);
  }
}
