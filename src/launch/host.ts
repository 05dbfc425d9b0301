import { type FileHandle, open } from 'node:fs/promises';
import { type ClientHttp2Session, connect, performServerHandshake, type ServerHttp2Stream } from 'node:http2';
import { type Duplex, Readable } from 'node:stream';
import type { SimulatedAttester } from '../attest/simulated-attester.ts';
import { decodeCbor } from '../core/cbor.ts';
import { AtomaError, EXIT } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { type Handler, jsonError, type Request, type Response, SETTINGS, serveSession } from '../enclave/http2.ts';

/** Sends a request to one broker: `path` is `/v1/challenge` or `/v1/release`. */
export type BrokerPost = (path: string, body: Uint8Array) => Promise<{ status: number; body: Uint8Array }>;

/** What the host does for an enclave. It is trusted with none of it. */
export interface HostServices {
  /** The sealed model's path. */
  model: string;
  /** The brokers that requests are forwarded to, and no others. */
  brokers: BrokerPost[];
  /** Milliseconds from its connection to its serving; asked once the image has been judged. Default: no limit. */
  readyWithin?: () => number;
}

/** The host's end of a live channel. */
export interface HostChannel {
  /** Resolves with the session for requests to the enclave, and how long each step took inside, once it serves. */
  ready: Promise<{ session: ClientHttp2Session; timings: Record<string, number> }>;
  close(): Promise<void>;
}

const LIMITS = { maxBody: 2 << 20, maxBuffered: 16 << 20, timeoutMs: 120_000 };
/** Of the sealed model, read at once. */
const CHUNK = 1 << 20;

/**
 * Serves an enclave over one byte stream (key-release.md, "Serving"): HTTP/2, the enclave being the client.
 *
 *     POST /attest          dCBOR {"user_data", "nonce", "public_key"} -> evidence, from the simulated attester, where there is one
 *     POST /attest/lock     no further release to this launch
 *     HEAD, GET /model      the sealed model; `range: bytes=N-`
 *     POST /brokers         how many brokers there are
 *     POST /broker/N/v1/... forwarded to the Nth broker; 502 where it cannot be reached
 *     POST /status          JSON: {"state": "ready", "timings"} or {"state": "failed", "error"}
 *     POST /serve           becomes a byte stream that carries a second session with the roles reversed
 */
export async function serveEnclave(
  stream: Duplex,
  services: HostServices,
  attester: SimulatedAttester | undefined,
): Promise<HostChannel> {
  const model = await open(services.model, 'r').catch((error) => {
    throw ioError(error, `cannot read the sealed model ${services.model}`);
  });
  const { size } = await model.stat();
  const session = performServerHandshake(stream, { settings: SETTINGS });
  let timings: Record<string, number> = {};
  let inner: ClientHttp2Session | undefined;
  const ready = Promise.withResolvers<{ session: ClientHttp2Session; timings: Record<string, number> }>();
  ready.promise.catch(() => {});

  const routes: Record<string, (request: Request) => Promise<Response> | Response> = {
    // Where hardware vouches, nobody else does.
    ...(attester && {
      'POST /attest': async ({ body }: Request) => bytes(await attester.attest(parseAttest(body))),
      'POST /attest/lock': () => {
        attester.lockRelease();
        return { status: 204, headers: {}, body: Buffer.alloc(0) };
      },
    }),
    'POST /brokers': () => bytes(Buffer.from(String(services.brokers.length))),
    'HEAD /model': () => ({ status: 200, headers: { 'content-length': String(size) }, body: Buffer.alloc(0) }),
    'GET /model': ({ headers }) => {
      const start = Number(/^bytes=([0-9]{1,15})-$/.exec(headers.range ?? '')?.[1] ?? Number.NaN);
      if (!(start < size)) return jsonError(416, 'expected a range within the file');
      const body = Readable.from(readFrom(model, start, size), { objectMode: false, highWaterMark: CHUNK });
      return { status: 206, headers: { 'content-length': String(size - start) }, body };
    },
    'POST /status': ({ body }) => {
      const status = parseStatus(body);
      if (status instanceof Error) ready.reject(status);
      else timings = status;
      return { status: 204, headers: {}, body: Buffer.alloc(0) };
    },
  };

  const handler: Handler = async (request) => {
    const route = routes[`${request.method} ${request.path}`];
    if (route !== undefined) return route(request);
    const [, index, path] = /^\/broker\/([0-9]{1,3})(\/v1\/(?:challenge|release))$/.exec(request.path) ?? [];
    const post = index === undefined ? undefined : services.brokers[Number(index)];
    if (request.method !== 'POST' || path === undefined || post === undefined) return jsonError(404, 'not found');
    try {
      const reply = await post(path, request.body);
      return { ...bytes(reply.body), status: reply.status };
    } catch (error) {
      return { ...bytes(Buffer.from(error instanceof Error ? error.message : 'no connection')), status: 502 };
    }
  };

  const serve = (tunnel: ServerHttp2Stream) => {
    if (inner !== undefined) return tunnel.close();
    tunnel.respond({ ':status': 200 });
    inner = connect('http://enclave', { createConnection: () => tunnel, settings: SETTINGS });
    inner.on('error', () => {});
    ready.resolve({ session: inner, timings });
  };
  serveSession(session, handler, LIMITS, { '/serve': serve });
  session.on('close', () => ready.reject(new AtomaError('unexpected', 'ERR_ENCLAVE_ENDED', 'the enclave hung up')));
  return {
    ready: ready.promise,
    async close() {
      inner?.destroy();
      session.destroy();
      await model.close();
    },
  };
}

