import type { IncomingMessage } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { hex, sha256 } from '../core/bytes.ts';
import { AtomaError } from '../core/errors.ts';
import { wrongDigest } from './blobs.ts';
import type { RegistryClient } from './registry-client.ts';
import { bodyFrom, NetworkError, type RegistryLimits } from './registry-http.ts';

// Pushing: OCI distribution specification 1.1, "Pushing a blob in chunks", "Mounting a blob", "Pushing Manifests".

/**
 * Per request, unless the registry wants more. A token has to be good for one only, and that much is what breaks at most; but
 * docker-registry syncs its disk after each.
 */
const CHUNK = 256 << 20;
/** An attempt that brings less does not count as one that got on. */
const PROGRESS = 1 << 20;

export interface Upload {
  client: RegistryClient;
  /** "sha256:HEX". */
  digest: string;
  /** Bytes. */
  size: number;
  /** The bytes from `from` up to `to`; may be called again for the same ones. */
  read(from: number, to: number): AsyncIterable<Uint8Array>;
  limits: RegistryLimits;
  /** Repositories of the same registry that may have it. */
  mountFrom: string[];
  /** Bytes per request; tests make it small. */
  chunk?: number;
  signal?: AbortSignal | undefined;
  /** How far it is, in bytes; may go back. */
  onProgress?(done: number): void;
}

/** An upload that is under way at the registry. */
interface Session {
  location: URL;
  /** The registry's own word on the least size of a request (OCI-Chunk-Min-Length). */
  least: number;
  at: number;
}

/** Whether the repository has a blob. Throws `ERR_OCI_REGISTRY`, `ERR_OCI_AUTH` (exit 5). */
export async function hasBlob(client: RegistryClient, digest: string, size: number, signal?: AbortSignal) {
  const response = await client.ask({ method: 'HEAD', at: `blobs/${digest}`, answers: [200, 404], signal });
  response.destroy();
  // One of another size is none: what it has under that name cannot be right.
  return response.statusCode === 200 && Number(response.headers['content-length'] ?? size) === size;
}

/**
 * Brings a blob to a repository, in chunks; a connection that breaks is taken up at the offset that the registry reports, or
 * where it knows nothing any more, at 0. The registry compares the bytes with the digest.
 * Throws `ERR_OCI_REGISTRY`, `ERR_OCI_AUTH` (exit 5), `ERR_OCI_INSECURE` (exit 3), and what `read` throws.
 */
export async function uploadBlob(job: Upload): Promise<'mounted' | 'uploaded'> {
  const { client, digest, size, limits, signal } = job;
  let session: Session | null = null;
  let most = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      if (session === null && attempt > 1 && (await hasBlob(client, digest, size, signal))) return 'uploaded';
      session ??= await begin(job, attempt === 1);
      if (session === null) return 'mounted';
      while (session.at < size) await sendChunk(job, session);
      await finish(job, session);
      return 'uploaded';
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof AtomaError) throw error;
      const at = session?.at ?? 0;
      if (at - most >= PROGRESS) {
        attempt = 1;
        most = at;
      }
      if (attempt >= limits.attempts || (error as NetworkError).permanent) throw client.failure(error);
      await pause(limits.backoff * 2 ** (attempt - 1), undefined, signal ? { signal } : {}).catch(() =>
        signal?.throwIfAborted(),
      );
      if (session !== null) session = await resumeAt(job, session);
    }
  }
}

/** Null: another repository had it. */
async function begin({ client, digest, size, mountFrom, signal }: Upload, mount: boolean): Promise<Session | null> {
  const [from] = mount ? mountFrom : [];
  const query = from === undefined ? '' : `?${new URLSearchParams({ mount: digest, from })}`;
  const headers = { 'content-length': '0' };
  const at = `blobs/uploads/${query}`;
  const response = await client.ask({ method: 'POST', at, headers, answers: [201, 202], signal });
  response.destroy();
  if (response.statusCode === 201) return null;
  const least = Number(response.headers['oci-chunk-min-length'] ?? 0);
  return {
    location: await client.location(response),
    least: Number.isSafeInteger(least) ? Math.min(Math.max(least, 0), size) : 0,
    at: 0,
  };
}

