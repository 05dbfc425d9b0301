import { NO_ENDORSEMENTS, resolveSimulatedRoots } from '../attest/index.ts';
import { AuditFile, Broker, MemoryState, openSqliteState, serveBroker } from '../broker/index.ts';
import { hex } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { isSameFile } from '../core/same-file.ts';
import { keyId, readOwnerPublicKey, readXWingPrivateKey } from '../keys/keys.ts';
import { readEndorsements } from './endorsements.ts';

/** Flags of `broker serve`; `endorsements` is a file or a directory, read once. */
export interface BrokerFlags {
  key: string;
  listen: string;
  allowSimulated: string[];
  endorsements?: string | undefined;
  /** SQLite file; default: memory. */
  state?: string | undefined;
  /** JSON lines; default: with the state. */
  audit?: string | undefined;
  /** Public keys of the owners whose models are served; none: everybody's. */
  owners?: string[] | undefined;
  /** PEM files: HTTPS. */
  tlsCert?: string | undefined;
  tlsKey?: string | undefined;
}

/** `atoma-tee broker serve`: starts it; the caller closes it. */
export async function startBroker(options: BrokerFlags) {
  const match = /^(\[[0-9a-fA-F:]+\]|[^:]+):(\d{1,5})$/.exec(options.listen);
  if (!match?.[1] || Number(match[2]) > 65535) {
    throw usageError('ERR_USAGE', `--listen: expected HOST:PORT, found "${options.listen}"`);
  }
  const { seed, publicRaw } = readXWingPrivateKey(await readSmallFile(options.key, 'broker key'));
  const id = keyId(publicRaw);
  const simulatedRoots = await resolveSimulatedRoots(options.allowSimulated);
  const endorsements = options.endorsements ? await readEndorsements(options.endorsements) : NO_ENDORSEMENTS;
  const owners = options.owners && (await Promise.all(options.owners.map(readOwner)));
  const tls = await readTls(options);
  const memory = await openMemory(options, id);
  try {
    const { state } = memory;
    const allowSimulated = simulatedRoots;
    const broker = new Broker({ seed, publicRaw, allowSimulated, endorsements, state, ...(owners ? { owners } : {}) });
    const host = match[1].replace(/^\[|\]$/g, '');
    const server = await serveBroker(broker, { host, port: Number(match[2]), ...(tls ? { tls } : {}) });
    const close = async () => {
      await server.close();
      memory.close();
    };
    return { url: server.url, close, keyId: hex(id), simulatedRoots, repaired: memory.repaired };
  } catch (error) {
    memory.close();
    throw error;
  }
}

/** What the broker remembers, and where its audit log goes. */
async function openMemory({ state: path, audit: log }: BrokerFlags, brokerKeyId: Buffer) {
  if (path?.startsWith('postgres:')) {
    throw usageError('ERR_USAGE', '--state: expected a file; PostgreSQL is not supported by this version');
  }
  const audit = log === undefined ? undefined : new AuditFile(log, hex(brokerKeyId));
  const repaired = audit?.repaired ?? false;
  try {
    // Each would find the other's bytes in it: at the first release, not now.
    if (path !== undefined && log !== undefined && (await isSameFile(path, log)))
      throw usageError('ERR_USAGE', `expected two files for --state and --audit, found ${log} for both`);
    if (path === undefined) return { state: new MemoryState({ audit }), repaired, close: () => audit?.close() };
    const state = await openSqliteState(path, { brokerKeyId, audit });
    const close = () => {
      state.close();
      audit?.close();
    };
    return { state, repaired, close };
  } catch (error) {
    audit?.close();
    throw error;
  }
}

const readOwner = async (path: string) => readOwnerPublicKey(await readSmallFile(path, 'owner key')).raw;

async function readTls({ tlsCert, tlsKey }: BrokerFlags) {
  if (tlsCert === undefined || tlsKey === undefined) return undefined;
  const [cert, key] = await Promise.all([readSmallFile(tlsCert, 'TLS certificate'), readSmallFile(tlsKey, 'TLS key')]);
  return { cert, key };
}
