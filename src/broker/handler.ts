import { AtomaError } from '../core/errors.ts';
import type { Broker } from './broker.ts';
import { encodeChallenge } from './protocol.ts';
import { encodeRefusal, refusal } from './refusal.ts';

export interface BrokerResponse {
  status: number;
  contentType: 'application/json' | 'application/cbor';
  body: Uint8Array;
}

const STATUS: Record<string, number> = {
  ERR_RELEASE_REQUEST: 400,
  ERR_RELEASE_ROUTE: 404,
  ERR_RELEASE_METHOD: 405,
  ERR_RELEASE_TOO_LARGE: 413,
};

/**
 * The broker's interface without a transport: HTTP and in-process use both go through here. Never throws; anything that is
 * not a refusal becomes a 500 that says nothing.
 */
export async function handleBrokerRequest(
  broker: Broker,
  method: string,
  path: string,
  body: Uint8Array,
): Promise<BrokerResponse> {
  try {
    if (path !== '/v1/challenge' && path !== '/v1/release') {
      throw refusal('ERR_RELEASE_ROUTE', 'route', '/v1/challenge or /v1/release', 'another path');
    }
    if (method !== 'POST') throw refusal('ERR_RELEASE_METHOD', 'method', 'POST', 'another method');
    if (path === '/v1/challenge') {
      const challenge = encodeChallenge(await broker.challenge());
      return { status: 200, contentType: 'application/json', body: challenge };
    }
    return { status: 200, contentType: 'application/cbor', body: await broker.release(body) };
  } catch (error) {
    return refusalResponse(error);
  }
}

/** The response that says why not. */
export function refusalResponse(error: unknown): BrokerResponse {
  const refused = error instanceof AtomaError && error.exitCode === 4;
  const status = refused ? (STATUS[error.code] ?? 403) : 500;
  return { status, contentType: 'application/json', body: encodeRefusal(error) };
}
