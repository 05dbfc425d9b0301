import { closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { FdStream } from './fd-stream.ts';
import { libc } from './libc.ts';

const POLLHUP = 0x10;
/** How often to look whether the other end is there: the driver tells nobody. */
const LOOK_MS = 10;

/** The device of the virtio-serial port of that name: "/dev/vport0p1". `root` is the image's root. */
export function findVirtioPort(name: string, root = '/'): string | undefined {
  for (const device of list(join(root, 'sys/class/virtio-ports'))) {
    try {
      // Set a moment after the port appears.
      const found = readFileSync(join(root, 'sys/class/virtio-ports', device, 'name'), 'utf8').trim();
      if (found === name) return join(root, 'dev', device);
    } catch {
      // Not named yet, or not at all.
    }
  }
  return undefined;
}

/** Whether this machine has a virtio console, whose ports may still be on their way. */
export const hasVirtioConsole = (root = '/'): boolean =>
  list(join(root, 'sys/bus/virtio/drivers/virtio_console')).some((name) => name.startsWith('virtio'));

/**
 * Opens a port and waits for somebody at its other end: until then a read of the port looks like the end of input. It
 * has no half-close, and the end comes when the other side disconnects.
 */
export async function openVirtioPort(path: string): Promise<Duplex> {
  const { O_RDWR, O_NONBLOCK } = constants;
  const fd = openSync(path, O_RDWR | O_NONBLOCK);
  try {
    while (libc().pollNow(fd, 0) & POLLHUP) await sleep(LOOK_MS);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return new FdStream(fd);
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}
