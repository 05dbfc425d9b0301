import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { remoteBroker, withoutSecrets } from '../../../src/tasks/brokers.ts';

describe('a password in the address of a broker', () => {
  test('goes to the broker as Basic authentication, and nothing of it into the path', async () => {
    const requests: IncomingMessage[] = [];
    const server = createServer((request, response) => {
      requests.push(request);
      response.end('{}');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    try {
      const post = remoteBroker(`http://al%40ice:s3%3Acret@127.0.0.1:${port}/base/`);
      expect(await post('/v1/challenge', new Uint8Array(0))).toMatchObject({ status: 200 });
      await remoteBroker(`http://127.0.0.1:${port}`)('/v1/challenge', new Uint8Array(0));
    } finally {
      server.close();
    }
    expect(requests.map(({ url, headers }) => [url, headers.authorization])).toEqual([
      ['/base/v1/challenge', `Basic ${Buffer.from('al@ice:s3:cret').toString('base64')}`],
      ['/v1/challenge', undefined],
    ]);
  });

  test('stands in no error: nobody listens, no address, another protocol, something after it', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    const dead = remoteBroker(`http://alice:s3cret@127.0.0.1:${port}`);
    await expect(dead('/v1/challenge', new Uint8Array(0))).rejects.toThrow(
      new Error(`http://127.0.0.1:${port}: ECONNREFUSED`),
    );
    for (const base of [
      'ftp://alice:s3cret@host/x',
      'alice:s3cret@host',
      'http://alice:s3cret@host:port',
      'http://alice:s3cret@host/?token=s3cret',
      'http://host/#s3cret',
    ]) {
      expect(() => remoteBroker(base)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
      expect(() => remoteBroker(base)).not.toThrow(/s3cret/);
      expect(withoutSecrets(base)).not.toContain('s3cret');
    }
  });
});
