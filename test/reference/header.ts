import { ed25519 } from '@noble/curves/ed25519.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { concat, decode, encode, type Item, sameBytes, Tag, toHex, u32, utf8 } from './cbor.ts';
import { isStrict, verify } from './ed25519.ts';
import { floeLength } from './floe.ts';
import { checkPolicy } from './policy.ts';
import { Refused } from './refused.ts';

// docs/sealed-model-format.md, "File", "Payload of the header" and steps 1 to 14 of what a reader refuses.

export interface Recipient {
  kind: number;
  keyId: Uint8Array;
  share: number;
  enc: Uint8Array;
  ciphertext: Uint8Array;
  commitment: Uint8Array;
}

export interface Header {
  sealId: Uint8Array;
  epoch: number;
  policy: Uint8Array;
  created: number;
  parts: { id: Uint8Array; length: number }[];
  index: { length: number; sha256: Uint8Array };
  t: number;
  n: number;
  recipients: Recipient[];
  commitment: Uint8Array;
  owner: Uint8Array;
}

export interface ReadHeader extends Header {
  /** Where the index begins. */
  end: number;
  digest: Uint8Array;
}

const MAGIC = concat(utf8('ATSEAL'), new Uint8Array([1, 10]));
const MAX_SIGN1 = 2 ** 20;
export const PROTECTED = encode(
  new Map<number, Item>([
    [1, -8],
    [3, 'application/vnd.atoma.seal+cbor'],
  ]),
);

export const padded = (length: number): number => Math.ceil(length / 4096) * 4096;
export const pad = (bytes: Uint8Array): Uint8Array =>
  concat(bytes, new Uint8Array(padded(bytes.length) - bytes.length));
export const isPadding = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
export const signedBytes = (payload: Uint8Array): Uint8Array =>
  encode(['Signature1', PROTECTED, new Uint8Array(), payload]);

export const encodePayload = (h: Header): Uint8Array =>
  encode(
    new Map<number, Item>([
      [1, 1],
      [2, h.sealId],
      [3, h.epoch],
      [4, h.policy],
      [5, h.created],
      [6, h.parts.map(({ id, length }) => [id, length])],
      [7, [h.index.length, h.index.sha256]],
      [8, [h.t, h.n]],
      [9, h.recipients.map((r) => [r.kind, r.keyId, r.share, r.enc, r.ciphertext, r.commitment])],
      [10, h.commitment],
      [11, []],
      [12, h.owner],
    ]),
  );

/** Without padding. */
export function encodeHeader(payload: Uint8Array, ownerSecret: Uint8Array): Uint8Array {
  const signature = ed25519.sign(signedBytes(payload), ownerSecret);
  const sign1 = encode(new Tag(18, [PROTECTED, new Map(), payload, signature]));
  return concat(MAGIC, u32(sign1.length), sign1);
}

const malformed = (why: string) => new Refused('ERR_SEAL_MALFORMED', why);
const cutOff = (why: string) => new Refused('ERR_SEAL_TRUNCATED', why);

/** Steps 1 to 14. `owner`: refuse any other. */
export function readHeader(file: Uint8Array, owner?: Uint8Array): ReadHeader {
  const begin = file.subarray(0, MAGIC.length);
  if (begin.length === 0 || !sameBytes(begin, MAGIC.subarray(0, begin.length))) throw new Refused('ERR_SEAL_MAGIC', '');
  if (file.length < 12) throw cutOff('prefix');
  const length = new DataView(file.buffer, file.byteOffset).getUint32(8);
  if (length > MAX_SIGN1) throw malformed('length');
  const end = padded(12 + length);
  if (file.length < end) throw cutOff('header');
  if (!isPadding(file.subarray(12 + length, end))) throw new Refused('ERR_SEAL_PADDING', 'header');
  const { payload, signature } = readSign1(file.slice(12, 12 + length));
  const header = readPayload(decodeOr('payload', payload));
  const size = header.parts.reduce((sum, part) => sum + padded(part.length), end + padded(header.index.length));
  if (file.length < size) throw cutOff(`${size} bytes expected`);
  if (file.length > size) throw new Refused('ERR_SEAL_TRAILING', `${size} bytes expected`);
  if (owner && !sameBytes(owner, header.owner)) throw new Refused('ERR_SEAL_OWNER', '');
  if (!verify(signature, signedBytes(payload), header.owner)) throw new Refused('ERR_SEAL_SIGNATURE', '');
  return { ...header, end, digest: sha256(file.subarray(0, 12 + length)) };
}

