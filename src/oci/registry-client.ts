import type { IncomingMessage } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { AtomaError, missingError } from '../core/errors.ts';
import { type AuthContext, authorize, noAccess } from './auth.ts';
import { findCredentials } from './credentials.ts';
import { shown } from './json.ts';
import { RETRIED, reason, retryAfter } from './registry-answers.ts';
import { type Body, exchange, type Method, NetworkError, type RegistryLimits } from './registry-http.ts';
import { apiHost, type RegistryName } from './registry-names.ts';
import { checkAddress, plainHttpAllowed } from './registry-security.ts';

export interface ClientOptions {
  env: NodeJS.ProcessEnv;
  limits: RegistryLimits;
  signal?: AbortSignal | undefined;
  /** To push too; `from`: other repositories there, of which blobs may be taken over. */
  push?: { from: string[] } | undefined;
}

export interface Ask {
  method?: Method;
  /** Below /v2/REPOSITORY/, or an address that the registry gave for an upload. */
  at: string | URL;
  headers?: Record<string, string>;
  body?: Body;
  /** Statuses that the caller makes sense of; others fail. */
  answers: number[];
  /** Only one attempt, and NetworkError where it fails: the caller knows better how to try again. */
  once?: boolean;
  /** How long the answer may take once everything has been sent, in milliseconds. */
  patience?: number;
  signal?: AbortSignal | undefined;
}

const MAX_REDIRECTS = 5;
/** Statuses that readers make sense of. */
const ANSWERS = [200, 206, 404, 410, 416];

/**
 * Asks a registry about one repository (OCI distribution specification 1.1). Authenticates when asked to, follows
 * redirects without the Authorization header, tries again where that can help.
 */
export class RegistryClient {
  readonly #name: RegistryName;
  readonly #options: ClientOptions;
  #base: Promise<URL> | null = null;
  #authorization: string | null = null;
  #authorizing: Promise<string> | null = null;

  constructor(name: RegistryName, options: ClientOptions) {
    this.#name = name;
    this.#options = options;
  }

  /**
   * GET below /v2/REPOSITORY/. Returns what answers 200, 206, 404, 410 or 416, its body unread.
   * Throws `ERR_OCI_AUTH`, `ERR_OCI_REGISTRY` (exit 5), `ERR_OCI_INSECURE` (exit 3).
   */
  get(at: string, headers: Record<string, string>, signal = this.#options.signal): Promise<IncomingMessage> {
    return this.ask({ at, headers, answers: ANSWERS, signal });
  }

  /** Any request, tried again where that can help. Throws as `get`; NetworkError where there is but one attempt. */
  async ask(ask: Ask): Promise<IncomingMessage> {
    const { limits } = this.#options;
    const signal = ask.signal ?? this.#options.signal;
    for (let attempt = 1; ; attempt++) {
      let wait = limits.backoff * 2 ** (attempt - 1);
      try {
        const response = await this.#authorized(ask, signal);
        const status = response.statusCode ?? 0;
        if (ask.answers.includes(status)) return response;
        const why = `the server answered ${status}${await reason(response, limits)}`;
        if (!RETRIED.includes(status)) throw new NetworkError(why, true);
        const asked = retryAfter(response.headers['retry-after']);
        if (asked > limits.longestPause)
          throw new NetworkError(`${why} and asks for a pause of ${Math.ceil(asked / 1000)} seconds`, true);
        wait = Math.max(wait, asked);
        throw new NetworkError(why, false);
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof AtomaError) throw error;
        if (ask.once) throw error;
        if (attempt >= limits.attempts || (error as NetworkError).permanent) throw this.failure(error);
        await pause(wait, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
      }
    }
  }

