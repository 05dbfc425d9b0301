/**
 * HTTP/2 over any byte stream, for both ends of the channel between an enclave and its host: bounded calls, and a
 * server whose requests are whole before they are handled. The peer is hostile either way.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream';

/** Large frames and windows: sealed models of many gigabytes go through here. */
export const SETTINGS = {
  enablePush: false,
  maxFrameSize: 1 << 20,
  initialWindowSize: 8 << 20,
  maxConcurrentStreams: 128,
  maxHeaderListSize: 16 << 10,
};
/** Of the whole session: above the sum of what two busy streams can have in flight. */
export const SESSION_WINDOW = 16 << 20;

export interface Request {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface Response {
  status: number;
  headers: Record<string, string | string[]>;
  /** Bytes, or a stream of known length (its `content-length` is in the headers). */
  body: Uint8Array | Readable;
}

export type Handler = (request: Request) => Promise<Response>;

export interface Limits {
  /** Of one request body. */
  maxBody: number;
  /** Of all bodies in memory at once; beyond it: 503. */
  maxBuffered: number;
  /** For a body to arrive, and for a response to be taken. */
  timeoutMs: number;
}

/** What the two ends put in `{"error": ...}`. */
export const jsonError = (status: number, error: string): Response => ({
  status,
  headers: { 'content-type': 'application/json' },
  body: Buffer.from(JSON.stringify({ error })),
});

/**
 * Answers the requests of a session. Streams on `takeover` paths are handed over as they are instead. A handler that
 * throws is a 500 without details; nothing that a peer sends ends the process.
 */
export function serveSession(
  session: ServerHttp2Session,
  handler: Handler,
  limits: Limits,
  takeover: Record<string, (stream: ServerHttp2Stream) => void> = {},
): void {
  const budget = { used: 0 };
  session.on('error', () => session.destroy());
  session.setLocalWindowSize(SESSION_WINDOW);
  session.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    const path = headers[':path'] ?? '';
    const takes = Object.hasOwn(takeover, path) ? takeover[path] : undefined;
    if (takes !== undefined) {
      takes(stream);
      return;
    }
    stream.setTimeout(limits.timeoutMs, () => stream.close(constants.NGHTTP2_CANCEL));
    void answer(stream, headers, path);
  });

  async function answer(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, path: string): Promise<void> {
    let response: Response;
    const body = await readBody(stream, headers, limits, budget);
    try {
      response =
        'status' in body ? body : await handler({ method: headers[':method'] ?? '', path, headers, body: body.bytes });
    } catch {
      response = jsonError(500, 'internal error');
    } finally {
      if ('bytes' in body) budget.used -= body.bytes.length;
    }
    try {
      respond(stream, response);
    } catch {
      // A status that HTTP/2 has not, from a broker that the host forwards for.
      stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    }
  }
}

type Body = { bytes: Buffer } | Response;

async function readBody(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { maxBody, maxBuffered, timeoutMs }: Limits,
  budget: { used: number },
): Promise<Body> {
  const tooLarge = () => jsonError(413, `expected a body of at most ${maxBody} bytes`);
  if (Number(headers['content-length'] ?? 0) > maxBody) return tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  let refused: Response | undefined;
  // `setTimeout` of a stream is about idleness; this is about the whole body, so that a slow drip ends too.
  const deadline = setTimeout(() => {
    refused = jsonError(408, `expected the whole body within ${timeoutMs} ms`);
    stream.emit('aborted');
  }, timeoutMs);
  try {
    await new Promise<void>((resolve) => {
      stream.on('data', (chunk: Buffer) => {
        if (refused !== undefined) return;
        length += chunk.length;
        budget.used += chunk.length;
        if (length > maxBody) refused = tooLarge();
        else if (budget.used > maxBuffered) refused = jsonError(503, 'too many requests at once; try again');
        if (refused === undefined) chunks.push(chunk);
        else resolve();
      });
      for (const event of ['end', 'close', 'aborted', 'error']) stream.once(event, () => resolve());
    });
  } finally {
    clearTimeout(deadline);
  }
  if (refused === undefined && stream.destroyed) refused = jsonError(400, 'the request was cut off');
  if (refused === undefined) return { bytes: Buffer.concat(chunks) };
  budget.used -= length;
  return refused;
}

function respond(stream: ServerHttp2Stream, { status, headers, body }: Response): void {
  if (stream.destroyed || stream.closed) return;
  stream.respond({
    ':status': status,
    ...(body instanceof Uint8Array ? { 'content-length': body.length } : {}),
    ...headers,
  });
  if (!(body instanceof Uint8Array)) {
    pipeline(body, stream, () => {});
    return;
  }
  stream.end(body);
  // Whatever is left of a request that was refused early is not wanted.
  if (!stream.readableEnded) stream.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR));
}

export interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface CallOptions {
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: Uint8Array;
  maxReply?: number;
  timeoutMs?: number;
}

/** One request and its whole reply. Rejects where the session ends, the reply is too long or too late. */
export function call(session: ClientHttp2Session, options: CallOptions): Promise<Reply> {
  const { method, path, headers = {}, body, maxReply = 64 << 20, timeoutMs = 60_000 } = options;
  return new Promise((resolve, reject) => {
    const request = session.request(
      { ':method': method, ':path': path, ...headers },
      { endStream: body === undefined },
    );
    const chunks: Buffer[] = [];
    let length = 0;
    let reply: IncomingHttpHeaders | undefined;
    const fail = (why: string) => {
      request.close(constants.NGHTTP2_CANCEL);
      reject(new Error(`${method} ${path}: ${why}`));
    };
    request.setTimeout(timeoutMs, () => fail(`no answer within ${timeoutMs} ms`));
    request.on('response', (head) => {
      reply = head;
    });
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > maxReply) fail(`expected an answer of at most ${maxReply} bytes`);
      else chunks.push(chunk);
    });
    request.on('error', (error) => reject(error));
    request.on('close', () => reject(new Error(`${method} ${path}: the peer ended the stream`)));
    request.on('end', () => {
      if (reply === undefined) fail('no answer');
      else resolve({ status: Number(reply[':status']), headers: reply, body: Buffer.concat(chunks) });
    });
    if (body !== undefined) request.end(body);
  });
}

/**
 * Fills the memory that it is given; false where the stream ends before. One reader at a time. Chunks are copied as they come: to have the
 * stream gather a megabyte costs a new one each time, and the garbage collector with it.
 */
export function exactReader(stream: ClientHttp2Stream): (into: Uint8Array) => Promise<boolean> {
  const chunks: Buffer[] = [];
  let ended = false;
  let wake = () => {};
  stream.pause();
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    wake();
  });
  for (const event of ['end', 'close', 'error']) {
    stream.on(event, () => {
      ended = true;
      wake();
    });
  }
  return async (into) => {
    for (let at = 0; at < into.length; ) {
      const chunk = chunks.shift();
      if (chunk === undefined) {
        if (ended) return false;
        const more = new Promise<void>((resolve) => {
          wake = resolve;
        });
        stream.resume();
        await more;
        continue;
      }
      const run = chunk.subarray(0, into.length - at);
      into.set(run, at);
      at += run.length;
      if (run.length < chunk.length) chunks.unshift(chunk.subarray(run.length));
    }
    stream.pause();
    return true;
  };
}
