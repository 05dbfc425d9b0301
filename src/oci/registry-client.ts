import type { IncomingMessage } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { AtomaError, missingError } from '../core/errors.ts';
import { type AuthContext, authorize, noAccess } from './auth.ts';
import { findCredentials } from './credentials.ts';
import { shown } from './json.ts';
import { bodyOf, exchange, NetworkError, type RegistryLimits } from './registry-http.ts';
import { apiHost, type RegistryName } from './registry-names.ts';
import { checkAddress, plainHttpAllowed } from './registry-security.ts';

export interface ClientOptions {
  env: NodeJS.ProcessEnv;
  limits: RegistryLimits;
  signal?: AbortSignal | undefined;
}

const MAX_REDIRECTS = 5;
const RETRIED = [408, 429, 500, 502, 503, 504];
/** Statuses that callers make sense of. */
const ANSWERS = [200, 206, 404, 410, 416];

/**
 * Asks a registry for parts of one repository (OCI distribution specification 1.1). Authenticates when asked to, follows
 * redirects without the Authorization header, tries again where that can help.
 */
export class RegistryClient {
  readonly #name: RegistryName;
  readonly #options: ClientOptions;
  #base: Promise<URL> | null = null;
  #authorization: string | null = null;

  constructor(name: RegistryName, options: ClientOptions) {
    this.#name = name;
    this.#options = options;
  }

  /**
   * GET below /v2/REPOSITORY/. Returns what answers 200, 206, 404, 410 or 416, its body unread.
   * Throws `ERR_OCI_AUTH`, `ERR_OCI_REGISTRY` (exit 5), `ERR_OCI_INSECURE` (exit 3).
   */
  async get(path: string, headers: Record<string, string>, signal = this.#options.signal): Promise<IncomingMessage> {
    const { limits } = this.#options;
    for (let attempt = 1; ; attempt++) {
      let wait = limits.backoff * 2 ** (attempt - 1);
      try {
        const response = await this.#authorized(path, headers, signal);
        const status = response.statusCode ?? 0;
        if (ANSWERS.includes(status)) return response;
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
        if (attempt >= limits.attempts || (error as NetworkError).permanent) throw this.failure(error);
        await pause(wait, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
      }
    }
  }

  /** The error for a request that came to nothing. */
  failure(error: unknown): AtomaError {
    const why = error instanceof Error ? error.message : String(error);
    return missingError('ERR_OCI_REGISTRY', `cannot fetch from the registry ${this.#name.registry}: ${why}`, {
      cause: error,
      hint: 'check the network, the proxy variables and the name of the registry',
      details: { registry: this.#name.registry },
    });
  }

  async #authorized(path: string, headers: Record<string, string>, signal: AbortSignal | undefined) {
    const url = new URL(`v2/${this.#name.repository}/${path}`, await this.#address(signal));
    const used = this.#authorization;
    const response = await this.#follow(url, headers, signal);
    if (response.statusCode !== 401) {
      if (response.statusCode !== 403) return response;
      throw noAccess(this.#name, `answered 403${await reason(response, this.#options.limits)}`);
    }
    response.destroy();
    // Somebody else's request may have got a token meanwhile; ours may have expired.
    if (this.#authorization === used) this.#authorization = await this.#authorize(response, url, signal);
    const again = await this.#follow(url, headers, signal);
    if (again.statusCode !== 401 && again.statusCode !== 403) return again;
    this.#authorization = null;
    throw noAccess(this.#name, `answered ${again.statusCode}${await reason(again, this.#options.limits)}`);
  }

  #authorize(response: IncomingMessage, base: URL, signal: AbortSignal | undefined): Promise<string> {
    const { env, limits } = this.#options;
    const context: AuthContext = {
      base,
      registry: this.#name.registry,
      scope: `repository:${this.#name.repository}:pull`,
      credentials: () => findCredentials(this.#name, env),
      env,
      limits,
      signal,
    };
    return authorize(response.headers['www-authenticate'] ?? '', context);
  }

  async #follow(
    start: URL,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    const { env, limits } = this.#options;
    let url = start;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      // The secret is for the registry alone: its blob stores have addresses that speak for themselves.
      const secret = url.origin === start.origin && this.#authorization !== null;
      const authorization: Record<string, string> = secret ? { authorization: String(this.#authorization) } : {};
      const response = await exchange({ url, headers: { ...headers, ...authorization }, env, limits, signal });
      const { location } = response.headers;
      if (![301, 302, 303, 307, 308].includes(response.statusCode ?? 0) || location === undefined) {
        // Another host's wish for authentication is not one that we have secrets for.
        if (url.origin === start.origin || response.statusCode !== 401) return response;
        response.destroy();
        throw new NetworkError(`${shown(url.host)}, to which it redirects, answered 401`, true);
      }
      response.destroy();
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

/** What a registry says of its refusal: the code of its first error, which is a word. */
async function reason(response: IncomingMessage, limits: RegistryLimits): Promise<string> {
  let text = '';
  try {
    for await (const chunk of bodyOf(response, limits)) {
      text += Buffer.from(chunk).toString('latin1');
      if (text.length > 65_536) return '';
    }
    const code: unknown = JSON.parse(text).errors[0].code;
    return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? ` (${code})` : '';
  } catch {
    return '';
  }
}

/** Milliseconds; the header has seconds or a date (RFC 9110, 10.2.3). */
function retryAfter(header: string | undefined): number {
  if (header === undefined) return 0;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? 0 : Math.max(0, date - Date.now());
}
