import { request as httpRequest, type IncomingMessage } from 'node:http';
import { performance } from 'node:perf_hooks';
import { type Handler, jsonError, type Request, type Response } from './http2.ts';
import { RequestError } from './infer-request.ts';
import { ATTESTATION_PATH, attestationRoute, readNonce, receiptHeader, timingHeader } from './own-routes.ts';
import type { Answered } from './receipts.ts';

export interface CommandServerParts {
  /** Of the command, on our loopback. */
  port: number;
  sign: (answered: Answered) => Uint8Array;
  evidenceFile: (nonce?: Uint8Array) => Promise<Buffer>;
  /** For an answer to be there, whole. */
  timeoutMs?: number;
  /** Of an answer, in bytes. */
  maxReply?: number;
}

/** Of one connection (RFC 9110 section 7.6.1), or the proxy's own to say. */
const NOT_FORWARDED = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate', 'proxy-authorization', 'te', 'trailer'],
  ...['transfer-encoding', 'upgrade', 'http2-settings', 'host', 'content-length', 'expect', 'server-timing'],
]);
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const TIMEOUT_MS = 110_000;
const MAX_REPLY = 64 << 20;

/**
 * Serves what the command serves on its loopback port: requests are handed on as they are, answers come back with a
 * receipt over the exact bytes of both where they are answers to a POST (2xx). The program never gets a request for the
 * enclave's evidence, and can put no receipt into an answer.
 */
export function createCommandServer({ sign, evidenceFile, ...parts }: CommandServerParts): Handler {
  const { port, timeoutMs = TIMEOUT_MS, maxReply = MAX_REPLY } = parts;
  const attestation = attestationRoute(evidenceFile);

  const forward = async (request: Request): Promise<Response> => {
    const received = performance.now();
    const nonce = readNonce(request.headers['atoma-nonce']);
    const { status, headers, body } = await askCommand(port, request, { timeoutMs, maxReply });
    const executionTimeMs = performance.now() - received;
    const signed = request.method === 'POST' && status >= 200 && status < 300;
    const receipt = signed ? sign({ request: request.body, response: body, executionTimeMs, nonce }) : undefined;
    return {
      status,
      headers: {
        ...headers,
        ...(receipt === undefined ? {} : { 'atoma-receipt': receiptHeader(receipt) }),
        'server-timing': timingHeader('program', executionTimeMs, received),
      },
      body,
    };
  };

  return async (request) => {
    const [pathname = '', query] = request.path.split('?', 2);
    if (!METHODS.has(request.method))
      return jsonError(405, `expected another method than ${request.method.slice(0, 40)}`);
    if (isOwn(pathname)) {
      if (pathname !== ATTESTATION_PATH) return jsonError(404, `expected ${ATTESTATION_PATH}`);
      if (request.method !== 'GET') return jsonError(405, `expected GET, found ${request.method}`);
      return attestation(new URLSearchParams(query));
    }
    if (!/^\/[\x21-\x7e]*$/.test(request.path))
      return jsonError(400, 'expected a path of printable ASCII from the root');
    try {
      return await forward(request);
    } catch (error) {
      if (error instanceof RequestError) return jsonError(error.status, error.message);
      return jsonError(500, 'internal error');
    }
  };
}

/** However it is written: a server that decodes or tidies paths must not be asked for what looks like evidence. */
function isOwn(pathname: string): boolean {
  let path = pathname;
  try {
    path = decodeURIComponent(pathname);
  } catch {
    // Then nobody decodes it to ours.
  }
  const tidy = new URL(`http://x${path.replace(/[\\/]+/g, '/').replace(/^(?!\/)/, '/')}`).pathname.toLowerCase();
  return tidy === ATTESTATION_PATH || tidy.startsWith(`${ATTESTATION_PATH}/`);
}

interface Answer {
  status: number;
  headers: Record<string, string | string[]>;
  body: Buffer;
}

/** One request to the program and its whole answer. Rejects with a `RequestError`: 502 or 504. */
export function askCommand(
  port: number,
  request: Request,
  limits: { timeoutMs: number; maxReply: number },
): Promise<Answer> {
  const { method, path, body } = request;
  const headers = { ...forwarded(request.headers), host: `127.0.0.1:${port}`, 'content-length': String(body.length) };
  return new Promise((resolve, reject) => {
    const asked = httpRequest({ host: '127.0.0.1', port, method, path, headers, agent: false }, (reply) => {
      collect(reply, limits.maxReply)
        .then((bytes) => resolve(readAnswer(reply, bytes)))
        .catch(fail);
    });
    const deadline = setTimeout(
      () => fail(new RequestError(504, `the program gave no whole answer within ${limits.timeoutMs} ms`)),
      limits.timeoutMs,
    );
    function fail(error: unknown): void {
      clearTimeout(deadline);
      asked.destroy();
      reject(error instanceof RequestError ? error : new RequestError(502, 'the program did not answer'));
    }
    asked.on('error', fail);
    asked.on('upgrade', (_reply, socket) => {
      socket.destroy();
      fail(new RequestError(502, 'the program wants to change the protocol'));
    });
    asked.on('close', () => clearTimeout(deadline));
    asked.end(body);
  });
}

/** Statuses whose answers have no content (RFC 9110): what a program sends all the same reaches nobody, so nothing is signed for it. */
const WITHOUT_CONTENT = new Set([204, 205, 304]);
/** Names and values: with a receipt it must fit into what either end of the channel takes (`SETTINGS` of http2.ts). */
const MAX_HEADERS = 12 << 10;

/** Throws a `RequestError` for what HTTP/2 cannot carry: the caller shall hear why. */
function readAnswer(reply: IncomingMessage, body: Buffer): Answer {
  const { statusCode: status = 0 } = reply;
  if (status < 200 || status > 599) throw new RequestError(502, `the program answered with the status ${status}`);
  const headers = forwarded(reply.headers);
  const length = Object.entries(headers)
    .flatMap(([name, values]) => [values].flat().map((value) => name.length + value.length + FIELD_OVERHEAD))
    .reduce((sum, field) => sum + field, 0);
  if (length > MAX_HEADERS)
    throw new RequestError(502, `the program's answer has more than ${MAX_HEADERS} bytes of headers`);
  return { status, headers, body: WITHOUT_CONTENT.has(status) ? Buffer.alloc(0) : body };
}
/** Of a field's size, as HTTP/2 counts it (RFC 9113 section 6.5.2). */
const FIELD_OVERHEAD = 32;

async function collect(reply: IncomingMessage, most: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of reply as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > most) throw new RequestError(502, `the program's answer has more than ${most} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Without what is one connection's, what `connection` names, and what only an enclave may say. */
function forwarded(headers: NodeJS.Dict<string | string[]>): Record<string, string | string[]> {
  const named = new Set(
    String(headers.connection ?? '')
      .toLowerCase()
      .split(/[,\s]+/),
  );
  const kept = Object.entries(headers).filter(
    ([name, value]) =>
      value !== undefined &&
      !name.startsWith(':') &&
      !name.startsWith('atoma-') &&
      !NOT_FORWARDED.has(name) &&
      !named.has(name),
  );
  return Object.fromEntries(kept) as Record<string, string | string[]>;
}
