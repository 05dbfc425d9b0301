import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createCommandServer } from '../../../src/enclave/command-server.ts';
import type { Answered } from '../../../src/enclave/receipts.ts';

type Program = (request: IncomingMessage, reply: ServerResponse, body: Buffer) => void;
let program: Program;
let signed: Answered[];
const server = () =>
  createServer(async (request, reply) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    program(request, reply, Buffer.concat(chunks));
  });
let running: ReturnType<typeof server>;
beforeEach(async () => {
  signed = [];
  running = server();
  await new Promise<void>((resolve) => running.listen(0, '127.0.0.1', resolve));
});
afterEach(() => {
  running.closeAllConnections();
  running.close();
});

async function ask(method: string, path: string, headers: Record<string, string> = {}, body = '', limits = {}) {
  const { port } = running.address() as AddressInfo;
  const handler = createCommandServer({
    port,
    sign: (answered) => {
      signed.push(answered);
      return Buffer.from('a receipt');
    },
    evidenceFile: async () => Buffer.from('{"evidence":1}'),
    ...limits,
  });
  const response = await handler({ method, path, headers, body: Buffer.from(body) });
  return { ...response, text: Buffer.from(response.body as Uint8Array).toString() };
}

test('a request reaches the program as it was; the answer comes with a receipt over the exact bytes', async () => {
  program = (request, reply, body) => {
    const { method, url, headers } = request;
    reply.writeHead(201, { 'x-own': 'a', 'set-cookie': ['a=1', 'b=2'] });
    reply.end(JSON.stringify({ method, url, headers, body: body.toString() }));
  };
  const headers = {
    accept: 'text/x',
    connection: 'x-hop',
    'x-hop': '1',
    te: 'trailers',
    'atoma-nonce': '0011223344556677',
    'atoma-x': '1',
  };
  const answer = await ask('POST', '/a%20b?c=d', { ':path': '/', ...headers }, 'question');
  const seen = JSON.parse(answer.text);
  expect(seen).toMatchObject({ method: 'POST', url: '/a%20b?c=d', body: 'question', headers: { accept: 'text/x' } });
  for (const name of ['x-hop', 'te', 'atoma-nonce', 'atoma-x', ':path']) expect(seen.headers).not.toHaveProperty(name);
  expect(answer).toMatchObject({ status: 201, headers: { 'x-own': 'a', 'set-cookie': ['a=1', 'b=2'] } });
  expect(answer.headers).toMatchObject({
    'atoma-receipt': ':YSByZWNlaXB0:',
    'server-timing': expect.stringMatching(/^program;dur=/),
  });
  expect(signed.map(({ request, response }) => [String(request), String(response)])).toEqual([
    ['question', answer.text],
  ]);
  expect(Buffer.from(signed[0]?.nonce ?? []).toString('hex')).toBe('0011223344556677');
});

test('a program cannot forge a receipt, nor get one for what is no answer to a POST', async () => {
  program = ({ url }, reply) => reply.writeHead(url === '/bad' ? 500 : 200, { 'atoma-receipt': ':forged:' }).end('x');
  for (const [method, path] of [
    ['GET', '/'],
    ['POST', '/bad'],
  ] as const) {
    expect((await ask(method, path)).headers).not.toHaveProperty('atoma-receipt');
  }
  expect(signed).toEqual([]);
});

test('evidence is the enclave program`s own, however the path is written', async () => {
  let reached = 0;
  program = (_, reply) => {
    reached++;
    reply.end('forged evidence');
  };
  expect((await ask('GET', '/.well-known/attestation')).text).toBe('{"evidence":1}');
  for (const path of [
    '/.well-known/%61ttestation',
    '//.well-known//attestation',
    '/x/../.well-known/./attestation',
    '/.well-known/attestation/',
    '/.WELL-KNOWN/attestation',
    '\\.well-known\\attestation',
    '/%2e%77ell-known%2fattestation',
  ]) {
    expect((await ask('GET', path)).status, path).toBe(404);
  }
  expect(reached).toBe(0);
});

test('no redirect is followed, no protocol changed, no tunnel made', async () => {
  program = ({ url }, reply) => {
    if (url === '/upgrade') reply.writeHead(101, { connection: 'upgrade', upgrade: 'x' }).end();
    else reply.writeHead(302, { location: 'http://127.0.0.1:1/' }).end();
  };
  expect(await ask('GET', '/')).toMatchObject({ status: 302, headers: { location: 'http://127.0.0.1:1/' } });
  expect((await ask('GET', '/upgrade', { upgrade: 'x' })).status).toBe(502);
  expect((await ask('CONNECT', '/')).status).toBe(405);
});

test('an answer that is too long, too late or cut off is a 502 or 504, and the next one is served', async () => {
  program = ({ url }, reply) => {
    if (url === '/long') reply.end(Buffer.alloc(2000));
    else if (url === '/cut') reply.writeHead(200, { 'content-length': '10' }).write('x', () => reply.destroy());
    else if (url !== '/late') reply.end('fine');
  };
  expect((await ask('GET', '/long', {}, '', { maxReply: 1000 })).status).toBe(502);
  expect((await ask('GET', '/late', {}, '', { timeoutMs: 100 })).status).toBe(504);
  expect((await ask('GET', '/cut')).status).toBe(502);
  expect((await ask('GET', '/')).text).toBe('fine');
});

test('nothing is signed that HTTP/2 cannot carry: content of a 205, odd statuses, endless headers', async () => {
  running.removeAllListeners('connection').on('connection', (socket) => {
    socket.on('error', () => {});
    socket.once('data', (data) => {
      const [, path = ''] = String(data).split(' ');
      const heads: Record<string, string> = {
        '/205': 'HTTP/1.1 205 Reset Content',
        '/600': 'HTTP/1.1 600 Odd',
        '/headers': `HTTP/1.1 200 OK\r\n${Array.from({ length: 400 }, (_, i) => `x-${i}: 1`).join('\r\n')}`,
      };
      socket.end(`${heads[path]}\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello`);
    });
  });
  expect(await ask('POST', '/205')).toMatchObject({ status: 205, text: '' });
  expect(signed.map(({ response }) => response.length)).toEqual([0]);
  expect(await ask('POST', '/600')).toMatchObject({ status: 502, text: expect.stringContaining('the status 600') });
  expect(await ask('POST', '/headers')).toMatchObject({ status: 502, text: expect.stringContaining('of headers') });
  expect(signed).toHaveLength(1);
});

test('a program that has ended: 502', async () => {
  const { port } = running.address() as AddressInfo;
  running.close();
  const handler = createCommandServer({ port, sign: () => Buffer.alloc(0), evidenceFile: async () => Buffer.alloc(0) });
  expect((await handler({ method: 'GET', path: '/', headers: {}, body: Buffer.alloc(0) })).status).toBe(502);
});

test.each(['0011', 'zz'.repeat(8)])('a bad nonce (%s) is refused before the program is asked', async (nonce) => {
  program = (_, reply) => reply.end('asked');
  expect((await ask('POST', '/', { 'atoma-nonce': nonce })).status).toBe(400);
});

test.each(['/a b', '/a\r\nx: y', 'http://x/', '*'])('a path that is none (%s) is refused', async (path) => {
  program = (_, reply) => reply.end('asked');
  expect((await ask('GET', path)).status).toBe(400);
});
