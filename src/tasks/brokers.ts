import { resolveSimulatedRoots } from '../attest/simulated-root.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { BrokerPost } from '../launch/host.ts';

/** Who releases the model's key. */
export interface BrokerWishes {
  /** URLs of brokers, or the path of a broker's key: then the broker is this process. */
  brokers?: string[];
  brokerKey?: string | undefined;
  /** For the broker in this process: simulated roots that it accepts ("local" or fingerprints). */
  allowSimulated?: string[];
}

/** Throws `ERR_USAGE` (exit 2), and what reading the key throws. */
export async function openBrokers({
  brokers = [],
  brokerKey,
  allowSimulated = [],
}: BrokerWishes): Promise<BrokerPost[]> {
  if (brokerKey === undefined) {
    if (brokers.length > 0) return brokers.map(remoteBroker);
    throw usageError('ERR_USAGE', 'expected --broker URL or --broker-key FILE, found neither', {
      hint: 'somebody who holds a broker key has to release the model to the enclave',
    });
  }
  const [{ Broker, handleBrokerRequest }, { readXWingPrivateKey }] = await Promise.all([
    import('../broker/index.ts'),
    import('../keys/index.ts'),
  ]);
  const { seed, publicRaw } = readXWingPrivateKey(await readSmallFile(brokerKey, 'broker key'));
  const broker = new Broker({ seed, publicRaw, allowSimulated: await resolveSimulatedRoots(allowSimulated) });
  return [(path, body) => handleBrokerRequest(broker, 'POST', path, body)];
}

const BROKER_TIMEOUT_MS = 30_000;
const MAX_REPLY = 64 << 10;

/** A broker over HTTP. Shares are encrypted to the enclave and evidence is public: TLS protects neither. */
function remoteBroker(base: string): BrokerPost {
  const url = URL.parse(base);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw usageError('ERR_USAGE', `--broker: expected an http:// or https:// URL, found "${base}"`);
  }
  const prefix = url.pathname.replace(/\/$/, '');
  return async (path, body) => {
    try {
      const reply = await fetch(new URL(prefix + path, url), {
        method: 'POST',
        body: Buffer.from(body),
        redirect: 'error',
        signal: AbortSignal.timeout(BROKER_TIMEOUT_MS),
      });
      return { status: reply.status, body: await readBounded(reply) };
    } catch (error) {
      const { message, cause } = error as Error & { cause?: NodeJS.ErrnoException };
      throw new Error(`${url.origin}: ${cause?.code ?? cause?.message ?? message}`);
    }
  };
}

async function readBounded(reply: Response): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of reply.body ?? []) {
    length += chunk.length;
    if (length > MAX_REPLY) throw new Error('the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
