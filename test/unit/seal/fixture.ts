import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { sha256 } from '../../../src/core/bytes.ts';
import { newXWingSeed, xwingPublicFromSeed } from '../../../src/keys/xwing.ts';
import { encryptSegment, segmentCount, startEncryption } from '../../../src/seal/floe.ts';
import { encodeHeader, KIND, pad, type SealHeader } from '../../../src/seal/header.ts';
import { encodeIndex, type IndexFile, type IndexPart } from '../../../src/seal/index-part.ts';
import { encodePolicy, type Policy } from '../../../src/seal/policy.ts';
import { wrapShare } from '../../../src/seal/recipients.ts';
import { indexAad, indexKey, keyCommitment, partAad } from '../../../src/seal/secrets.ts';

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

/** A sealed model built in memory from its parts, as the format says; `change` makes it hostile before it is signed and encrypted. */
export async function forge(
  owner: Owner,
  recovery: XWing,
  change: { files?: (files: IndexFile[]) => IndexFile[]; parts?: (parts: IndexPart[]) => IndexPart[] } = {},
) {
  const ck = Buffer.alloc(32, 3);
  const { header: base } = await exampleHeader(owner, recovery, xwing(), ck);
  const plain = [Buffer.alloc(2 ** 20 + 500, 1), Buffer.alloc(2 ** 20 + 500, 2), Buffer.from('small')];
  const parts: IndexPart[] = plain.map((bytes, i) => ({
    id: Buffer.alloc(16, i),
    key: Buffer.alloc(32, i),
    length: bytes.length,
  }));
  const file = (path: string, part: number, offset: number, length: number): IndexFile => ({
    path,
    size: length,
    mode: 0o644,
    sha256: sha256(plain[part]?.subarray(offset, offset + length) ?? Buffer.alloc(0)),
    extents: length ? [{ part, offset, length }] : [],
  });
  const long = 2 ** 20 + 500;
  const files = [
    file('a', 0, 0, 100),
    file('b', 0, 100, long - 100),
    file('c', 1, 0, long),
    file('d', 2, 0, 5),
    file('e', 2, 5, 0),
  ];
  const ciphertexts = parts.map((part, i) =>
    floe(part.key, partAad(part.id, part.length), plain[i] ?? Buffer.alloc(0)),
  );
  const inner = encodeIndex({ files: change.files?.(files) ?? files, parts: change.parts?.(parts) ?? parts });
  const index = floe(indexKey(ck, base.sealId), indexAad(base.sealId), inner);
  const header: Omit<SealHeader, 'policy'> = {
    ...base,
    parts: parts.map((part, i) => ({ id: part.id, length: ciphertexts[i]?.length ?? 0 })),
    index: { length: index.length, sha256: sha256(index) },
  };
  const sections = [encodeHeader(header, owner.key), index, ...ciphertexts].map(padded);
  const offsets = sections.map((_, i) => sections.slice(0, i).reduce((sum, s) => sum + s.length, 0));
  return { ck, bytes: Buffer.concat(sections), sections, offsets, header, plain };
}

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(pad(bytes.length) - bytes.length)]);

function floe(key: Uint8Array, aad: Uint8Array, plain: Uint8Array): Buffer {
  const { header, state } = startEncryption(key, aad);
  const count = segmentCount(plain.length);
  const segments = Array.from({ length: count }, (_, i) =>
    encryptSegment(state, plain.subarray(i * 2 ** 20, (i + 1) * 2 ** 20), i, i === count - 1),
  );
  return Buffer.concat([header, ...segments]);
}
