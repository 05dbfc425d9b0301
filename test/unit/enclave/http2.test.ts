import { connect, performServerHandshake } from 'node:http2';
import { duplexPair } from 'node:stream';
import { expect, test } from 'vitest';
import { call, SETTINGS, serveSession } from '../../../src/enclave/http2.ts';

test.each([999, 42, 101])(
  'a hostile broker answers with status %d: the stream ends, the process does not',
  async (status) => {
    const [near, far] = duplexPair();
    const limits = { maxBody: 100, maxBuffered: 100, timeoutMs: 1000 };
    const handler = async ({ path }: { path: string }) => ({
      status: path === '/hostile' ? status : 200,
      headers: {},
      body: Buffer.from('x'),
    });
    serveSession(performServerHandshake(far, { settings: SETTINGS }), handler, limits);
    const session = connect('http://x', { createConnection: () => near, settings: SETTINGS });
    try {
      await expect(call(session, { method: 'POST', path: '/hostile' })).rejects.toThrow();
      expect(await call(session, { method: 'GET', path: '/' })).toMatchObject({ status: 200 });
    } finally {
      session.destroy();
    }
  },
);
