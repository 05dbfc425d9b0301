import { closeSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { FdStream } from './fd-stream.ts';
import { loadKoffi } from './koffi.ts';
import { checked, ERRNO, libc, SyscallError } from './libc.ts';

/** linux/vm_sockets.h */
const AF_VSOCK = 40;
export const CID = { any: 0xffffffff, loopback: 1, host: 2, parent: 3 } as const;
/** SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC: nothing that we start may hold a connection to the host. */
const CLOEXEC_NONBLOCK = 0o2000000 | 0o4000;
const STREAM = 1 | CLOEXEC_NONBLOCK;
const SHUT_WR = 1;
const BACKLOG = 128;

/** struct sockaddr_vm: family, a reserved u16, port, CID, flags and padding. */
function address(cid: number, port: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_VSOCK, 0);
  bytes.writeUInt32LE(port, 4);
  bytes.writeUInt32LE(cid, 8);
  return bytes;
}

const stream = (fd: number): Duplex => new FdStream(fd, (open) => libc().shutdown(open, SHUT_WR));

/** Connects to a port of another machine by its CID. Rejects with a `SyscallError`, ETIMEDOUT where nobody answers. */
export async function connectVsock(cid: number, port: number, timeoutMs: number): Promise<Duplex> {
  const fd = checked('socket', libc().socket(AF_VSOCK, STREAM, 0));
  try {
    const begun = libc().connect(fd, address(cid, port));
    if (begun !== -ERRNO.EINPROGRESS) checked('connect', begun);
    else await writable(fd, timeoutMs);
    const failed = libc().socketError(fd);
    if (failed !== 0) throw new SyscallError('connect', failed);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return stream(fd);
}

function writable(fd: number, timeoutMs: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // An error also ends the wait; the socket knows which.
  const handle = loadKoffi().node.poll(fd, { writable: true }, () => resolve());
  const timer = setTimeout(() => reject(new SyscallError('connect', ETIMEDOUT)), timeoutMs);
  return promise.finally(() => {
    clearTimeout(timer);
    handle.close();
  });
}
const ETIMEDOUT = 110;

export interface VsockListener {
  /** The next connection. One caller at a time. */
  accept(): Promise<Duplex>;
  close(): void;
}

/** Listens on a port of this machine, for connections from anywhere. Throws a `SyscallError`. */
export function listenVsock(port: number): VsockListener {
  const fd = checked('socket', libc().socket(AF_VSOCK, STREAM, 0));
  try {
    checked('bind', libc().bind(fd, address(CID.any, port)));
    checked('listen', libc().listen(fd, BACKLOG));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const handle = loadKoffi().node.poll(fd, { readable: false }, () => {});
  return {
    async accept() {
      for (;;) {
        const accepted = libc().accept(fd, CLOEXEC_NONBLOCK);
        if (accepted >= 0) return stream(accepted);
        if (accepted !== -ERRNO.EAGAIN && accepted !== -ERRNO.EINTR) throw new SyscallError('accept', accepted);
        await new Promise<void>((resolve) => handle.start({ readable: true }, () => resolve()));
        handle.stop();
      }
    },
    close() {
      handle.close();
      closeSync(fd);
    },
  };
}
