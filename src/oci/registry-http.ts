import { type ClientRequest, type IncomingMessage, Agent as PlainAgent, request as plainRequest } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { AtomaError } from '../core/errors.ts';
import { isLoopback } from './registry-security.ts';

/** Times in milliseconds. Tests make them shorter. */
export interface RegistryLimits {
  /** Without a byte for as long, a connection is given up. */
  idle: number;
  /** For a manifest, a configuration, a token as a whole, however slowly its bytes come. */
  document: number;
  /** For the answer to a piece of an upload, which goes to a disk, or its end: a store of objects puts many GiB together then. */
  commit: number;
  /** Of everything that can be tried again; a transfer that gets on begins to count anew. */
  attempts: number;
  /** Before the second attempt; doubles. */
  backoff: number;
  /** A registry that asks for a longer pause (Retry-After) is not waited for. */
  longestPause: number;
}

export const LIMITS: RegistryLimits = {
  idle: 30_000,
  document: 60_000,
  commit: 600_000,
  attempts: 5,
  backoff: 500,
  longestPause: 60_000,
};

export type Method = 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT';

/** What a request carries. It may be opened again, for a second attempt; a chunk need be good only until the next is asked for. */
export interface Body {
  /** Bytes. */
  length: number;
  open(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export const bodyFrom = (bytes: Uint8Array): Body => ({ length: bytes.length, open: () => [bytes] });

export interface Exchange {
  url: URL;
  method?: Method;
  headers: Record<string, string>;
  body?: Body | undefined;
  /** How long the answer may take once everything has been sent, where not as long as any byte. */
  patience?: number | undefined;
  env: NodeJS.ProcessEnv;
  limits: RegistryLimits;
  signal?: AbortSignal | undefined;
}

/** A failure of the network, not of what it delivered. Its text holds no header. */
export class NetworkError extends Error {
  /** Trying again cannot help. */
  readonly permanent: boolean;
  constructor(message: string, permanent: boolean, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.permanent = permanent;
  }
}

/**
 * One request and the head of its answer; redirects are the caller's to judge. Node's own client and not fetch, which
 * knows no proxies and undoes a Content-Encoding, so that bytes are no longer those that a digest is of.
 * An answer may come before the whole body has gone out. Throws NetworkError, the signal's reason, or what reading the body throws.
 */
export function exchange({
  url,
  method = 'GET',
  headers,
  body,
  patience,
  env,
  limits,
  signal,
}: Exchange): Promise<IncomingMessage> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const isTls = url.protocol === 'https:';
    // A proxy cannot see what listens on this machine's loopback.
    const agentOptions = { keepAlive: false, ...(isLoopback(url.hostname) ? {} : { proxyEnv: env }) };
    const options = {
      method,
      headers: {
        'user-agent': 'atoma-tee',
        'accept-encoding': 'identity',
        ...(body ? { 'content-length': String(body.length) } : {}),
        ...headers,
      },
      agent: isTls ? new TlsAgent(agentOptions) : new PlainAgent(agentOptions),
    };
    const request = isTls ? tlsRequest(url, options) : plainRequest(url, options);
    const stop = () => request.destroy(signal?.reason as Error);
    const wait = (ms: number) => setTimeout(() => request.destroy(idleError(ms)), ms);
    const last = patience ?? limits.idle;
    let timer = wait(body ? limits.idle : last);
    let answered = false;
    signal?.addEventListener('abort', stop, { once: true });
    const settled = () => {
      answered = true;
      clearTimeout(timer);
    };
    const sent = () => {
      if (answered) return;
      clearTimeout(timer);
      timer = wait(last);
    };
    request.on('close', () => signal?.removeEventListener('abort', stop));
    request.on('response', (response) => {
      settled();
      // Whoever reads the body sees its failure; where nobody does, it is no failure of ours.
      response.on('error', () => {});
      resolve(response);
    });
    request.on('error', (error) => {
      settled();
      reject(signal?.aborted ? signal.reason : networkError(error));
    });
    if (body) void send(request, body, () => timer.refresh()).then(sent);
    else request.end();
  });
}

/** Sends a body no faster than it is taken; ends where the answer was enough for whoever asked. */
async function send(request: ClientRequest, body: Body, alive: () => void): Promise<void> {
  try {
    for await (const chunk of body.open()) {
      if (request.destroyed) return;
      await written(request, chunk);
      alive();
    }
    request.end();
  } catch (error) {
    request.destroy(error as Error);
  }
}

/** Until the chunk has gone to the system, or the request has come to its end. */
const written = (request: ClientRequest, chunk: Uint8Array): Promise<void> =>
  new Promise((resolve) => {
    request.once('close', resolve);
    request.write(chunk, () => {
      request.removeListener('close', resolve);
      resolve();
    });
  });

/** The body, given up when no byte comes for a while; time that the reader takes does not count. */
export async function* bodyOf(
  response: IncomingMessage,
  limits: RegistryLimits,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const iterator = response[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  try {
    for (;;) {
      const timer = setTimeout(() => response.destroy(idleError(limits.idle)), limits.idle);
      const next = await iterator.next().finally(() => clearTimeout(timer));
      if (next.done) return;
      yield next.value;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw networkError(error);
  } finally {
    response.destroy();
  }
}

const idleError = (ms: number) => new NetworkError(`no answer for ${ms / 1000} seconds`, false);

/** A certificate that is not trusted will not be so in a second either, nor will a name exist. */
const PERMANENT = /CERT|SELF_SIGNED|UNABLE_TO|_TLS_|_SSL_|EPROTO|ENOTFOUND|HPE_|_INVALID_/;

function networkError(error: unknown): Error {
  if (error instanceof NetworkError || error instanceof AtomaError) return error;
  const code = String((error as NodeJS.ErrnoException).code ?? 'it failed');
  return new NetworkError(code, PERMANENT.test(code), error);
}
