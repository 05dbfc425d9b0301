import { type IncomingMessage, Agent as PlainAgent, request as plainRequest } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { isLoopback } from './registry-security.ts';

/** Times in milliseconds. Tests make them shorter. */
export interface RegistryLimits {
  /** Without a byte for as long, a connection is given up. */
  idle: number;
  /** For a manifest, a configuration, a token as a whole, however slowly its bytes come. */
  document: number;
  /** Of everything that can be tried again; a download that gets on begins to count anew. */
  attempts: number;
  /** Before the second attempt; doubles. */
  backoff: number;
  /** A registry that asks for a longer pause (Retry-After) is not waited for. */
  longestPause: number;
}

export const LIMITS: RegistryLimits = {
  idle: 30_000,
  document: 60_000,
  attempts: 5,
  backoff: 500,
  longestPause: 60_000,
};

export interface Exchange {
  url: URL;
  headers: Record<string, string>;
  /** Makes it a POST of a form. */
  form?: string;
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
 * Throws NetworkError, or the signal's reason.
 */
export function exchange({ url, headers, form, env, limits, signal }: Exchange): Promise<IncomingMessage> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const isTls = url.protocol === 'https:';
    // A proxy cannot see what listens on this machine's loopback.
    const agentOptions = { keepAlive: false, ...(isLoopback(url.hostname) ? {} : { proxyEnv: env }) };
    const options = {
      method: form === undefined ? 'GET' : 'POST',
      headers: { 'user-agent': 'atoma-tee', 'accept-encoding': 'identity', ...headers },
      agent: isTls ? new TlsAgent(agentOptions) : new PlainAgent(agentOptions),
    };
    const request = isTls ? tlsRequest(url, options) : plainRequest(url, options);
    const stop = () => request.destroy(signal?.reason as Error);
    const timer = setTimeout(() => request.destroy(idleError(limits)), limits.idle);
    signal?.addEventListener('abort', stop, { once: true });
    const settled = () => clearTimeout(timer);
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
    request.end(form);
  });
}

/** The body, given up when no byte comes for a while; time that the reader takes does not count. */
export async function* bodyOf(
  response: IncomingMessage,
  limits: RegistryLimits,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const iterator = response[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  try {
    for (;;) {
      const timer = setTimeout(() => response.destroy(idleError(limits)), limits.idle);
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

const idleError = ({ idle }: RegistryLimits) => new NetworkError(`no answer for ${idle / 1000} seconds`, false);

/** A certificate that is not trusted will not be so in a second either, nor will a name exist. */
const PERMANENT = /CERT|SELF_SIGNED|UNABLE_TO|_TLS_|_SSL_|EPROTO|ENOTFOUND|HPE_|_INVALID_/;

function networkError(error: unknown): Error {
  if (error instanceof NetworkError) return error;
  const code = String((error as NodeJS.ErrnoException).code ?? 'it failed');
  return new NetworkError(code, PERMANENT.test(code), error);
}
