import { AtomaError } from '../core/errors.ts';
import type { Broker } from './broker.ts';
import { encodeChallenge, encodeEpochs } from './protocol.ts';
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
  ERR_RELEASE_FULL: 507,
};

const ROUTES: Record<string, string> = Object.assign(Object.create(null), {
  '/v1/challenge': 'POST',
  '/v1/release': 'POST',
  '/v1/epochs': 'PUT',
});

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
    const expected = ROUTES[path];
    if (expected === undefined) {
      throw refusal('ERR_RELEASE_ROUTE', 'route', Object.keys(ROUTES).join(' or '), 'another path');
    }
    if (method !== expected) throw refusal('ERR_RELEASE_METHOD', 'method', expected, 'another method');
    if (path === '/v1/challenge') return json(encodeChallenge(await broker.challenge()));
    if (path === '/v1/epochs') return json(encodeEpochs(await broker.advance(body)));
    return { status: 200, contentType: 'application/cbor', body: await broker.release(body) };
  } catch (error) {
    return refusalResponse(error);
  }
}

const json = (body: Uint8Array): BrokerResponse => ({ status: 200, contentType: 'application/json', body });

/** The response that says why not. */
export function refusalResponse(error: unknown): BrokerResponse {
  const refused = error instanceof AtomaError && error.exitCode === 4;
  const status = refused ? (STATUS[error.code] ?? 403) : 500;
  return { status, contentType: 'application/json', body: encodeRefusal(error) };
}
