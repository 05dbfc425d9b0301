import { createPrivateKey, sign } from 'node:crypto';
import { shake256 } from '@noble/hashes/sha3.js';
import { sha256 } from '../../../src/core/bytes.ts';
import { AtomaError } from '../../../src/core/errors.ts';
import { keyId } from '../../../src/keys/keys.ts';
import { truncated } from '../../../src/seal/errors.ts';
import { headerLength, KIND, type ParsedHeader, verifyHeaderSignature } from '../../../src/seal/header.ts';
import { type ByteSource, extract, openIndex, readHeader, type SealIndex } from '../../../src/seal/open.ts';
import { encodePolicy } from '../../../src/seal/policy.ts';
import { findRecipient, openShare, unwrapContentKey } from '../../../src/seal/recipients.ts';
import { combineShares } from '../../../src/seal/shares.ts';
import { concat, decode, encode, type Item, Tag, u32, utf8 } from '../../reference/cbor.ts';
import { PROTECTED, pad, padded, signedBytes } from '../../reference/header.ts';
import { xwingPublic } from '../../reference/hpke.ts';
import { modelDigest } from '../../reference/index-part.ts';
import { Refused } from '../../reference/refused.ts';
import { seal } from '../../reference/sealed.ts';
import { policy, type XWing } from './fixture.ts';

// Small sealed models for the integrity sweeps, the same in every run: the second writer makes them, the toolkit has to refuse what is
// done to them.

const made = (name: string, length: number): Uint8Array => shake256(utf8(name), { dkLen: length });

/** Raw Ed25519 secrets: the owner's, and somebody else's. */
export const OWNER = made('owner', 32);
export const STRANGER = made('stranger', 32);
const ed25519Key = (secret: Uint8Array) =>
  createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), secret]),
    format: 'der',
    type: 'pkcs8',
  });
const KEYS = new Map([OWNER, STRANGER].map((secret) => [secret, ed25519Key(secret)]));

export const xwingOf = (name: string): XWing => {
  const seed = made(`${name} seed`, 32);
  return { seed: Buffer.from(seed), publicRaw: Buffer.from(xwingPublic(seed)) };
};

export interface Small {
  bytes: Buffer;
  ck: Buffer;
  brokers: XWing[];
  recovery: XWing;
  threshold: number;
  contents: Record<string, Buffer>;
  /** The header's payload. */
  payload: Map<number, Item>;
  /** Header, index, parts: as they lie there, with padding. */
  sections: Buffer[];
  /** Random values by the writer's names. */
  random: Map<string, Uint8Array>;
}

/** `salt` makes another model of the same shape. */
export function small(
  shape: { files: number[]; partSize: number; brokers: number; threshold: number; recovery: boolean },
  salt = '',
): Small {
  const random = new Map<string, Uint8Array>();
  const files = shape.files.map((size, i) => ({ path: `d/${i}`, bytes: made(`${salt}file ${i}`, size), mode: 0o644 }));
  const brokers = Array.from({ length: shape.brokers }, (_, i) => xwingOf(`broker ${i + 1}`));
  const recovery = xwingOf('recovery');
  const model = modelDigest(files.map(({ path, bytes }) => ({ path, sha256: new Uint8Array(sha256(bytes)) })));
  const sealed = seal(
    {
      files,
      partSize: shape.partSize,
      owner: OWNER,
      brokers: brokers.map(({ publicRaw }) => new Uint8Array(publicRaw)),
      threshold: shape.threshold,
      ...(shape.recovery ? { recovery: new Uint8Array(recovery.publicRaw) } : {}),
      policy: encodePolicy({ ...policy, model }),
      created: 1_800_000_000,
    },
    (what, length) => {
      const bytes = made(salt + what, length);
      random.set(what, bytes);
      return bytes;
    },
  );
  const bytes = Buffer.from(sealed);
  const payload = payloadOf(bytes);
  const lengths = [
    headerLength(bytes),
    (payload.get(7) as [number])[0],
    ...(payload.get(6) as [Item, number][]).map(([, length]) => length),
  ].map(padded);
  const sections = lengths.map((length, i) => {
    const from = lengths.slice(0, i).reduce((sum, l) => sum + l, 0);
    return bytes.subarray(from, from + length);
  });
  const contents = Object.fromEntries(files.map((file) => [file.path, Buffer.from(file.bytes)]));
  const ck = Buffer.from(random.get('content key CK') ?? []);
  return { bytes, ck, brokers, recovery, threshold: shape.threshold, contents, payload, sections, random };
}

