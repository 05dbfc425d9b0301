import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import {
  type BrokerServer,
  type Post,
  requestRelease,
  type ServeOptions,
  serveBroker,
} from '../../../src/broker/index.ts';
import { REQUEST_LIMIT } from '../../../src/broker/protocol.ts';
import { selfSignedCertificate } from '../../../src/keys/certificate.ts';
import { generateKey } from '../../../src/keys/index.ts';
import { model, newAttester, newBroker, newOwner, seal } from './fixture.ts';

let closing: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closing.reverse()) await close();
  closing = [];
});

async function start(options: ServeOptions = {}) {
  const world = newBroker();
  const server = await serveBroker(world.broker, options);
  closing.push(() => server.close());
  return { ...world, server };
}

const postTo =
  (server: BrokerServer): Post =>
  async (path, body) => {
    const response = await fetch(`${server.url}${path}`, { method: 'POST', body: Buffer.from(body) });
    return { status: response.status, body: new Uint8Array(await response.arrayBuffer()) };
  };

const challengeStatus = async (server: BrokerServer) =>
  (await postTo(server)('/v1/challenge', new Uint8Array(0))).status;

const open = (server: BrokerServer, text = ''): Promise<Socket> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname, () => {
      socket.write(text);
      resolve(socket);
    });
    socket.on('error', () => {});
    closing.push(() => socket.destroy());
  });

/** Everything the server says on a socket until it closes. */
const readAll = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('close', () => resolve(text));
  });

