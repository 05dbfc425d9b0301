import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { createSimulatedAttester, createSimulatedRoot } from '../../../src/attest/index.ts';
import { Broker, type BrokerOptions, handleBrokerRequest, MemoryState, type Post } from '../../../src/broker/index.ts';
import { newXWingSeed, xwingPublicFromSeed } from '../../../src/keys/xwing.ts';
import { encodeHeader, type ParsedHeader, parseHeader, type SealHeader } from '../../../src/seal/header.ts';
import { encodePolicy, type Policy } from '../../../src/seal/policy.ts';
import { wrapContentKey } from '../../../src/seal/recipients.ts';
import { keyCommitment } from '../../../src/seal/secrets.ts';

export const measured = { tee: 'nitro', pcr0: '01'.repeat(48), pcr1: '02'.repeat(48), pcr2: '03'.repeat(48) } as const;
export const root = await createSimulatedRoot();
export const model = 'ab'.repeat(32);

export interface Owner {
  key: KeyObject;
  raw: Buffer;
}

export function newOwner(): Owner {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { key: privateKey, raw: publicKey.export({ type: 'spki', format: 'der' }).subarray(-32) };
}

export const newBrokerKey = () => {
  const seed = newXWingSeed();
  return { seed, publicRaw: xwingPublicFromSeed(seed) };
};

export const policy: Policy = {
  any: [{ tee: 'simulated', root: root.fingerprint, of: measured }],
  project: 'digits',
  model,
};

export interface Sealed {
  parsed: ParsedHeader;
  contentKey: Buffer;
  header: Omit<SealHeader, 'policy'>;
}

/** A sealed header to these brokers, with anything about it replaced before it is wrapped and signed. */
export async function seal(
  owner: Owner,
  brokers: { publicRaw: Uint8Array }[],
  change: { policy?: Policy; epoch?: number; sealId?: Uint8Array; threshold?: number } = {},
): Promise<Sealed> {
  const contentKey = randomBytes(32);
  const sealId = change.sealId ?? randomBytes(16);
  const context = {
    suite: 1 as const,
    sealId,
    epoch: change.epoch ?? 1,
    policyBytes: encodePolicy(change.policy ?? policy),
    owner: owner.raw,
    threshold: { t: change.threshold ?? 1, n: brokers.length },
  };
  const header: Omit<SealHeader, 'policy'> = {
    ...context,
    created: 1_790_000_000,
    parts: [],
    index: { length: 4096, sha256: randomBytes(32) },
    recipients: await wrapContentKey(
      context,
      { brokers: brokers.map(({ publicRaw }) => publicRaw), threshold: context.threshold.t },
      contentKey,
    ),
    commitment: keyCommitment(contentKey, sealId),
  };
  return { parsed: resign(header, owner), contentKey, header };
}

/** The header of `header` signed by `owner`, whatever is in it. */
export const resign = (header: Omit<SealHeader, 'policy'>, owner: Owner): ParsedHeader =>
  parseHeader(encodeHeader(header, owner.key));

/** A broker with a clock that tests move. */
export function newBroker(options: Partial<BrokerOptions> = {}) {
  const key = newBrokerKey();
  const state = new MemoryState();
  const time = { now: new Date() };
  const broker = new Broker({ ...key, allowSimulated: [root.fingerprint], clock: () => time.now, state, ...options });
  const post: Post = async (path, body) => handleBrokerRequest(broker, 'POST', path, body);
  return { broker, key, state, time, post };
}

export const newAttester = () => createSimulatedAttester(root, measured);