  /**
   * The address that an answer's Location header gives (RFC 9110, 10.2.2), counted from `from`, or from the registry's own; it may be
   * another host's. Throws NetworkError where it is none, `ERR_OCI_INSECURE` (exit 3).
   */
  async location(response: IncomingMessage, from?: URL): Promise<URL> {
    const base = from ?? (await this.#address(this.#options.signal));
    const { location = '' } = response.headers;
    if (location === '' || !URL.canParse(location, base.href))
      throw new NetworkError('it gives no address to upload to', true);
    const url = new URL(location, base);
    checkAddress(url, base, this.#options.env);
    return url;
  }

  /** The error for a request that came to nothing. */
  failure(error: unknown): AtomaError {
    const why = error instanceof Error ? error.message : String(error);
    return missingError(
      'ERR_OCI_REGISTRY',
      `cannot ${this.#options.push ? 'push to' : 'fetch from'} the registry ${this.#name.registry}: ${why}`,
      {
        cause: error,
        hint: 'check the network, the proxy variables and the name of the registry',
        details: { registry: this.#name.registry },
      },
    );
  }

  async #authorized(ask: Ask, signal: AbortSignal | undefined): Promise<IncomingMessage> {
    const base = await this.#address(signal);
    const url = ask.at instanceof URL ? ask.at : new URL(`v2/${this.#name.repository}/${ask.at}`, base);
    const used = this.#authorization;
    const response = await this.#follow(url, base, ask, signal);
    if (response.statusCode !== 401) {
      if (response.statusCode !== 403) return response;
      throw noAccess(this.#name, `answered 403${await reason(response, this.#options.limits)}`);
    }
    response.destroy();
    // Somebody else's request may have got a token meanwhile; ours may have expired.
    if (this.#authorization === used) this.#authorization = await this.#authorizeOnce(response, base, signal);
    const again = await this.#follow(url, base, ask, signal);
    if (again.statusCode !== 401 && again.statusCode !== 403) return again;
    this.#authorization = null;
    throw noAccess(this.#name, `answered ${again.statusCode}${await reason(again, this.#options.limits)}`);
  }

  /** Requests that are refused at the same moment ask for one token. */
  #authorizeOnce(response: IncomingMessage, base: URL, signal: AbortSignal | undefined): Promise<string> {
    this.#authorizing ??= this.#authorize(response, base, signal).finally(() => {
      this.#authorizing = null;
    });
    return this.#authorizing;
  }

  #authorize(response: IncomingMessage, base: URL, signal: AbortSignal | undefined): Promise<string> {
    const { env, limits, push } = this.#options;
    const own = `repository:${this.#name.repository}:pull`;
    const context: AuthContext = {
      base,
      registry: this.#name.registry,
      // A push asks first whether a blob is there, for which reading would do: it asks for all that it needs at once.
      scopes: push ? [`${own},push`, ...push.from.map((repository) => `repository:${repository}:pull`)] : [own],
      insist: push !== undefined,
      credentials: () => findCredentials(this.#name, env),
      env,
      limits,
      signal,
    };
    return authorize(response.headers['www-authenticate'] ?? '', context);
  }

  async #follow(
    start: URL,
    base: URL,
    { method = 'GET', headers = {}, body, patience }: Ask,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    const { env, limits } = this.#options;
    let url = start;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      // The secret is for the registry alone: its blob stores have addresses that speak for themselves.
      const secret = url.origin === base.origin && this.#authorization !== null;
      const authorization: Record<string, string> = secret ? { authorization: String(this.#authorization) } : {};
      const all = { ...headers, ...authorization };
      const response = await exchange({ url, method, headers: all, body, patience, env, limits, signal });
      const { location } = response.headers;
      const status = response.statusCode ?? 0;
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined) {
        // Another host's wish for authentication is not one that we have secrets for.
        if (url.origin === base.origin || status !== 401) return response;
        response.destroy();
        throw new NetworkError(`${shown(url.host)}, to which it redirects, answered 401`, true);
      }
      response.destroy();
      // RFC 9110, 15.4: only these two leave the method and the body as they are.
      if (status < 307 && method !== 'GET' && method !== 'HEAD')
        throw new NetworkError(`it redirects a ${method} by ${status}`, true);
      if (!URL.canParse(location, url.href)) throw new NetworkError('it redirects to what is no address', true);
      const next = new URL(location, url);
      checkAddress(next, url, env);
      url = next;
    }
    throw new NetworkError('it redirects too often', true);
  }

  /** https, except where http is allowed and nothing speaks https. */
  #address(signal: AbortSignal | undefined): Promise<URL> {
    this.#base ??= this.#probe(signal).catch((error) => {
      this.#base = null;
      throw error;
    });
    return this.#base;
  }

  async #probe(signal: AbortSignal | undefined): Promise<URL> {
    const host = apiHost(this.#name.registry);
    const secure = new URL(`https://${host}/`);
    const { env, limits } = this.#options;
    if (!plainHttpAllowed(host, env)) return secure;
    try {
      (await exchange({ url: new URL('v2/', secure), headers: {}, env, limits, signal })).destroy();
      return secure;
    } catch (error) {
      const code = ((error as NetworkError).cause as NodeJS.ErrnoException | undefined)?.code;
      // What answers a TLS greeting in another language, hangs up on it, or is not at the port of https.
      if (/^EPROTO$|^ECONNRESET$|^ECONNREFUSED$|_SSL_/.test(code ?? '')) return new URL(`http://${host}/`);
      throw error;
    }
  }
}
