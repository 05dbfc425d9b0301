import { resolveSimulatedRoots } from '../attest/simulated-root.ts';
import { decodeRefusal } from '../broker/refusal.ts';
import { AtomaError, EXIT, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { BrokerPost } from '../launch/host.ts';
import { readEndorsements } from './endorsements.ts';

/** Who releases the model's key. */
export interface BrokerWishes {
  /** URLs of brokers, or paths of brokers' keys: then this process is those brokers. */
  brokers?: string[];
  brokerKeys?: string[];
  /** For brokers in this process: simulated roots that they accept ("local" or fingerprints), a file or directory of endorsements. */
  allowSimulated?: string[];
  endorsements?: string | undefined;
  /** Hears of each of several brokers that does not answer or refuses. */
  onNote?: (text: string) => void;
}

/** One way to each broker, in the order in which the enclave counts them. Throws `ERR_USAGE` (exit 2), and what reading files throws. */
export async function openBrokers(wishes: BrokerWishes): Promise<BrokerPost[]> {
  const { brokers = [], brokerKeys = [] } = wishes;
  if (brokers.length + brokerKeys.length === 0) {
    throw usageError('ERR_USAGE', 'expected --broker URL or --broker-key FILE, found neither', {
      hint: 'somebody who holds a broker key has to release the model to the enclave',
    });
  }
  if (brokers.length + brokerKeys.length > 255) {
    throw usageError('ERR_USAGE', `expected at most 255 brokers, found ${brokers.length + brokerKeys.length}`);
  }
  const posts = [...brokers.map((url): BrokerPost => remoteBroker(url)), ...(await ownBrokers(brokerKeys, wishes))];
  // Of a single broker the enclave's error says everything.
  return posts.length === 1 ? posts : posts.map((post, i) => watched(post, brokerName(wishes, i + 1), wishes.onNote));
}

/** What only the launcher knows is put into an error from inside: which address "broker 2" has. */
export function nameBrokers(error: unknown, wishes: BrokerWishes): unknown {
  if (!(error instanceof AtomaError)) return error;
  const message = error.message.replace(/\bbroker (\d{1,3})\b/g, (_, number) => brokerName(wishes, Number(number)));
  const { hint, details, cause } = error;
  return new AtomaError(exitName(error), error.code, message, {
    ...(hint === undefined ? {} : { hint }),
    ...(details === undefined ? {} : { details }),
    cause,
  });
}

/** What `new AtomaError` calls the exit code of an error. */
export const exitName = ({ exitCode }: AtomaError) =>
  Object.entries(EXIT).find(([, code]) => code === exitCode)?.[0] as keyof typeof EXIT;

function brokerName({ brokers = [], brokerKeys = [] }: BrokerWishes, number: number): string {
  const address = [...brokers.map(withoutSecrets), ...brokerKeys][number - 1];
  return address === undefined ? `broker ${number}` : `broker ${number} at ${address}`;
}

/** An address may carry a password, one that is no address too. */
export function withoutSecrets(base: string): string {
  const url = URL.parse(base);
  if (url === null || url.origin === 'null') return base.replace(/[^/]*@/, '...@').replace(/[?#].*/s, '');
  return `${url.origin}${url.pathname.replace(/\/$/, '')}`;
}

/** Says which of several brokers did not help, also where the others are enough. */
const watched =
  (post: BrokerPost, name: string, onNote: BrokerWishes['onNote']): BrokerPost =>
  async (path, body) => {
    try {
      const reply = await post(path, body);
      if (reply.status !== 200) onNote?.(`${name} refused: ${decodeRefusal(reply.status, reply.body).message}`);
      return reply;
    } catch (error) {
      onNote?.(`${name} does not answer: ${error instanceof Error ? error.message : error}`);
      throw error;
    }
  };

async function ownBrokers(paths: string[], { allowSimulated = [], endorsements }: BrokerWishes): Promise<BrokerPost[]> {
  if (paths.length === 0) return [];
  const [{ Broker, handleBrokerRequest }, { readXWingPrivateKey }, own, roots] = await Promise.all([
    import('../broker/index.ts'),
    import('../keys/index.ts'),
    endorsements === undefined ? undefined : readEndorsements(endorsements),
    resolveSimulatedRoots(allowSimulated),
  ]);
  return Promise.all(
    paths.map(async (path) => {
      const { seed, publicRaw } = readXWingPrivateKey(await readSmallFile(path, 'broker key'));
      const broker = new Broker({
        seed,
        publicRaw,
        allowSimulated: roots,
        ...(own === undefined ? {} : { endorsements: own }),
      });
      return (path: string, body: Uint8Array) => handleBrokerRequest(broker, 'POST', path, body);
    }),
  );
}

const BROKER_TIMEOUT_MS = 30_000;
const MAX_REPLY = 64 << 10;

/**
 * A broker over HTTP. Shares are encrypted to the enclave and evidence is public: TLS protects neither. User and password in the address
 * are for what stands before the broker (Basic authentication). Throws `ERR_USAGE` (exit 2).
 */
export function remoteBroker(
  base: string,
): (...request: [path: string, body: Uint8Array, method?: string]) => ReturnType<BrokerPost> {
  const url = URL.parse(base);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw usageError('ERR_USAGE', `--broker: expected an http:// or https:// URL, found "${withoutSecrets(base)}"`);
  }
  if (url.search !== '' || url.hash !== '') {
    throw usageError('ERR_USAGE', `--broker: expected a URL without ? and #, found more after ${withoutSecrets(base)}`);
  }
  const prefix = url.pathname.replace(/\/$/, '');
  const headers = basicAuthentication(url);
  // fetch refuses addresses with a password, in a text that has it.
  [url.username, url.password] = ['', ''];
  return async (path, body, method = 'POST') => {
    try {
      const reply = await fetch(new URL(prefix + path, url), {
        method,
        headers,
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

function basicAuthentication({ username, password }: URL): Record<string, string> {
  if (username === '' && password === '') return {};
  const plain = (text: string): string => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return { authorization: `Basic ${Buffer.from(`${plain(username)}:${plain(password)}`).toString('base64')}` };
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
