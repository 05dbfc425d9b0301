import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { newXWingSeed, xwingPublicFromSeed } from '../../../src/keys/xwing.ts';
import { encodeHeader, KIND, type SealHeader } from '../../../src/seal/header.ts';
import { encodePolicy, type Policy } from '../../../src/seal/policy.ts';
import { wrapShare } from '../../../src/seal/recipients.ts';
import { keyCommitment } from '../../../src/seal/secrets.ts';

export const policy: Policy = {
  any: [{ tee: 'nitro', pcr0: '11'.repeat(48), pcr1: '22'.repeat(48), pcr2: '33'.repeat(48) }],
  project: 'digits',
  model: 'ab'.repeat(32),
};

export interface XWing {
  seed: Buffer;
  publicRaw: Buffer;
}
export function xwing(): XWing {
  const seed = newXWingSeed();
  return { seed, publicRaw: xwingPublicFromSeed(seed) };
}

export interface Owner {
  key: KeyObject;
  publicRaw: Buffer;
}
export function newOwner(): Owner {
  const { privateKey } = generateKeyPairSync('ed25519');
  return { key: privateKey, publicRaw: rawOf(privateKey) };
}
const rawOf = (key: KeyObject): Buffer =>
  Buffer.from(createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32));

/** A header for one broker and a recovery key, of a model that is not there. */
export async function exampleHeader(owner: Owner, broker: XWing, recovery: XWing, ck: Uint8Array) {
  const sealId = Buffer.alloc(16, 5);
  const context = {
    suite: 1 as const,
    sealId,
    epoch: 1,
    policyBytes: encodePolicy(policy),
    owner: owner.publicRaw,
    threshold: { t: 1, n: 1 },
  };
  const header: Omit<SealHeader, 'policy'> = {
    ...context,
    created: 1_800_000_000,
    parts: [{ id: Buffer.alloc(16, 6), length: 5000 }],
    index: { length: 500, sha256: Buffer.alloc(32, 7) },
    recipients: [
      await wrapShare(context, { kind: KIND.broker, share: 1, publicRaw: broker.publicRaw }, ck),
      await wrapShare(context, { kind: KIND.recovery, share: 0, publicRaw: recovery.publicRaw }, ck),
    ],
    commitment: keyCommitment(ck, sealId),
  };
  return { header, bytes: encodeHeader(header, owner.key) };
}