function payloadOf(bytes: Buffer): Map<number, Item> {
  const sign1 = decode(new Uint8Array(bytes.subarray(12, headerLength(bytes)))) as Tag;
  return decode((sign1.value as Uint8Array[])[2] ?? new Uint8Array()) as Map<number, Item>;
}

/** A padded header around any payload, signed by the owner unless somebody else is named. */
export function signHeader(payload: Item | Uint8Array, secret = OWNER): Buffer {
  const bytes = payload instanceof Uint8Array ? payload : encode(payload);
  const key = KEYS.get(secret);
  if (!key) throw new RangeError('no such key');
  const signature = new Uint8Array(sign(null, signedBytes(bytes), key));
  const sign1 = encode(new Tag(18, [PROTECTED, new Map(), bytes, signature]));
  return Buffer.from(pad(concat(utf8('ATSEAL\x01\n'), u32(sign1.length), sign1)));
}

/** The model with another header payload, signed anew; `rest` in place of index and parts. */
export const resigned = (of: Small, payload: Item | Uint8Array, secret = OWNER, rest = of.sections.slice(1)): Buffer =>
  Buffer.concat([signHeader(payload, secret), ...rest]);

export const memory = (bytes: Buffer): ByteSource => ({
  size: bytes.length,
  read: async (offset, length) => {
    if (offset + length > bytes.length) throw truncated('short');
    return bytes.subarray(offset, offset + length);
  },
  close: async () => {},
});

export async function extractAll(source: ByteSource, parsed: ParsedHeader, index: SealIndex, ck: Buffer) {
  const out: Record<string, Buffer> = {};
  await extract(source, parsed, index, ck, {
    open: async ({ path }) => {
      const chunks: Buffer[] = [];
      return {
        write: async (chunk) => void chunks.push(Buffer.from(chunk)),
        close: async () => {
          out[path] = Buffer.concat(chunks);
        },
      };
    },
  });
  return out;
}

/** Who opens: the recovery key, all brokers, or (without any key unwrapped) somebody who has the content key. */
export type By = 'recovery' | 'brokers' | 'ck';

/** All of it, as the toolkit reads it; `owner` is whom it expects. */
export async function openFast(of: Small, bytes: Buffer, by: By, owner?: Uint8Array): Promise<Record<string, Buffer>> {
  const source = memory(bytes);
  const parsed = await readHeader(source);
  verifyHeaderSignature(parsed, owner);
  const ck = by === 'ck' ? of.ck : await contentKey(of, parsed, by);
  return extractAll(source, parsed, await openIndex(source, parsed, ck), ck);
}

async function contentKey(of: Small, { header }: ParsedHeader, by: By): Promise<Buffer> {
  const [first] = of.brokers as [XWing];
  if (by === 'recovery') return unwrapContentKey(header, of.recovery);
  if (of.threshold === 1) return unwrapContentKey(header, first);
  const shares = of.brokers.slice(0, of.threshold).map(({ seed, publicRaw }) => {
    const mine = findRecipient(header, KIND.broker, keyId(publicRaw));
    if (!mine) throw new Refused('ERR_SEAL_RECIPIENT', 'a broker that is not there');
    return openShare(header, mine, seed);
  });
  return combineShares(await Promise.all(shares));
}

/** The code of a refusal; anything else that is thrown is a bug, and so is what opens: both are said in words. */
export async function outcome(run: () => unknown): Promise<string> {
  try {
    await run();
    return 'opened';
  } catch (error) {
    if (error instanceof AtomaError && [2, 3].includes(error.exitCode)) return error.code;
    if (error instanceof Refused) return error.code;
    throw error;
  }
}

/** Runs `each` for every bit from `from` to `to`, flipped in place; gives the codes that came of it. */
export async function flipEvery(
  bytes: Buffer,
  from: number,
  to: number,
  each: () => unknown,
): Promise<Map<string, number>> {
  const codes = new Map<string, number>();
  for (let i = from; i < to; i++) {
    const byte = bytes[i] ?? 0;
    for (let bit = 0; bit < 8; bit++) {
      bytes[i] = byte ^ (1 << bit);
      const code = await outcome(each);
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    bytes[i] = byte;
  }
  return codes;
}
