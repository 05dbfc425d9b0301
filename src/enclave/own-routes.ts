import { fromHex } from '../core/bytes.ts';
import { jsonError, type Response } from './http2.ts';
import { RequestError } from './infer-request.ts';

/** What every enclave answers itself, whatever it serves; and the headers around an answer with a receipt. */

export const ATTESTATION_PATH = '/.well-known/attestation';
/** Fresh evidence per second, and how many may come at once: a quote costs the TEE more than it costs to ask. */
const EVIDENCE_RATE = { perSecond: 2, burst: 10 };

/** Answers `GET /.well-known/attestation[?nonce=HEX]`: boot evidence, or fresh evidence over the nonce. */
export function attestationRoute(evidenceFile: (nonce?: Uint8Array) => Promise<Buffer>) {
  const bucket = tokenBucket(EVIDENCE_RATE);
  return async (query: URLSearchParams): Promise<Response> => {
    const text = query.get('nonce');
    const nonce = text === null ? undefined : fromHex(text);
    if (nonce === null || (nonce !== undefined && (nonce.length < 16 || nonce.length > 64))) {
      return jsonError(400, 'expected a nonce of 16 to 64 bytes in hex');
    }
    if (nonce !== undefined && !bucket()) return jsonError(429, 'too many requests for fresh evidence');
    return json(await evidenceFile(nonce));
  };
}

export const json = (body: Buffer | object): Response => ({
  status: 200,
  headers: { 'content-type': 'application/json' },
  body: Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body)),
});

/** The caller's nonce for the receipt. Throws a `RequestError`. */
export function readNonce(header: string | string[] | undefined): Uint8Array | undefined {
  if (header === undefined) return undefined;
  const nonce = typeof header === 'string' ? fromHex(header) : null;
  if (nonce === null || nonce.length < 8 || nonce.length > 64) {
    throw new RequestError(400, 'atoma-nonce: expected 8 to 64 bytes in hex');
  }
  return nonce;
}

/** A byte sequence of RFC 8941 section 3.3.5. */
export const receiptHeader = (receipt: Uint8Array): string => `:${Buffer.from(receipt).toString('base64')}:`;

/** Milliseconds (W3C Server Timing): the work itself, and the whole request from its last byte to its receipt. */
export const timingHeader = (name: string, milliseconds: number, received: number): string =>
  `${name};dur=${milliseconds.toFixed(3)}, total;dur=${(performance.now() - received).toFixed(3)}`;

/** True while there is a token to take. */
function tokenBucket({ perSecond, burst }: { perSecond: number; burst: number }): () => boolean {
  let tokens = burst;
  let last = performance.now();
  return () => {
    const now = performance.now();
    tokens = Math.min(burst, tokens + ((now - last) / 1000) * perSecond);
    last = now;
    if (tokens < 1) return false;
    tokens -= 1;
    return true;
  };
}
