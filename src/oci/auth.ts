import * as z from 'zod';
import { missingError } from '../core/errors.ts';
import { type Challenge, parseChallenges } from './auth-challenge.ts';
import { readDocument } from './blobs.ts';
import type { Credentials } from './credentials.ts';
import { readJson, shown } from './json.ts';
import { type Body, bodyFrom, bodyOf, exchange, NetworkError, type RegistryLimits } from './registry-http.ts';
import { checkAddress } from './registry-security.ts';

/** What authentication needs to know of a registry. */
export interface AuthContext {
  /** The registry's own address. */
  base: URL;
  /** "localhost:5000", for messages. */
  registry: string;
  /** What is asked for: "repository:NAME:pull". */
  scopes: string[];
  /** Ask for just that, not for what the registry says that this one request takes. */
  insist: boolean;
  credentials(): Promise<Credentials | null>;
  env: NodeJS.ProcessEnv;
  limits: RegistryLimits;
  signal?: AbortSignal | undefined;
}

const MAX_ANSWER = 1 << 20;
const MAX_TOKEN = 64 * 1024;
const answer = z.object({ token: z.string().optional(), access_token: z.string().optional() });

/**
 * The Authorization header that a WWW-Authenticate header calls for: a token (Docker Registry v2 authentication, "Token
 * Authentication Specification" and "OAuth2 Token Authentication"), or the credentials themselves. It is secret, and only
 * for the registry that asked. Throws `ERR_OCI_AUTH` (exit 5), `ERR_OCI_INSECURE` (exit 3), NetworkError.
 */
export async function authorize(header: string, context: AuthContext): Promise<string> {
  const challenges = parseChallenges(header);
  const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
  const credentials = await context.credentials();
  if (bearer) {
    if (credentials?.kind === 'access') return `Bearer ${headerSafe(credentials.token, context)}`;
    return `Bearer ${await fetchToken(bearer, credentials, context)}`;
  }
  if (challenges.some(({ scheme }) => scheme === 'basic')) {
    if (credentials?.kind === 'password') return basic(credentials);
    throw noAccess(
      context,
      credentials === null ? 'wants a password, and none is known' : 'wants a password, not a token',
    );
  }
  throw noAccess(context, 'wants an authentication that is not known');
}

const basic = ({ username, password }: { username: string; password: string }): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;

async function fetchToken(
  { params }: Challenge,
  credentials: Credentials | null,
  context: AuthContext,
): Promise<string> {
  const realm = params.get('realm') ?? '';
  if (!URL.canParse(realm)) throw noAccess(context, 'names no address that gives tokens');
  const url = new URL(realm);
  // Credentials go there: by https, or where the registry itself may be reached by http.
  checkAddress(url, context.base, context.env);
  const asked = params.get('scope');
  const scopes = asked && !context.insist ? [asked] : context.scopes;
  const service: [string, string][] = params.get('service') ? [['service', params.get('service') ?? '']] : [];
  const headers: Record<string, string> = { accept: 'application/json' };
  let form: Body | undefined;
  if (credentials?.kind === 'refresh') {
    const grant = { grant_type: 'refresh_token', refresh_token: credentials.token, client_id: 'atoma-tee' };
    // One field, where the address below has one for each.
    const fields = new URLSearchParams([...Object.entries(grant), ...service, ['scope', scopes.join(' ')]]);
    form = bodyFrom(Buffer.from(fields.toString()));
    headers['content-type'] = 'application/x-www-form-urlencoded';
  } else {
    for (const [name, value] of service) url.searchParams.append(name, value);
    for (const scope of scopes) url.searchParams.append('scope', scope);
    if (credentials?.kind === 'password') headers.authorization = basic(credentials);
  }
  const { env, limits } = context;
  const deadline = AbortSignal.timeout(limits.document);
  const signal = context.signal ? AbortSignal.any([context.signal, deadline]) : deadline;
  try {
    const response = await exchange({ url, method: form ? 'POST' : 'GET', headers, body: form, env, limits, signal });
    const status = response.statusCode ?? 0;
    if (status !== 200) {
      response.destroy();
      // No redirect is followed from here: it would take the credentials along.
      if (status === 429 || status >= 500) throw new NetworkError(`${shown(url.host)} answered ${status}`, false);
      throw noAccess(context, `gave no token: ${shown(url.host)} answered ${status}`);
    }
    const what = `the token of ${context.registry}`;
    const body = readJson(await readDocument(bodyOf(response, limits, signal), {}, MAX_ANSWER, what), answer, what);
    return headerSafe(body.token || body.access_token || '', context);
  } catch (error) {
    if (deadline.aborted && !context.signal?.aborted)
      throw new NetworkError(`no token from ${shown(url.host)} in time`, false);
    throw error;
  }
}

/** A token with a line break would be another header. */
function headerSafe(token: string, context: AuthContext): string {
  if (/^[\x21-\x7e]+$/.test(token) && token.length <= MAX_TOKEN) return token;
  throw noAccess(context, 'works with a token that cannot be one');
}

export const noAccess = ({ registry }: Pick<AuthContext, 'registry'>, why: string) =>
  missingError('ERR_OCI_AUTH', `the registry ${registry} gives no access: it ${why}`, {
    hint: `log in (docker login ${registry}, or skopeo login), and check the repository's name: registries do not tell one that is missing from one that is closed`,
    details: { registry },
  });
