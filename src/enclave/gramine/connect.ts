import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { AtomaError, missingError } from '../../core/errors.ts';
import { LAUNCHER_ADDRESS_VARIABLE } from '../../core/layout.ts';

/** Unix sockets are Gramine's own, between programs inside; TCP is the only way out. */
const LOOPBACK = '127.0.0.1';

/**
 * Connects to the launcher, whose address is in the environment: the one thing from outside that Gramine lets in, so that
 * nothing but a port of this machine can be in it. Whoever is at its other end is a host like any other: untrusted.
 *
 * Throws `ERR_ATTESTER` (exit 5) where there is no launcher, `ERR_ENCLAVE_HOST` for an address that is none of a launcher's.
 */
export async function connectLauncher(environment: NodeJS.ProcessEnv): Promise<Duplex> {
  const address = environment[LAUNCHER_ADDRESS_VARIABLE];
  if (address === undefined || address === '') throw notFound();
  const port = Number(/^127\.0\.0\.1:([1-9][0-9]{0,4})$/.exec(address)?.[1] ?? 0);
  if (port < 1 || port > 0xffff) {
    const found = JSON.stringify(address.slice(0, 40));
    throw new AtomaError(
      'unexpected',
      'ERR_ENCLAVE_HOST',
      `${LAUNCHER_ADDRESS_VARIABLE}: expected ${LOOPBACK}:PORT, found ${found}`,
    );
  }
  const socket = createConnection({ host: LOOPBACK, port, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (cause) => reject(notFound(cause)));
  });
  return socket;
}

const notFound = (cause?: unknown) =>
  missingError(
    'ERR_ATTESTER',
    'found Gramine and no launcher: this program is started by `atoma-tee run --tee gramine`',
    {
      cause,
    },
  );
