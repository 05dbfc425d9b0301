import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FdStream } from '../../../../src/enclave/native/fd-stream.ts';
import { checked, libc } from '../../../../src/enclave/native/libc.ts';

// The stream of the enclave's vsock and virtio ports, over a UNIX socket here: the same code, the same kernel calls.

const STREAM = 1 | 0o4000 | 0o2000000;
const SHUT_WR = 1;
let directory: string;
let server: Server;
let accepted: Promise<Socket>;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
  const connection = Promise.withResolvers<Socket>();
  accepted = connection.promise;
  server = createServer({ allowHalfOpen: true }, connection.resolve);
  await new Promise<void>((resolve) => server.listen(join(directory, 's'), resolve));
});
afterEach(() => {
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

async function pair(): Promise<[near: FdStream, far: Socket]> {
  const fd = checked('socket', libc().socket(1, STREAM, 0));
  const address = Buffer.alloc(110);
  address.writeUInt16LE(1, 0);
  address.write(join(directory, 's'), 2);
  checked('connect', libc().connect(fd, address));
  return [new FdStream(fd, (open) => libc().shutdown(open, SHUT_WR)), await accepted];
}

/** Everything until the end; iterating would destroy the stream there, its output too. */
function all(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve, reject) => {
    stream.once('end', () => resolve(Buffer.concat(chunks)));
    stream.once('error', reject);
  });
}

test('bytes both ways at once, as they were', async () => {
  const [near, far] = await pair();
  const bytes = randomBytes(20 << 20);
  const digest = createHash('sha256').update(bytes).digest('hex');
  near.end(bytes);
  far.end(bytes);
  const received = await Promise.all([all(near), all(far)]);
  expect(received.map((got) => createHash('sha256').update(got).digest('hex'))).toEqual([digest, digest]);
});

test('the end of our output is heard while input goes on', async () => {
  const [near, far] = await pair();
  near.end('question');
  expect(String(await all(far))).toBe('question');
  far.end('answer');
  expect(String(await all(near))).toBe('answer');
  if (!near.closed) await new Promise((resolve) => near.once('close', resolve));
});

test('a reader that does not read holds the writer back, and gets everything in the end', async () => {
  const [near, far] = await pair();
  far.pause();
  let taken = 0;
  const piece = Buffer.alloc(1 << 20, 1);
  while (near.write(piece)) taken++;
  near.write(piece);
  expect(taken).toBeLessThan(4);
  expect(near.writableNeedDrain).toBe(true);
  near.end();
  const received = all(far);
  far.resume();
  expect(await received).toHaveLength((taken + 2) * piece.length);
  far.end();
});

test('input that nobody reads is not taken in without end', async () => {
  const [near, far] = await pair();
  near.on('readable', () => {});
  let sent = 0;
  const piece = Buffer.alloc(256 << 10);
  await new Promise<void>((resolve) => {
    const more = () => (far.write(piece, () => ++sent && sent < 64 && more()) ? undefined : resolve());
    more();
  });
  await new Promise((resolve) => near.once('readable', resolve));
  expect(near.readableLength).toBeLessThan(2 << 20);
  near.destroy();
  far.destroy();
});

test('a peer that goes away ends the stream, with an error for who still writes', async () => {
  const [near, far] = await pair();
  near.resume();
  const ended = new Promise((resolve) => near.once('end', resolve));
  far.destroy();
  await ended;
  const failed = new Promise((resolve) => near.once('error', resolve));
  near.write('x');
  near.write('y');
  expect(await failed).toMatchObject({ code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/) });
});

test('destroyed in the middle of a write: the descriptor is closed, the writer hears of it', async () => {
  const [near, far] = await pair();
  far.pause();
  const written = new Promise((resolve) => near.write(Buffer.alloc(8 << 20), resolve));
  near.destroy();
  expect(await written).toBeInstanceOf(Error);
  far.resume();
  await new Promise((resolve) => far.once('end', resolve));
  far.destroy();
});
