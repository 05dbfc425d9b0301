import type { IncomingMessage } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { hex, sha256 } from '../core/bytes.ts';
import { AtomaError } from '../core/errors.ts';
import { readDocument, tooLarge, wrongDigest } from './blobs.ts';
import type { RegistryClient } from './registry-client.ts';
import { bodyOf, NetworkError, type RegistryLimits } from './registry-http.ts';

export interface DocumentJob {
  client: RegistryClient;
  limits: RegistryLimits;
  signal?: AbortSignal | undefined;
  /** "manifests/TAG", "blobs/DIGEST". */
  path: string;
  /** Media types, as the Accept header has them. */
  accept: string;
  /** What it has to be, as far as that is known. */
  pin: { digest?: string | undefined; size?: number | undefined };
  /** Bytes. */
  limit: number;
  /** For error texts. */
  what: string;
  /** The error where the registry has none. */
  absent(): Error;
}

/**
 * Fetches a manifest, a configuration or the like as a whole, within a time, compared with what it has to be.
 * Throws `absent()`, `ERR_OCI_TOO_LARGE` (exit 2), `ERR_OCI_DIGEST`, `ERR_OCI_SIZE` (exit 3), `ERR_OCI_REGISTRY` (exit 5).
 */
export async function fetchDocument(job: DocumentJob) {
  const { client, limits, signal, path, accept, limit, what, absent } = job;
  for (let attempt = 1; ; attempt++) {
    const response = await client.get(path, { accept }, signal);
    try {
      const { headers, statusCode } = response;
      if (statusCode === 404 || statusCode === 410) throw absent();
      if (statusCode !== 200) throw new NetworkError(`the server answered ${statusCode}`, true);
      if (Number(headers['content-length'] ?? 0) > limit) throw tooLarge(what, limit);
      const bytes = await wholeBody(response, job);
      const said = headers['docker-content-digest'];
      const own = `sha256:${hex(sha256(bytes))}`;
      if (typeof said === 'string' && said.startsWith('sha256:') && said !== own) throw wrongDigest(what, said, own);
      return { bytes, headers, mediaType: headers['content-type']?.split(';')[0]?.trim().toLowerCase() };
    } catch (error) {
      response.destroy();
      signal?.throwIfAborted();
      if (error instanceof AtomaError) throw error;
      // The client has tried again what went wrong before the body.
      if (attempt >= limits.attempts || (error as NetworkError).permanent) throw client.failure(error);
      await pause(limits.backoff * 2 ** (attempt - 1));
    }
  }
}

async function wholeBody(response: IncomingMessage, { limits, signal, pin, limit, what }: DocumentJob) {
  const { document } = limits;
  const late = new NetworkError(`${what} did not come whole in ${document / 1000} seconds`, true);
  const timer = setTimeout(() => response.destroy(late), document);
  try {
    return await readDocument(bodyOf(response, limits, signal), pin, limit, what);
  } finally {
    clearTimeout(timer);
  }
}
