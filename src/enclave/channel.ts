import { connect, performServerHandshake } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { AttestRequest } from '../attest/simulated-attester.ts';
import { encodeCbor } from '../core/cbor.ts';
import { AtomaError } from '../core/errors.ts';
import { call, type Handler, type Limits, type Reply, SESSION_WINDOW, SETTINGS, serveSession } from './http2.ts';
import { type ModelStream, openModelStream } from './model-stream.ts';

/** The enclave's end of the one byte stream to its host: see `serveEnclave` in src/launch/host.ts for the paths. */
export interface Channel {
  attest(request: AttestRequest): Promise<Uint8Array>;
  lock(): Promise<void>;
  /** How many brokers the host forwards to. */
  brokers(): Promise<number>;
  broker(index: number, path: string, body: Uint8Array): Promise<{ status: number; body: Uint8Array }>;
  model(): Promise<ModelStream>;
  /** Tells the host how it went. */
  status(status: object): Promise<void>;
  /** Answers the host's requests; resolves when the channel ends. */
  serve(handler: Handler, limits: Limits): Promise<void>;
  close(): void;
}

/** The host may be slow (a broker far away), but not silent for ever. */
const TIMEOUT_MS = 120_000;
const MAX_EVIDENCE = 64 << 10;
const MAX_RELEASE = 64 << 10;
const MAX_BROKERS = 255;

export function openChannel(stream: Duplex): Channel {
  const session = connect('http://host', { createConnection: () => stream, settings: SETTINGS });
  session.on('error', () => {});
  session.once('connect', () => session.setLocalWindowSize(SESSION_WINDOW));

  const post = async (path: string, body: Uint8Array, maxReply: number): Promise<Reply> => {
    try {
      return await call(session, { method: 'POST', path, body, maxReply, timeoutMs: TIMEOUT_MS });
    } catch (error) {
      throw hostError(path, error);
    }
  };
  return {
    async attest({ userData, nonce, publicKey }) {
      const fields = { user_data: userData ?? null, nonce: nonce ?? null, public_key: publicKey ?? null };
      const { status, body } = await post('/attest', encodeCbor(fields), MAX_EVIDENCE);
      if (status !== 200) throw hostError('/attest', `status ${status}`);
      return body;
    },
    async lock() {
      const { status } = await post('/attest/lock', Buffer.alloc(0), 0);
      if (status !== 204) throw hostError('/attest/lock', `status ${status}`);
    },
    async brokers() {
      const { status, body } = await post('/brokers', Buffer.alloc(0), 16);
      const count = Number(body.toString());
      if (status !== 200 || !(count >= 1 && count <= MAX_BROKERS)) throw hostError('/brokers', 'no broker');
      return count;
    },
    async broker(index, path, body) {
      const reply = await post(`/broker/${index}${path}`, body, MAX_RELEASE);
      if (reply.status !== 502) return reply;
      const found = reply.body.toString('utf8').slice(0, 300);
      throw new AtomaError(
        'unexpected',
        'ERR_BROKER_UNREACHABLE',
        `expected an answer from the broker, found: ${found}`,
      );
    },
    model: () => openModelStream(session),
    status: async (status) => {
      await post('/status', Buffer.from(JSON.stringify(status)), 0);
    },
    serve(handler, limits) {
      return new Promise((resolve, reject) => {
        const tunnel = session.request({ ':method': 'POST', ':path': '/serve' }, { endStream: false });
        tunnel.on('error', reject);
        tunnel.on('close', resolve);
        tunnel.once('response', () =>
          serveSession(performServerHandshake(tunnel, { settings: SETTINGS }), handler, limits),
        );
      });
    },
    // What was answered has been answered: streams that are still open are nobody's any more.
    close: () => session.destroy(),
  };
}

const hostError = (path: string, cause: unknown) =>
  new AtomaError(
    'unexpected',
    'ERR_ENCLAVE_HOST',
    `the host did not do its part (${path}): ${cause instanceof Error ? cause.message : cause}`,
  );
