import { createServer, type Server, type Socket } from 'node:net';

/** A Unix socket that takes one connection. */
export interface OneConnection {
  /** Rejects with `late()` after `timeoutMs`. */
  connection(timeoutMs: number, late: () => Error): Promise<Socket>;
  close(): void;
}

export async function listenOnce(path: string): Promise<OneConnection> {
  const first = Promise.withResolvers<Socket>();
  first.promise.catch(() => {});
  const server: Server = createServer((socket) => {
    server.close();
    socket.on('error', () => {});
    first.resolve(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  let timer: NodeJS.Timeout | undefined;
  return {
    connection(timeoutMs, late) {
      timer = setTimeout(() => first.reject(late()), timeoutMs);
      return first.promise.finally(() => clearTimeout(timer));
    },
    close() {
      clearTimeout(timer);
      server.close();
    },
  };
}