describe('the broker over HTTP', () => {
  test('a thousand challenges in one packet take one nonce', async () => {
    const { server, broker } = await start();
    let issued = 0;
    const { challenge } = broker;
    broker.challenge = () => {
      issued += 1;
      return challenge.call(broker);
    };
    const one = 'POST /v1/challenge HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n';
    expect(await readAll(await open(server, one.repeat(1000)))).toMatch(/^HTTP\/1.1 200 /);
    expect(issued).toBe(1);
  });

  test('releases to the same client code', async () => {
    const { server, key } = await start();
    expect(server.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const owner = newOwner();
    const { parsed, contentKey } = await seal(owner, [key]);
    const released = await requestRelease({
      brokers: [postTo(server)],
      attester: newAttester(),
      tee: 'simulated',
      header: parsed,
      measured: { owner: owner.raw, project: 'digits', model },
    });
    expect(released).toEqual(contentKey);
  });

  test.each([
    ['GET', '/v1/challenge', 405, 'ERR_RELEASE_METHOD'],
    ['PUT', '/v1/release', 405, 'ERR_RELEASE_METHOD'],
    ['POST', '/v1/epochs', 405, 'ERR_RELEASE_METHOD'],
    ['PUT', '/v1/epochs', 403, 'ERR_RELEASE_HEADER'],
    ['PUT', '/v1/challenge', 405, 'ERR_RELEASE_METHOD'],
    ['POST', '/__proto__', 404, 'ERR_RELEASE_ROUTE'],
    ['POST', '/', 404, 'ERR_RELEASE_ROUTE'],
    ['POST', '/v1/release', 400, 'ERR_RELEASE_REQUEST'],
  ])('%s %s is %i', async (method, path, status, code) => {
    const { server } = await start();
    const response = await fetch(`${server.url}${path}`, { method, ...(method === 'GET' ? {} : { body: 'x' }) });
    expect(response.status).toBe(status);
    expect(await response.json()).toEqual({
      error: { code, rule: expect.any(String), expected: expect.any(String), found: expect.any(String) },
    });
  });

  test('an unexpected failure says nothing about itself', async () => {
    const secret = 'a path with a secret in it';
    const { broker } = newBroker({
      clock: () => {
        throw new Error(secret);
      },
    });
    const server = await serveBroker(broker);
    closing.push(() => server.close());
    const { status, body } = await postTo(server)('/v1/challenge', new Uint8Array(0));
    expect(status).toBe(500);
    expect(Buffer.from(body).toString()).toContain('ERR_BROKER_INTERNAL');
    expect(Buffer.from(body).toString()).not.toContain(secret);
  });

  test('an address in use', async () => {
    const { server, broker } = await start();
    const port = Number(new URL(server.url).port);
    await expect(serveBroker(broker, { port })).rejects.toMatchObject({ code: 'ERR_BROKER_LISTEN', exitCode: 1 });
  });
});

describe('attacks on the server', () => {
  test.each(['POST /v1/release', 'PUT /v1/epochs'])('oversized body, announced: %s', async (line) => {
    const { server } = await start();
    const head = `${line} HTTP/1.1\r\nHost: x\r\nContent-Length: ${REQUEST_LIMIT + 1}\r\n\r\n`;
    expect(await readAll(await open(server, head))).toMatch(/^HTTP\/1.1 413 [\s\S]*ERR_RELEASE_TOO_LARGE/);
    expect(await challengeStatus(server)).toBe(200);
  });

  test('oversized body, in chunks that never end', async () => {
    const { server } = await start();
    const status = await new Promise((resolve) => {
      const request = httpRequest(`${server.url}/v1/release`, { method: 'POST' }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      request.on('error', () => resolve('reset'));
      const chunk = Buffer.alloc(1 << 16);
      const write = () => {
        while (!request.destroyed && request.write(chunk)) {}
      };
      request.on('drain', write);
      write();
      closing.push(() => request.destroy());
    });
    expect([413, 'reset']).toContain(status);
    expect(await challengeStatus(server)).toBe(200);
  });

  test('slow body', async () => {
    const { server } = await start({ headersTimeout: 200, requestTimeout: 400 });
    const socket = await open(server, 'POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na');
    const drip = setInterval(() => socket.write('a'), 50);
    closing.push(() => clearInterval(drip));
    const began = Date.now();
    expect(await readAll(socket)).toMatch(/^HTTP\/1.1 408 |^$/);
    expect(Date.now() - began).toBeLessThan(3000);
    expect(await challengeStatus(server)).toBe(200);
  });

  test('slow headers', async () => {
    const { server } = await start({ headersTimeout: 200, requestTimeout: 400 });
    const socket = await open(server, 'POST /v1/challenge HTTP/1.1\r\n');
    const drip = setInterval(() => socket.write('X-A: a\r\n'), 50);
    closing.push(() => clearInterval(drip));
    expect(await readAll(socket)).toMatch(/^HTTP\/1.1 408 /);
    expect(await challengeStatus(server)).toBe(200);
  });

  test.each([
    ['not HTTP', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['oversized headers', `POST / HTTP/1.1\r\nX: ${'a'.repeat(10_000)}\r\n\r\n`],
    ['two lengths', 'POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na'],
    [
      'length and chunks',
      'POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    ],
    ['a bad chunk', 'POST /v1/release HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
    ['an upgrade', 'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'],
    ['CONNECT', 'CONNECT example:443 HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['a path that is not one', 'POST http://[ HTTP/1.1\r\nHost: x\r\n\r\n'],
  ])('%s does not take it down', async (_, text) => {
    const { server } = await start({ headersTimeout: 500, requestTimeout: 500 });
    const socket = await open(server, text);
    const said = await readAll(socket);
    expect(said === '' || /^HTTP\/1.1 4/.test(said)).toBe(true);
    expect(await challengeStatus(server)).toBe(200);
  });

  test('a client that goes away in the middle', async () => {
    const { server } = await start();
    for (let i = 0; i < 20; i++) {
      const socket = await open(server, 'POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc');
      socket.resetAndDestroy();
    }
    expect(await challengeStatus(server)).toBe(200);
  });

  test('thousands of half-open connections', async () => {
    const { server } = await start({ maxConnections: 100, headersTimeout: 30_000, requestTimeout: 30_000 });
    await Promise.all(
      Array.from({ length: 3000 }, (_, i) => open(server, i % 2 ? '' : 'POST /v1/challenge HTTP/1.1\r\nHost: x\r\n')),
    );
    const began = Date.now();
    for (let i = 0; i < 10; i++) expect(await challengeStatus(server)).toBe(200);
    // Not after the half-open ones timed out.
    expect(Date.now() - began).toBeLessThan(20_000);
    expect(server.connections()).toBeLessThanOrEqual(100);
  });
});

describe('the broker over HTTPS', () => {
  test('answers through TLS; half-open connections and plain HTTP cost an honest client nothing', async () => {
    const { privatePem, publicPem } = generateKey('eif');
    const cert = Buffer.from(await selfSignedCertificate(privatePem, publicPem, new Date()));
    const { server } = await start({ tls: { cert, key: Buffer.from(privatePem) }, maxConnections: 4 });
    expect(server.url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
    const port = Number(new URL(server.url).port);
    const idle = Array.from({ length: 12 }, () => connect(port, '127.0.0.1').on('error', () => {}));
    await Promise.all(idle.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    const plain = connect(port, '127.0.0.1').on('error', () => {});
    const ended = new Promise((resolve) => plain.once('close', resolve));
    plain.resume().end('POST /v1/challenge HTTP/1.1\r\nHost: x\r\n\r\n');
    await ended;
    const status = await new Promise((resolve, reject) => {
      const request = httpsRequest(`${server.url}/v1/challenge`, {
        method: 'POST',
        ca: cert,
        checkServerIdentity: () => undefined,
      });
      request.on('response', (response) => response.resume().on('end', () => resolve(response.statusCode)));
      request.on('error', reject).end();
    });
    expect(status).toBe(200);
    for (const socket of idle) socket.destroy();
  });

  test('a certificate and a key that do not belong together', async () => {
    const [a, b] = [generateKey('eif'), generateKey('eif')];
    const cert = Buffer.from(await selfSignedCertificate(a.privatePem, a.publicPem, new Date()));
    for (const tls of [
      { cert, key: Buffer.from(b.privatePem) },
      { cert: Buffer.from('x'), key: Buffer.from(a.privatePem) },
    ]) {
      await expect(start({ tls })).rejects.toMatchObject({ code: 'ERR_BROKER_TLS', exitCode: 2 });
    }
  });
});