function decodeOr(what: string, bytes: Uint8Array): Item {
  try {
    return decode(bytes);
  } catch (error) {
    throw new Refused('ERR_CBOR_MALFORMED', `${what}: ${(error as Error).message}`);
  }
}

function readSign1(bytes: Uint8Array): { payload: Uint8Array; signature: Uint8Array } {
  const sign1 = decodeOr('COSE_Sign1', bytes);
  const parts = sign1 instanceof Tag ? sign1.value : null;
  if (!Array.isArray(parts) || parts.length !== 4) throw new Refused('ERR_COSE_MALFORMED', 'not tag 18 of 4');
  const [head, unprotected, payload, signature] = parts;
  if (
    !(head instanceof Uint8Array && unprotected instanceof Map) ||
    !(payload instanceof Uint8Array && signature instanceof Uint8Array)
  )
    throw new Refused('ERR_COSE_MALFORMED', 'types');
  if (!sameBytes(head, PROTECTED) || unprotected.size !== 0) throw malformed('protected or unprotected header');
  return { payload, signature };
}

function readPayload(value: Item): Header {
  if (!(value instanceof Map)) throw malformed('no map');
  if (value.get(1) !== 1) throw new Refused('ERR_SEAL_SUITE', '');
  const critical = value.get(11);
  if (!Array.isArray(critical) || critical.length > 0) throw new Refused('ERR_SEAL_EXTENSION', '');
  if (value.size !== 12) throw malformed('keys');
  const [indexLength, indexHash] = tuple(value.get(7), 2);
  const [t, n] = tuple(value.get(8), 2);
  const header: Header = {
    sealId: bytes(value.get(2), 16),
    epoch: uint(value.get(3), 1),
    policy: bytes(value.get(4)),
    created: uint(value.get(5)),
    parts: list(value.get(6)).map((part) => {
      const [id, length] = tuple(part, 2);
      return { id: bytes(id, 16), length: uint(length, floeLength(1), floeLength(2 ** 34)) };
    }),
    index: { length: uint(indexLength, floeLength(0), 2 ** 26), sha256: bytes(indexHash, 32) },
    t: uint(t, 1, 255),
    n: uint(n, 1, 255),
    recipients: list(value.get(9)).map((recipient) => {
      const [kind, keyId, share, enc, ciphertext, commitment] = tuple(recipient, 6);
      return {
        kind: uint(kind, 0, 65_535),
        keyId: bytes(keyId, 16),
        share: uint(share, 0, 255),
        enc: bytes(enc),
        ciphertext: bytes(ciphertext),
        commitment: bytes(commitment, 32),
      };
    }),
    commitment: bytes(value.get(10), 32),
    owner: bytes(value.get(12), 32),
  };
  checkPolicy(header.policy);
  checkNumbers(header);
  return header;
}

function checkNumbers({ parts, t, n, recipients, owner }: Header): void {
  if (new Set(parts.map(({ id }) => toHex(id))).size !== parts.length) throw malformed('two parts with one id');
  if (t > n || recipients.length > 256) throw malformed('threshold or number of recipients');
  const brokers = recipients.filter(({ kind }) => kind === 1);
  if (brokers.length !== n || brokers.some(({ share }, i) => share !== i + 1)) throw malformed('shares');
  for (const { kind, share, enc, ciphertext } of recipients) {
    if (kind === 2 && share !== 0) throw malformed('the share number of a recovery key');
    if (kind !== 1 && kind !== 2) continue;
    if (enc.length !== 1120 || ciphertext.length !== (kind === 1 && t > 1 ? 49 : 48)) throw malformed('lengths');
  }
  if (!isStrict(owner)) throw malformed('owner key');
}

export function bytes(value: Item | undefined, length?: number): Uint8Array {
  if (!(value instanceof Uint8Array)) throw malformed('no bytes');
  if (length !== undefined && value.length !== length) throw malformed(`${value.length} bytes instead of ${length}`);
  return value;
}

export function uint(value: Item | undefined, min = 0, max = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || value < min || value > max) throw malformed(`no number from ${min} to ${max}`);
  return value;
}

export function list(value: Item | undefined): Item[] {
  if (!Array.isArray(value)) throw malformed('no array');
  return value;
}

export function tuple(value: Item | undefined, length: number): Item[] {
  if (list(value).length !== length) throw malformed(`no array of ${length}`);
  return value as Item[];
}
