/**
 * Integrity sweep of the index's plaintext: every bit of it, encrypted and signed anew by somebody who has both content key and owner key.
 * Even then no bytes come out that were not sealed, and a model that is not the policy's is seen to be another.
 */
import { hmac } from '@noble/hashes/hmac.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { expect, test } from 'vitest';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { encryptSegment, startEncryption } from '../../../src/seal/floe.ts';
import { extract, openIndex, readHeader } from '../../../src/seal/open.ts';
import { concat, encode, type Item, utf8 } from '../../reference/cbor.ts';
import { floeDecrypt, floeEncrypt } from '../../reference/floe.ts';
import { pad } from '../../reference/header.ts';
import { memory, outcome, resigned, small } from './sweep-model.ts';

const model = small({ files: [20, 0, 15], partSize: 18, brokers: 1, threshold: 1, recovery: false });
const sealId = model.payload.get(2) as Uint8Array;
const key = hmac(
  sha512,
  new Uint8Array(model.ck),
  concat(utf8('atoma-tee/seal/v1/index\0'), sealId, new Uint8Array([1])),
).slice(0, 32);
const aad = encode(['atseal/1 index', sealId]);
const [length] = model.payload.get(7) as [number];
const sealedIndex = new Uint8Array(model.sections[1]?.subarray(0, length) ?? []);
const plain = floeDecrypt(key, aad, sealedIndex);

/** The whole model with this index. */
function withIndex(index: Uint8Array): Buffer {
  const { header, state } = startEncryption(key, aad, undefined, Buffer.alloc(32, 7));
  const ciphertext = concat(header, encryptSegment(state, index, 0, true));
  const payload = new Map(model.payload).set(7, [ciphertext.length, new Uint8Array(sha256(ciphertext))] as Item);
  return resigned(model, payload, undefined, [Buffer.from(pad(ciphertext)), ...model.sections.slice(2)]);
}

async function open(file: Buffer) {
  const source = memory(file);
  const parsed = await readHeader(source);
  const index = await openIndex(source, parsed, model.ck);
  const chunks: Buffer[] = [];
  const sink = { write: async (chunk: Uint8Array) => void chunks.push(Buffer.from(chunk)), close: async () => {} };
  const { digest } = await extract(source, parsed, index, model.ck, { open: async () => sink });
  return { digest, parsed, index, bytes: Buffer.concat(chunks) };
}

test('every bit of the index, flipped, encrypted and signed', async () => {
  const good = await open(withIndex(plain));
  expect(good.digest).toBe(good.parsed.header.policy.model);
  const seen = new Map<string, number>();
  for (let bit = 0; bit < 8 * plain.length; bit++) {
    const changed = plain.slice();
    changed[bit >> 3] = (plain[bit >> 3] ?? 0) ^ (1 << (bit % 8));
    const code = await outcome(async () => {
      const opened = await open(withIndex(changed));
      // A name or the permissions are other ones: the owner's word. The bytes are those that were sealed.
      expect(hex(opened.bytes)).toBe(hex(good.bytes));
      const renamed = opened.index.files.some(({ path }, i) => path !== good.index.files[i]?.path);
      expect(opened.digest === good.digest).toBe(!renamed);
    });
    seen.set(code, (seen.get(code) ?? 0) + 1);
  }
  // Structure, ids, lengths; part keys; digests of files; what is only the owner's word.
  expect([...seen.keys()].toSorted()).toEqual(['ERR_SEAL_DIGEST', 'ERR_SEAL_INDEX', 'ERR_SEAL_TAMPERED', 'opened']);
  expect(seen.get('ERR_SEAL_DIGEST')).toBe(3 * 32 * 8);
  expect(seen.get('ERR_SEAL_TAMPERED')).toBe(2 * 32 * 8);
});

test('a part with nothing in it, in front, between or at the end', async () => {
  const { index, parsed } = await open(withIndex(plain));
  expect(parsed.header.parts).toHaveLength(2);
  for (const at of [0, 1, 2]) {
    const part = { id: new Uint8Array(16).fill(1), key: new Uint8Array(32), length: 0 };
    const parts = index.parts.toSpliced(at, 0, part);
    const files = index.files.map((f) => [
      f.path,
      f.size,
      f.mode,
      new Uint8Array(f.sha256),
      f.extents.map((e) => [e.part + 1 + (e.part >= at ? 1 : 0), e.offset, e.length] as Item),
    ]) as Item[];
    const bytes = encode(
      new Map<number, Item>([
        [1, files],
        [2, parts.map((p) => [new Uint8Array(p.id), new Uint8Array(p.key), p.length] as Item)],
      ]),
    );
    const empty = floeEncrypt(
      part.key,
      encode(['atseal/1 part', part.id, 0]),
      new Uint8Array(),
      (_, n) => new Uint8Array(n),
    );
    const ciphertext = floeEncrypt(key, aad, bytes, (_, n) => new Uint8Array(n).fill(7));
    const payload = new Map(model.payload)
      .set(7, [ciphertext.length, new Uint8Array(sha256(ciphertext))] as Item)
      .set(6, (model.payload.get(6) as Item[]).toSpliced(at, 0, [part.id, empty.length]));
    const rest = model.sections.slice(2).toSpliced(at, 0, Buffer.from(pad(empty)));
    const file = resigned(model, payload, undefined, [Buffer.from(pad(ciphertext)), ...rest]);
    expect({ at, code: await outcome(() => open(file)) }).toEqual({ at, code: 'ERR_SEAL_MALFORMED' });
  }
});

test('an index cut in another way: full segments and an empty one after them', async () => {
  const MIB = 2 ** 20;
  const file = (i: number, length: number): Item => [
    `${String(i).padStart(6, '0')}${'x'.repeat(length - 6)}`,
    0,
    0o644,
    new Uint8Array(sha256()),
    [],
  ];
  const encoded = (files: Item[]) =>
    encode(
      new Map<number, Item>([
        [1, files],
        [2, []],
      ]),
    );
  const files = Array.from({ length: 4300 }, (_, i) => file(i, 200));
  const missing = MIB - encoded(files).length;
  // Each name can take 50 bytes more.
  for (let i = 0, left = missing; left > 0; i++, left -= 50) files[i] = file(i, 200 + Math.min(50, left));
  const full = encoded(files);
  expect(full.length).toBe(MIB);
  const seal = (ciphertext: Uint8Array) => {
    const payload = new Map(model.payload)
      .set(7, [ciphertext.length, new Uint8Array(sha256(ciphertext))] as Item)
      .set(6, []);
    return resigned(model, payload, undefined, [Buffer.from(pad(ciphertext))]);
  };
  const once = floeEncrypt(key, aad, full, (_, n) => new Uint8Array(n).fill(7));
  expect(await outcome(() => open(seal(once)))).toBe('opened');
  // With a byte more there are two segments, the first of them not final; the second is replaced by an empty one.
  const { state } = startEncryption(key, aad, undefined, Buffer.alloc(32, 7));
  const longer = floeEncrypt(key, aad, concat(full, new Uint8Array(1)), (_, n) => new Uint8Array(n).fill(7));
  const last = encryptSegment(state, new Uint8Array(), 1, true);
  const doubled = seal(concat(longer.subarray(0, longer.length - 33), new Uint8Array(last)));
  await expect(open(doubled)).rejects.toThrow('ends in an empty segment');
});
