import { Agent as HttpAgent, get as httpGet, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, get as httpsGet } from 'node:https';
import { missingError } from '../core/errors.ts';

const IDLE_MS = 30_000;
const MAX_REDIRECTS = 5;
const ATTEMPTS = 3;

/** What the server has that we asked for, or that it has not got it. */
export type HttpResult = { status: 'found'; body: IncomingMessage } | { status: 'gone' };

/**
 * GET over HTTP or HTTPS, through the proxy that http_proxy, https_proxy and no_proxy name. Integrity is the caller's:
 * everything is compared with a digest. 404 and 410 are "gone"; anything else that is not 200 throws
 * `ERR_INPUT_FETCH` (exit 5), after three attempts where trying again can help.
 */
export async function httpRequest(url: string, signal?: AbortSignal): Promise<HttpResult> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await follow(new URL(url), signal);
    } catch (error) {
      if (signal?.aborted || attempt === ATTEMPTS || (error as HttpError).permanent) {
        const why = (error as NodeJS.ErrnoException).code ?? (error instanceof Error ? error.message : String(error));
        throw missingError('ERR_INPUT_FETCH', `cannot fetch ${url}: ${why}`, {
          cause: error,
          hint: 'check the network and the mirror, or name another with ATOMA_TEE_DEBIAN_MIRROR',
        });
      }
      await new Promise((resolve) => setTimeout(resolve, 200 * attempt));
    }
  }
}

class HttpError extends Error {
  readonly permanent: boolean;
  constructor(message: string, permanent: boolean) {
    super(message);
    this.permanent = permanent;
  }
}

async function follow(start: URL, signal: AbortSignal | undefined): Promise<HttpResult> {
  let url = start;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const response = await once(url, signal);
    const status = response.statusCode ?? 0;
    if (status === 200) return { status: 'found', body: response };
    response.resume();
    if (status === 404 || status === 410) return { status: 'gone' };
    const location = response.headers.location;
    if (status < 300 || status >= 400 || location === undefined)
      throw new HttpError(`the server answered ${status}`, status < 500);
    const next = new URL(location, url);
    if (url.protocol === 'https:' && next.protocol !== 'https:')
      throw new HttpError('redirected from https to http', true);
    url = next;
  }
  throw new HttpError('redirected too often', true);
}

const agentOptions = { keepAlive: false, proxyEnv: process.env };

function once(url: URL, signal: AbortSignal | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const options = { headers: { 'user-agent': 'atoma-tee' }, timeout: IDLE_MS, ...(signal ? { signal } : {}) };
    const request =
      url.protocol === 'https:'
        ? httpsGet(url, { ...options, agent: new HttpsAgent(agentOptions) }, resolve)
        : url.protocol === 'http:'
          ? httpGet(url, { ...options, agent: new HttpAgent(agentOptions) }, resolve)
          : null;
    if (request === null) return reject(new HttpError(`cannot fetch by ${url.protocol}`, true));
    request.on('timeout', () => request.destroy(new HttpError('no answer for 30 seconds', false)));
    request.on('error', reject);
  });
}
