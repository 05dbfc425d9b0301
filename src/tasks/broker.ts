import { NO_ENDORSEMENTS, resolveSimulatedRoots } from '../attest/index.ts';
import { Broker, serveBroker } from '../broker/index.ts';
import { hex } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { keyId, readXWingPrivateKey } from '../keys/keys.ts';
import { readEndorsements } from './endorsements.ts';

/** Flags of `broker serve`; `endorsements` is a file or a directory, read once. */
export interface BrokerFlags {
  key: string;
  listen: string;
  allowSimulated: string[];
  endorsements?: string | undefined;
}

/** `atoma-tee broker serve`: starts it; the caller closes it. */
export async function startBroker(options: BrokerFlags) {
  const match = /^(\[[0-9a-fA-F:]+\]|[^:]+):(\d{1,5})$/.exec(options.listen);
  if (!match?.[1] || Number(match[2]) > 65535) {
    throw usageError('ERR_USAGE', `--listen: expected HOST:PORT, found "${options.listen}"`);
  }
  const { seed, publicRaw } = readXWingPrivateKey(await readSmallFile(options.key, 'broker key'));
  const simulatedRoots = await resolveSimulatedRoots(options.allowSimulated);
  const endorsements = options.endorsements ? await readEndorsements(options.endorsements) : NO_ENDORSEMENTS;
  const broker = new Broker({ seed, publicRaw, allowSimulated: simulatedRoots, endorsements });
  const server = await serveBroker(broker, { host: match[1].replace(/^\[|\]$/g, ''), port: Number(match[2]) });
  return { url: server.url, close: () => server.close(), keyId: hex(keyId(publicRaw)), simulatedRoots };
}
