import { ed25519 } from '@noble/curves/ed25519.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { concat } from './cbor.ts';
import { floeEncrypt } from './floe.ts';
import { encodeHeader, encodePayload, pad, type Recipient, signedBytes } from './header.ts';
import { hpkeSeal } from './hpke.ts';
import { encodeIndex, type IndexFile } from './index-part.ts';
import { type Context, derive, indexAad, keyId, partAad, shareCommitment, shareInfo } from './keys.ts';
import type { Trace } from './refused.ts';
import { split } from './shamir.ts';

export interface SealInput {
  /** Sorted by path. Each goes to the end of the last part, until that is full. */
  files: { path: string; bytes: Uint8Array; mode: number }[];
  partSize: number;
  /** Ed25519 secret, 32 bytes. */
  owner: Uint8Array;
  /** Raw X-Wing public keys. */
  brokers: Uint8Array[];
  threshold: number;
  recovery?: Uint8Array;
  /** dCBOR. */
  policy: Uint8Array;
  created: number;
  epoch?: number;
}

/** `random` is asked for everything random, by name, in a fixed order; `trace` is told everything else. */
export function seal(
  input: SealInput,
  random: (what: string, length: number) => Uint8Array,
  trace: Trace = () => {},
): Uint8Array {
  const sealId = random('seal id', 16);
  const ck = random('content key CK', 32);
  const { files, payloads } = layOut(input);
  const commitment = derive(ck, 'commit', sealId);
  const indexKey = derive(ck, 'index', sealId);
  trace('key commitment CC = X("commit")', commitment);
  trace('index key = X("index")', indexKey);

  const parts = payloads.map((plaintext, i) => {
    const name = `part ${i + 1}`;
    trace(`${name}: plaintext`, plaintext);
    const [id, key] = [random(`${name}: part id`, 16), random(`${name}: part key`, 32)];
    const [aad, rand, tell] = [partAad(id, plaintext.length), within(name, random), within(name, trace)];
    return { id, key, length: plaintext.length, ciphertext: floeEncrypt(key, aad, plaintext, rand, tell) };
  });
  const plainIndex = encodeIndex({ files, parts });
  trace('index: plaintext', plainIndex);
  const sealedIndex = floeEncrypt(
    indexKey,
    indexAad(sealId),
    plainIndex,
    within('index', random),
    within('index', trace),
  );
  trace('index: SHA-256 of its ciphertext', sha256(sealedIndex));

  const owner = ed25519.getPublicKey(input.owner);
  const { threshold: t, epoch = 1, policy } = input;
  const context: Context = { sealId, epoch, policy, owner, t, n: input.brokers.length };
  const payload = encodePayload({
    ...context,
    created: input.created,
    parts: parts.map(({ id, ciphertext }) => ({ id, length: ciphertext.length })),
    index: { length: sealedIndex.length, sha256: sha256(sealedIndex) },
    recipients: wrap(context, input, ck, random, trace),
    commitment,
  });
  trace('header: payload', payload);
  const signed = signedBytes(payload);
  trace('header: what is signed, up to the payload', signed.slice(0, signed.length - payload.length));
  const header = encodeHeader(payload, input.owner);
  trace('header: signature', header.slice(-64));
  trace('header digest', sha256(header));
  return concat(...[header, sealedIndex, ...parts.map(({ ciphertext }) => ciphertext)].map(pad));
}

const within =
  <A, R>(where: string, call: (what: string, value: A) => R) =>
  (what: string, value: A): R =>
    call(`${where}: ${what}`, value);

function wrap(
  context: Context,
  { brokers, recovery, threshold }: SealInput,
  ck: Uint8Array,
  random: (what: string, length: number) => Uint8Array,
  trace: Trace,
): Recipient[] {
  const coefficients = Array.from({ length: threshold - 1 }, (_, i) => random(`coefficients of x^${i + 1}`, 32));
  const shares =
    threshold === 1
      ? brokers.map(() => ck)
      : split(
          ck,
          brokers.map((_, i) => 7 * (i + 1)),
          coefficients,
        );
  const one = (kind: number, number: number, name: string, publicRaw: Uint8Array, plaintext: Uint8Array): Recipient => {
    const info = shareInfo(context, number);
    const commitment = shareCommitment(context, number, plaintext);
    trace(`${name}: plaintext`, plaintext);
    trace(`${name}: key id`, keyId(publicRaw));
    trace(`${name}: HPKE info`, info);
    const sealed = hpkeSeal(publicRaw, info, plaintext, within(name, random), within(name, trace));
    trace(`${name}: enc`, sealed.enc);
    trace(`${name}: ciphertext`, sealed.ciphertext);
    trace(`${name}: share commitment`, commitment);
    return { kind, keyId: keyId(publicRaw), share: number, ...sealed, commitment };
  };
  const recipients = brokers.map((key, i) => one(1, i + 1, `broker ${i + 1}`, key, shares[i] ?? ck));
  return recovery ? [...recipients, one(2, 0, 'recovery', recovery, ck)] : recipients;
}

/** One file after the other; a part ends when it is full. */
function layOut({ files, partSize }: SealInput): { files: IndexFile[]; payloads: Uint8Array[] } {
  const all = concat(...files.map(({ bytes }) => bytes));
  const payloads: Uint8Array[] = [];
  for (let i = 0; i < all.length; i += partSize) payloads.push(all.slice(i, i + partSize));
  let at = 0;
  const laid = files.map(({ path, mode, bytes }) => {
    const extents: IndexFile['extents'] = [];
    for (let left = bytes.length; left > 0; ) {
      const offset = at % partSize;
      const length = Math.min(left, partSize - offset);
      extents.push({ part: Math.floor(at / partSize) + 1, offset, length });
      at += length;
      left -= length;
    }
    return { path, size: bytes.length, mode, sha256: sha256(bytes), extents };
  });
  return { files: laid, payloads };
}
