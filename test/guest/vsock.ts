/**
 * A program for an image, instead of the enclave program: checks the transports from the inside and ends. With a security
 * module and a vsock of the hypervisor's it checks those too. The test is test/e2e/guest.test.ts.
 */
import { existsSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { HOST_PORT_NAME } from '../../src/core/layout.ts';
import { findVirtioPort, openVirtioPort } from '../../src/enclave/native/virtio-port.ts';
import { CID, connectVsock, listenVsock } from '../../src/enclave/native/vsock.ts';
import { check, equal, throws } from './checks.ts';
import { nsmChecks } from './nsm.ts';
import { digestOf, receive, send } from './transfer.ts';

const [LOOPBACK, FROM_HOST, TO_HOST] = [6001, 6002, 6003];
const LARGE = 64;
/** Through the port: each page is a call of its own there. */
const PORT_LARGE = 16;
const MANY = 10;
const SOON = 60_000;

async function loopback(): Promise<[near: Duplex, far: Duplex]> {
  const listener = listenVsock(LOOPBACK);
  try {
    return await Promise.all([connectVsock(CID.loopback, LOOPBACK, SOON), listener.accept()]);
  } finally {
    listener.close();
  }
}

await check('vsock loopback: large transfer both ways at once', async () => {
  const [near, far] = await loopback();
  send(near, 1, LARGE);
  send(far, 2, LARGE);
  equal(await Promise.all([receive(far), receive(near)]), [digestOf(1, LARGE), digestOf(2, LARGE)]);
});

await check('vsock loopback: ten connections at once', async () => {
  const listener = listenVsock(LOOPBACK);
  const serve = async () => {
    for (let i = 0; i < MANY; i++) {
      const far = await listener.accept();
      far.pipe(far);
    }
  };
  const ask = async (_: unknown, stream: number) => {
    const near = await connectVsock(CID.loopback, LOOPBACK, SOON);
    send(near, stream, 4);
    return receive(near);
  };
  const [digests] = await Promise.all([Promise.all(Array.from({ length: MANY }, ask)), serve()]);
  listener.close();
  equal(
    digests,
    digests.map((_, stream) => digestOf(stream, 4)),
  );
});

await check('vsock loopback: half-close', async () => {
  const [near, far] = await loopback();
  near.end('question');
  const heard = await text(far);
  far.end(`${heard} answered`);
  equal(await text(near), 'question answered');
});

await check('vsock loopback: a reader that does not read holds the writer back', async () => {
  const [near, far] = await loopback();
  let taken = 0;
  while (taken < 64 && near.write(Buffer.alloc(1 << 20))) taken++;
  if (taken === 64) throw new Error('64 MiB were taken in');
  far.destroy();
  near.destroy();
});

await check('vsock loopback: a peer that goes away is heard of', async () => {
  const [near, far] = await loopback();
  const ended = new Promise<void>((resolve) => near.once('close', resolve));
  near.on('error', () => {});
  near.resume();
  far.destroy();
  near.end('x');
  await ended;
});

await check('vsock: nobody listens', () =>
  throws(() => connectVsock(CID.loopback, 6999, 2000), /ECONNRESET|ECONNREFUSED/),
);
await check('vsock: a port that is taken', async () => {
  const listener = listenVsock(LOOPBACK);
  await throws(() => listenVsock(LOOPBACK), /EADDRINUSE/);
  listener.close();
});

const port = findVirtioPort(HOST_PORT_NAME);
if (port !== undefined) {
  await check('virtio-serial: large transfer there and back, then the host leaves', async () => {
    const host = await openVirtioPort(port);
    // The host sends everything back and leaves: a port has no half-close.
    const got = receive(host);
    send(host, 3, PORT_LARGE);
    equal(await got, digestOf(3, PORT_LARGE));
  });
}
// vhost-device-vsock has no half-close: its end of one half ends both, so the host ends when it has everything.
if (existsSync('/dev/nsm')) {
  await nsmChecks();
  await check('vsock from the host: large transfer both ways', async () => {
    const listener = listenVsock(FROM_HOST);
    console.log(`guest: listening ${FROM_HOST}`);
    const host = await listener.accept();
    listener.close();
    send(host, 4, LARGE, false);
    equal(await receive(host), digestOf(5, LARGE));
  });
  await check('vsock to the host: large transfer both ways', async () => {
    const host = await connectVsock(CID.host, TO_HOST, SOON);
    send(host, 6, LARGE, false);
    equal(await receive(host), digestOf(7, LARGE));
  });
}
console.log('guest: done');
// With connections open and nobody reading: nothing may hold the process.
await loopback();
process.exit(7);

async function text(from: Duplex): Promise<string> {
  let heard = '';
  from.on('data', (chunk: Buffer) => {
    heard += chunk.toString();
  });
  await new Promise((resolve, reject) => from.once('end', resolve).once('error', reject));
  return heard;
}
