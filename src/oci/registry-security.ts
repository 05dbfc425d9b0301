import { isIPv4 } from 'node:net';
import { negativeError } from '../core/errors.ts';
import { shown } from './json.ts';

export const INSECURE_VARIABLE = 'ATOMA_TEE_INSECURE_REGISTRIES';

/** A host name of this machine's own loopback, as URL's `hostname` gives it. */
export const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || (isIPv4(hostname) && hostname.startsWith('127.'));

/** Registries (HOST[:PORT], by commas or blanks) to which this user allows plain HTTP. */
const listed = (env: NodeJS.ProcessEnv): string[] =>
  (env[INSECURE_VARIABLE] ?? '')
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((name) => name !== '');

/** Whether plain HTTP will do for a host: nobody is on the way to it, or the user accepts who is. */
export const plainHttpAllowed = (host: string, env: NodeJS.ProcessEnv): boolean =>
  isLoopback(new URL(`http://${host}`).hostname) || listed(env).includes(host);

/**
 * Refuses an address that a registry sends us to, unless it is https, or http where that is allowed and we come from http.
 * Throws `ERR_OCI_INSECURE` (exit 3).
 */
export function checkAddress(to: URL, from: URL, env: NodeJS.ProcessEnv): void {
  if (to.protocol === 'https:') return;
  if (to.protocol === 'http:' && from.protocol === 'http:' && plainHttpAllowed(to.host, env)) return;
  throw negativeError(
    'ERR_OCI_INSECURE',
    `the registry ${shown(from.host)} refers to ${shown(to.protocol)}//${shown(to.host)}; expected an https address`,
    { hint: `an http registry's host can be allowed in ${INSECURE_VARIABLE}; from https to http nothing can be` },
  );
}
