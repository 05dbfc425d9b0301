import { existsSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { HOST_VSOCK_PORT } from '../core/layout.ts';
import { qemuError } from './qemu-find.ts';
import { spawnTied } from './tied.ts';

/** vhost-device-vsock: the host's half of the vsock device of one virtual machine. */
export interface VsockDaemon {
  /** For QEMU. */
  socket: string;
  /**
   * Connects to the program inside, once it listens; null where nobody does. One attempt at a time, and none that is given
   * up: the program serves the first connection that it gets, however late.
   */
  connect(timeoutMs: number): Promise<Socket | null>;
  stop(): Promise<void>;
}

/** The guest's own address; it means something within its device only. */
const GUEST_CID = 4;
const START_MS = 10_000;
const POLL_MS = 20;

/** Starts the daemon and waits for its socket. Throws `ERR_QEMU` where it does not come up. */
export async function startVsockDaemon(program: string, directory: string, name: string): Promise<VsockDaemon> {
  const [socket, uds] = [join(directory, `${name}.device`), join(directory, `${name}.vsock`)];
  const child = spawnTied([program, '--guest-cid', String(GUEST_CID), '--socket', socket, '--uds-path', uds], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  (child.stderr as Readable).setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000);
  });
  let over = false;
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  }).then(() => {
    over = true;
  });
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  for (const deadline = performance.now() + START_MS; !existsSync(socket); await sleep(POLL_MS)) {
    if (!over && performance.now() < deadline) continue;
    await stop();
    throw qemuError(`${program} did not start: ${said.trim().split('\n').at(-1) || 'it did not say why'}`);
  }
  return { socket, connect: (timeoutMs) => connect(uds, timeoutMs), stop };
}

/** The daemon's protocol is Firecracker's: "CONNECT port\n", answered by "OK port\n" when the guest accepts. */
async function connect(path: string, timeoutMs: number): Promise<Socket | null> {
  const socket = createConnection(path);
  socket.on('error', () => {});
  const answered = new Promise<boolean>((resolve) => {
    let line = '';
    // Byte for byte: what follows the line is the program's.
    const read = () => {
      for (let byte = socket.read(1); byte !== null; byte = socket.read(1)) {
        line += byte.toString('latin1');
        if (line.endsWith('\n') || line.length > 64) {
          socket.off('readable', read);
          return resolve(line.startsWith('OK '));
        }
      }
    };
    socket.on('readable', read);
    socket.once('close', () => resolve(false));
    socket.setTimeout(timeoutMs, () => resolve(false));
    socket.once('connect', () => socket.write(`CONNECT ${HOST_VSOCK_PORT}\n`));
  });
  if (await answered) return socket.setTimeout(0);
  socket.destroy();
  return null;
}
