import type { ServerOptions as HttpOptions, IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { AtomaError, usageError } from '../core/errors.ts';
import type { Broker } from './broker.ts';
import { type BrokerResponse, handleBrokerRequest, refusalResponse } from './handler.ts';
import { REQUEST_LIMIT } from './protocol.ts';
import { refusal } from './refusal.ts';

export interface ServeOptions {
  /** Default: loopback. */
  host?: string;
  /** 0 (the default) takes a free one. */
  port?: number;
  /** Milliseconds for headers, and for the whole request. */
  headersTimeout?: number;
  requestTimeout?: number;
  maxConnections?: number;
  /** PEM: serves HTTPS. */
  tls?: { cert: Buffer; key: Buffer };
}

export interface BrokerServer {
  url: string;
  /** How many are open now. */
  connections(): number;
  close(): Promise<void>;
}

/**
 * Serves a broker over HTTP/1.1 or HTTPS, one request for each connection. Shares are encrypted to the enclave, so TLS is not what
 * protects them. Connections beyond the cap push out the oldest that has not sent its request yet: half-open ones,
 * however many, cost an honest client nothing. Throws `ERR_BROKER_LISTEN` (exit 1), `ERR_BROKER_TLS` (exit 2).
 */
export async function serveBroker(broker: Broker, options: ServeOptions = {}): Promise<BrokerServer> {
  const {
    host = '127.0.0.1',
    port = 0,
    headersTimeout = 5000,
    requestTimeout = 15_000,
    maxConnections = 512,
  } = options;
  // By address: a request's socket is the TLS layer's, a connection's the one beneath.
  const waiting = new Map<string, Socket>();
  const limits = {
    headersTimeout,
    requestTimeout,
    connectionsCheckingInterval: Math.min(1000, headersTimeout),
    maxHeaderSize: 8192,
    keepAlive: false,
  };
  const server = await createServer(limits, options.tls, (request, response) => {
    void answer(broker, request, response, () => waiting.delete(address(request.socket)));
  });
  // Requests in a row on one connection would each take a nonce and be answered once.
  server.maxRequestsPerSocket = 1;
  let open = 0;
  server.on('connection', (socket) => {
    const from = address(socket);
    open += 1;
    waiting.set(from, socket);
    socket.on('close', () => {
      open -= 1;
      if (waiting.get(from) === socket) waiting.delete(from);
    });
    socket.on('error', () => socket.destroy());
    if (open <= maxConnections) return;
    const [[first, oldest] = [from, socket]] = waiting;
    // Out of the list now: its close event comes later, and the next connection must push out another.
    waiting.delete(first);
    oldest.destroy();
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const status = error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : '400 Bad Request';
    // Whoever does not get through TLS would not understand an answer.
    const spoken = /^(HPE_|ERR_HTTP_)/.test(error.code ?? '');
    if (socket.writable && spoken) socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
    else socket.destroy();
  });
  await listen(server, host, port);
  const { port: bound } = server.address() as AddressInfo;
  return {
    url: `http${options.tls ? 's' : ''}://${host.includes(':') ? `[${host}]` : host}:${bound}`,
    connections: () => open,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

const address = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

/** Throws `ERR_BROKER_TLS` (exit 2). */
async function createServer(limits: HttpOptions, tls: ServeOptions['tls'], handler: RequestListener): Promise<Server> {
  if (tls === undefined) return (await import('node:http')).createServer(limits, handler);
  const https = await import('node:https');
  try {
    return https.createServer({ ...limits, ...tls, handshakeTimeout: limits.headersTimeout }, handler);
  } catch (cause) {
    throw usageError('ERR_BROKER_TLS', 'expected a certificate and its key in PEM for TLS, found something else', {
      cause,
    });
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new AtomaError('unexpected', 'ERR_BROKER_LISTEN', `cannot listen on ${host}:${port}: ${error.code}`, {
          cause: error,
          hint: 'choose another address with --listen HOST:PORT',
        }),
      ),
    );
    server.listen({ port, host, backlog: 4096 }, resolve);
  });
}

async function answer(broker: Broker, request: IncomingMessage, response: ServerResponse, onBody: () => void) {
  let result: BrokerResponse;
  try {
    const body = await readBody(request);
    onBody();
    const path = (request.url ?? '').split('?', 1)[0] ?? '';
    result = await handleBrokerRequest(broker, request.method ?? '', path, body);
  } catch (error) {
    result = refusalResponse(error);
  }
  if (response.destroyed) return;
  response.on('error', () => {});
  response.writeHead(result.status, {
    'Content-Type': result.contentType,
    'Content-Length': result.body.length,
    'Cache-Control': 'no-store',
    Connection: 'close',
  });
  response.end(result.body);
  if (request.complete) return;
  // Somebody is still sending what is refused already. Time to read the refusal, then the connection goes.
  request.resume();
  setTimeout(() => request.destroy(), 1000).unref();
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const tooLarge = () => refusal('ERR_RELEASE_TOO_LARGE', 'size', `at most ${REQUEST_LIMIT} bytes`, 'more');
  if (Number(request.headers['content-length'] ?? 0) > REQUEST_LIMIT) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > REQUEST_LIMIT) {
        request.pause();
        reject(tooLarge());
      } else chunks.push(chunk);
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', reject);
    request.on('close', () => reject(new Error('the request was cut off')));
  });
}
