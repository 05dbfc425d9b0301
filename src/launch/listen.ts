import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type ListenOptions, type Server, type Socket } from 'node:net';

/** A socket that takes one connection. */
export interface OneConnection {
  /** Rejects with `late()` after `timeoutMs`. */
  connection(timeoutMs: number, late: () => Error): Promise<Socket>;
  close(): void;
}

/** Listens on a Unix socket: its directory says who may connect. */
export async function listenOnce(path: string): Promise<OneConnection> {
  return (await listen({ path }, () => true)).one;
}

/**
 * Listens on a port of this machine's loopback, "127.0.0.1:PORT", for a program of this user's: whoever else can reach
 * the port is hung up on, and the wait goes on.
 */
export async function listenOnLoopback(): Promise<OneConnection & { address: string }> {
  const { one, server } = await listen({ host: '127.0.0.1', port: 0 }, isOurs);
  const { address, port } = server.address() as AddressInfo;
  return { ...one, address: `${address}:${port}` };
}

async function listen(where: ListenOptions, wanted: (socket: Socket) => boolean) {
  const first = Promise.withResolvers<Socket>();
  first.promise.catch(() => {});
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    if (!wanted(socket)) return socket.destroy();
    server.close();
    socket.setNoDelay(true);
    first.resolve(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, resolve);
  });
  let timer: NodeJS.Timeout | undefined;
  const one: OneConnection = {
    connection(timeoutMs, late) {
      timer = setTimeout(() => first.reject(late()), timeoutMs);
      return first.promise.finally(() => clearTimeout(timer));
    },
    close() {
      clearTimeout(timer);
      server.close();
    },
  };
  return { one, server };
}

/** The state of a TCP connection that is up. */
const ESTABLISHED = '01';

/**
 * True where the other end of a loopback connection is a socket of this user's, as the kernel has it (proc(5), /proc/net/tcp: local
 * and remote address, state, ..., uid). A port, unlike a path, has no owner that could keep others away.
 */
function isOurs({ remotePort, localPort }: Socket): boolean {
  const end = (port: number | undefined) => `0100007F:${(port ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
  const rows = readFileSync('/proc/net/tcp', 'latin1').split('\n').slice(1);
  return rows.some((row) => {
    const [, local, remote, state, , , , uid] = row.trim().split(/\s+/);
    const peer = local === end(remotePort) && remote === end(localPort) && state === ESTABLISHED;
    return peer && uid === String(process.geteuid?.());
  });
}
