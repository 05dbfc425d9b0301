import { type FileHandle, open, rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { AtomaError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { temporary } from '../core/temporary.ts';
import type { Cache, Digest } from '../image/cache.ts';
import { verified, wrongSize } from './blobs.ts';
import type { RegistryClient } from './registry-client.ts';
import { bodyOf, NetworkError, type RegistryLimits } from './registry-http.ts';

/** A connection that brings less does not count as one that got on: a byte each would go on for ever. */
const PROGRESS = 1 << 20;

export interface Download {
  client: RegistryClient;
  layer: { digest: string; size: number };
  limits: RegistryLimits;
  /** For error texts. */
  what: string;
  signal?: AbortSignal | undefined;
}

/**
 * A blob's bytes as they come, kept in the cache too when all are right; the last are given out only then. A connection that
 * breaks is taken up where it broke. Throws what `verified` throws, `ERR_OCI_REGISTRY`, `ERR_OCI_AUTH` (exit 5).
 */
export async function* download(
  job: Download,
  digest: Digest,
  cache: Cache,
  onProgress: OnProgress | undefined,
): AsyncGenerator<Uint8Array> {
  const { layer, what } = job;
  const place = cache.temporary();
  const keep = temporary(place);
  const full = (error: unknown) => ioError(error, `cannot write to the cache ${cache.dir}`);
  const out = await open(place, 'wx', 0o644).catch((error) => {
    throw full(error);
  });
  let done = 0;
  let kept = false;
  try {
    for await (const chunk of verified(resumed(job), layer, what)) {
      await writeAll(out, chunk).catch((error) => {
        throw full(error);
      });
      done += chunk.length;
      onProgress?.({ phase: `fetching ${layer.digest.slice(0, 19)}`, done, total: layer.size });
      // Whoever takes the last bytes may not come back for the end.
      if (done === layer.size) {
        await cache.adopt(place, cache.archivePath(digest));
        kept = true;
      }
      yield chunk;
    }
  } finally {
    await out.close();
    if (!kept) await rm(place, { force: true });
    keep();
  }
}

async function writeAll(out: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.length; ) done += (await out.write(chunk, done)).bytesWritten;
}

/**
 * A blob's bytes from `start` on as they come, compared with nothing; a connection that breaks is taken up where it broke.
 * There may be more than `size`. Throws `ERR_OCI_SIZE` (exit 3), `ERR_OCI_REGISTRY`, `ERR_OCI_AUTH` (exit 5).
 */
export async function* resumed(
  { client, layer, limits, what, signal }: Download,
  start = 0,
): AsyncGenerator<Uint8Array> {
  const { digest, size } = layer;
  let at = start;
  for (let attempt = 1; at < size; attempt++) {
    const before = at;
    try {
      const range: Record<string, string> = at === 0 ? {} : { range: `bytes=${at}-` };
      const response = await client.get(`blobs/${digest}`, range, signal);
      // A server that knows no ranges begins again: what we have had already is passed over.
      let skip = startsAt(response, at, size, what) === 0 ? at : 0;
      for await (const chunk of bodyOf(response, limits, signal)) {
        const news = chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - news.length;
        at += news.length;
        if (news.length > 0) yield news;
      }
      // Chunks have an end of their own: what ended there was whole. Without them it may have broken off.
      if (at < size && response.complete && response.headers['transfer-encoding'] === 'chunked')
        throw wrongSize(what, size, `${at}`);
      if (at < size) throw new NetworkError(`it broke off after ${at} of ${size} bytes`, false);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof AtomaError) throw error;
      if (at - before >= PROGRESS) attempt = 1;
      if (attempt >= limits.attempts || (error as NetworkError).permanent) throw client.failure(error);
      await pause(limits.backoff * 2 ** (attempt - 1), undefined, signal ? { signal } : {});
    }
  }
}

/** Where in the blob an answer's bytes begin. Refuses one that cannot be the blob's. */
function startsAt(response: IncomingMessage, at: number, size: number, what: string): number {
  const { headers, statusCode } = response;
  const refuse = (error: Error) => {
    response.destroy();
    return error;
  };
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') throw refuse(new NetworkError('it encodes what must be exact', true));
  if (statusCode === 416) throw refuse(wrongSize(what, size, `${at}`));
  if (statusCode === 404 || statusCode === 410) throw refuse(new NetworkError(`it no longer has ${what}`, true));
  if (statusCode === 200) {
    const length = Number(headers['content-length'] ?? size);
    if (length !== size) throw refuse(wrongSize(what, size, `${length}`));
    return 0;
  }
  const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? [];
  if (at === 0 || Number(start) !== at)
    throw refuse(new NetworkError('it answers with another range than was asked for', true));
  if (total !== '*' && Number(total) !== size) throw refuse(wrongSize(what, size, String(total)));
  return at;
}