async function sendChunk(job: Upload, session: Session): Promise<void> {
  const { client, size, chunk = CHUNK, limits, read, signal, onProgress } = job;
  const from = session.at;
  const to = Math.min(size, from + Math.max(chunk, session.least));
  const counted = async function* () {
    let done = from;
    for await (const bytes of read(from, to)) {
      yield bytes;
      done += bytes.length;
      onProgress?.(done);
    }
  };
  const response = await client.ask({
    method: 'PATCH',
    at: session.location,
    headers: { 'content-type': 'application/octet-stream', 'content-range': `${from}-${to - 1}` },
    body: { length: to - from, open: counted },
    answers: [201, 202, 204, 404, 416],
    once: true,
    patience: limits.commit,
    signal,
  });
  response.destroy();
  // It is elsewhere than we think, or has forgotten: asking it where it is can help.
  if ((response.statusCode ?? 0) >= 400) throw new NetworkError(`the server answered ${response.statusCode}`, false);
  session.location = await client.location(response, session.location);
  const got = reached(response) ?? to;
  if (got <= from || got > to) throw new NetworkError(`it has ${got} bytes after the bytes ${from} to ${to}`, true);
  session.at = got;
}

/** What a Range header ("0-LAST") says is there; without one, null. */
function reached({ headers }: IncomingMessage): number | null {
  const [, last] = /^(?:bytes=)?0-(\d{1,16})$/.exec(headers.range ?? '') ?? [];
  return last === undefined ? null : Number(last) + 1;
}

async function finish({ client, digest, limits, signal }: Upload, { location }: Session): Promise<void> {
  // As text: what the registry wrote there may be signed as it is.
  const at = new URL(location);
  at.search = `${at.search === '' ? '?' : `${at.search}&`}digest=${encodeURIComponent(digest)}`;
  const headers = { 'content-length': '0' };
  // The registry reads the blob again, or copies it: that takes as long as it is large.
  const patience = limits.commit;
  (await client.ask({ method: 'PUT', at, headers, answers: [201, 204], once: true, patience, signal })).destroy();
}

/**
 * Where the registry says that an upload is. docker-registry 2.8 gives up an upload of which a chunk broke off, and answers 404:
 * null, as of one that has come to its end meanwhile.
 */
async function resumeAt({ client, size, signal }: Upload, session: Session): Promise<Session | null> {
  const response = await client.ask({ at: session.location, answers: [200, 202, 204, 400, 404, 416], signal });
  response.destroy();
  if ((response.statusCode ?? 0) >= 400) return null;
  const { location } = response.headers;
  // "0-0" is how both nothing and one byte are written: a byte more or less that is sent again is refused, not stored.
  const end = reached(response) ?? 0;
  const at = end <= 1 ? 0 : end;
  if (at > size) return null;
  return {
    ...session,
    location: location === undefined ? session.location : await client.location(response, session.location),
    at,
  };
}

/**
 * Stores a manifest under a tag or its digest. `subject`: whether the registry itself lists it among its subject's referrers.
 * Throws as uploadBlob, and `ERR_OCI_DIGEST` (exit 3) where the registry says that it has stored another.
 */
export async function putManifest(
  client: RegistryClient,
  {
    name,
    bytes,
    mediaType,
    signal,
  }: { name: string; bytes: Buffer; mediaType: string; signal?: AbortSignal | undefined },
): Promise<{ digest: string; subject: boolean }> {
  const headers = { 'content-type': mediaType };
  const at = `manifests/${name}`;
  const response = await client.ask({ method: 'PUT', at, headers, body: bodyFrom(bytes), answers: [201], signal });
  response.destroy();
  const digest = `sha256:${hex(sha256(bytes))}`;
  const said = response.headers['docker-content-digest'];
  if (typeof said === 'string' && said.startsWith('sha256:') && said !== digest) throw wrongDigest(at, digest, said);
  return { digest, subject: response.headers['oci-subject'] !== undefined };
}