/** Not a ReadStream: destroying one closes the handle that others share. */
async function* readFrom(file: FileHandle, start: number, end: number): AsyncGenerator<Buffer> {
  for (let at = start; at < end; ) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(Math.min(CHUNK, end - at)), 0, null, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

const bytes = (body: Uint8Array): Response => ({
  status: 200,
  headers: { 'content-type': 'application/octet-stream' },
  body,
});

function parseAttest(body: Uint8Array): Parameters<SimulatedAttester['attest']>[0] {
  const map = decodeCbor(body, { what: 'attestation request', maxBytes: 4096 });
  const field = (name: string) => {
    const value = map instanceof Map ? map.get(name) : undefined;
    return value instanceof Uint8Array ? value : undefined;
  };
  const [userData, nonce, publicKey] = ['user_data', 'nonce', 'public_key'].map(field);
  return { ...(userData && { userData }), ...(nonce && { nonce }), ...(publicKey && { publicKey }) };
}

/** The program's own word about itself: times, or the error that it ends with. Hostile like everything from inside. */
function parseStatus(body: Uint8Array): Record<string, number> | AtomaError {
  const status = JSON.parse(Buffer.from(body).toString('utf8')) as {
    state?: unknown;
    timings?: Record<string, unknown>;
    error?: { exit?: unknown; code?: unknown; message?: unknown; hint?: unknown; details?: unknown };
  };
  if (status.state === 'ready') {
    const entries = Object.entries(status.timings ?? {}).filter(([, ms]) => typeof ms === 'number');
    return Object.fromEntries(entries.slice(0, 20).map(([name, ms]) => [printable(name), ms])) as Record<
      string,
      number
    >;
  }
  const { exit, code, message, hint, details } = status.error ?? {};
  return new AtomaError(
    typeof exit === 'string' && Object.hasOwn(EXIT, exit) ? (exit as keyof typeof EXIT) : 'unexpected',
    typeof code === 'string' && /^ERR_[A-Z0-9_]{1,60}$/.test(code) ? (code as `ERR_${string}`) : 'ERR_ENCLAVE_FAILED',
    typeof message === 'string' ? printable(message) : 'the enclave failed without saying why',
    {
      ...(typeof hint === 'string' ? { hint: printable(hint) } : {}),
      ...(isDetails(details) ? { details } : {}),
    },
  );
}

const MOST_DETAILS = 16 << 10;
/** Structured facts, as JSON has them; beyond a size they are none. `console` is what launchers call their own log of it. */
function isDetails(value: unknown): value is Record<string, unknown> {
  if (value === null || typeof value !== 'object' || Array.isArray(value) || Object.hasOwn(value, 'console'))
    return false;
  return JSON.stringify(value).length <= MOST_DETAILS;
}

/** No control characters of somebody else's on our terminal. */
const printable = (text: string): string => text.slice(0, 2000).replace(/\p{Cc}+/gu, ' ');
