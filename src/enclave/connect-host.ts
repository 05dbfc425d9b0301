import { existsSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { missingError } from '../core/errors.ts';
import { HOST_PORT_NAME, HOST_VSOCK_PORT } from '../core/layout.ts';
import { connectLauncher } from './gramine/connect.ts';
import { findGramine } from './gramine/device.ts';
import { say } from './log.ts';
import { findVirtioPort, hasVirtioConsole, openVirtioPort } from './native/virtio-port.ts';
import { CID, connectVsock, listenVsock } from './native/vsock.ts';

/** Where the launcher's socket is, in an image's root. */
export const HOST_SOCKET = 'run/atoma/host.sock';
/** A virtio console is found a moment before its ports. */
const PORT_MS = 5_000;
/** nitro-cli waits for this byte, and for its echo to be taken (sdk-bootstrap, init/init.c). */
const HEARTBEAT = { port: 9000, byte: 0xb7, limitMs: 2_000 };

/**
 * The one byte stream to the host, from what is there: under Gramine the launcher's TCP port, else the simulated TEE's
 * socket, else the virtio-serial port of a virtual machine, else whoever connects first to our vsock port. Waits for as long as the host takes to come.
 *
 * Throws `ERR_ATTESTER` (exit 5) where there is no way to a host at all.
 */
export async function connectHost(root = '/', environment = process.env): Promise<Duplex> {
  if (findGramine(root) !== undefined) return connectLauncher(environment);
  const socket = join(root, HOST_SOCKET);
  if (existsSync(socket)) return connectSocket(socket);
  const port = await waitForPort(root);
  if (port !== undefined) {
    say(`waiting for the host on ${port}`);
    return openVirtioPort(port);
  }
  // The device says that there is vsock; a test's root has none, whatever its machine has.
  if (existsSync(join(root, 'dev/vsock'))) return acceptVsock();
  throw notFound();
}

const notFound = (cause?: unknown) =>
  missingError(
    'ERR_ATTESTER',
    'found no attestation device and no launcher: this program runs in an enclave, or in the simulated TEE',
    { cause },
  );

function connectSocket(path: string): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', (cause) => reject(notFound(cause)));
  });
}

async function waitForPort(root: string): Promise<string | undefined> {
  const deadline = performance.now() + PORT_MS;
  for (;;) {
    const port = findVirtioPort(HOST_PORT_NAME, root);
    if (port !== undefined || !hasVirtioConsole(root) || performance.now() > deadline) return port;
    await sleep(10);
  }
}

async function acceptVsock(): Promise<Duplex> {
  const listener = listenVsock(HOST_VSOCK_PORT);
  // Beside everything else: nothing waits for it.
  void heartbeat();
  say(`waiting for the host on vsock port ${HOST_VSOCK_PORT}`);
  try {
    return await listener.accept();
  } finally {
    listener.close();
  }
}

/** Tells the parent instance that we are up, where there is one. */
async function heartbeat(): Promise<void> {
  try {
    const parent = await connectVsock(CID.parent, HEARTBEAT.port, HEARTBEAT.limitMs);
    try {
      const heard = await new Promise<Buffer>((resolve, reject) => {
        setTimeout(() => reject(new Error('no answer')), HEARTBEAT.limitMs).unref();
        parent.once('data', resolve);
        parent.once('end', () => reject(new Error('no answer')));
        parent.once('error', reject);
        parent.write(Buffer.from([HEARTBEAT.byte]));
      });
      say(heard[0] === HEARTBEAT.byte ? 'the parent heard our heartbeat' : 'the parent answered something else');
    } finally {
      parent.destroy();
    }
  } catch (error) {
    say(`no parent took our heartbeat (${error instanceof Error ? error.message : error})`);
  }
}
