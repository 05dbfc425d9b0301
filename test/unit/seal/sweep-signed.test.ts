/**
 * Integrity sweep of what the signature would have caught first: the header's fields changed and signed again, by the owner and by a
 * stranger. The owner may say much, but nobody's share opens for what it was not made for. Both readers are asked.
 */
import { ed25519 } from '@noble/curves/ed25519.js';
import { describe, expect, test } from 'vitest';
import { encode, type Item } from '../../reference/cbor.ts';
import { open } from '../../reference/sealed.ts';
import { OWNER, openFast, outcome, resigned, type Small, STRANGER, small } from './sweep-model.ts';

const SHAPE = { files: [20, 0, 15], partSize: 18, brokers: 3, threshold: 2, recovery: true };
const model = small(SHAPE);
const other = small(SHAPE, 'other');

type Payload = Map<number, Item>;
/** A copy, deep enough to edit. */
const copy = (item: Item): Item =>
  Array.isArray(item)
    ? item.map(copy)
    : item instanceof Uint8Array
      ? item.slice()
      : item instanceof Map
        ? new Map([...item].map(([key, value]) => [key, copy(value)]))
        : item;
const edited = (edit: (payload: Payload) => void, of = model): Payload => {
  const payload = copy(of.payload) as Payload;
  edit(payload);
  return payload;
};
const listOf = (payload: Payload, key: number) => payload.get(key) as Item[][];

/** Where both kinds of malformed overlap, either reader may say either. */
const SAME: Record<string, string> = {
  ERR_CBOR_MALFORMED: 'malformed',
  ERR_SEAL_MALFORMED: 'malformed',
  ERR_POLICY_INVALID: 'malformed',
};
const alike = (code: string) => SAME[code] ?? code;

/** What the toolkit says; the second reader must say the same. What opens must be the model. */
async function judge(file: Buffer, by: 'recovery' | 'brokers', of: Small = model, owner?: Uint8Array): Promise<string> {
  const plain = new Uint8Array(file);
  const seeds = of.brokers.slice(0, of.threshold).map(({ seed }) => new Uint8Array(seed));
  const keys = by === 'recovery' ? { recovery: new Uint8Array(of.recovery.seed) } : { brokers: seeds };
  const code = await outcome(async () => expect(await openFast(of, file, by, owner)).toEqual(of.contents));
  const second = await outcome(() => {
    for (const [path, { bytes }] of open(plain, keys, owner).files) expect(of.contents[path]?.equals(bytes)).toBe(true);
  });
  if (alike(code) !== alike(second)) expect({ toolkit: code, second }).toBeNull();
  return code;
}

const both = async (file: Buffer, owner?: Uint8Array) => [
  await judge(file, 'recovery', model, owner),
  await judge(file, 'brokers', model, owner),
];

test('untouched and signed again, it opens for both', async () => {
  expect(await both(resigned(model, model.payload))).toEqual(['opened', 'opened']);
});

const CBOR = 'ERR_CBOR_MALFORMED';
const MALFORMED = 'ERR_SEAL_MALFORMED';
const SHARE = 'ERR_SEAL_SHARE';
/** What a changed bit in a field comes to when the owner signs it. Recipients: below. */
const CODES: Record<number, string[]> = {
  1: [CBOR, 'ERR_SEAL_SUITE'],
  2: [CBOR, SHARE],
  3: [CBOR, MALFORMED, SHARE],
  4: [CBOR, 'ERR_POLICY_INVALID', SHARE],
  // The owner may say any time.
  5: [CBOR, MALFORMED, 'opened'],
  6: [CBOR, 'ERR_SEAL_INDEX'],
  7: [CBOR, 'ERR_SEAL_TAMPERED'],
  8: [CBOR, MALFORMED, SHARE],
  10: [CBOR, 'ERR_SEAL_KEY'],
  11: [CBOR, 'ERR_SEAL_EXTENSION'],
  // Signed by another key than it names.
  12: [CBOR, 'ERR_SEAL_SIGNATURE'],
};

describe('a bit of every byte, signed by the owner:', () => {
  test.each(Object.keys(CODES).map(Number))('field %i', async (key) => {
    const before = encode(new Map([...model.payload].filter(([k]) => k < key))).length + 1;
    const bytes = encode(model.payload);
    const seen = new Set<string>();
    const length = encode(model.payload.get(key) ?? 0).length;
    // A bit of every byte; of every third in the policy, and every bit of what is short.
    for (let bit = 0; bit < 8 * length; bit += length < 6 ? 1 : length < 200 ? 9 : 27) {
      const changed = bytes.slice();
      const at = before + (bit >> 3);
      changed[at] = (bytes[at] ?? 0) ^ (1 << (bit % 8));
      const [recovery = '', brokers = ''] = await both(resigned(model, changed));
      expect(brokers).toBe(recovery);
      seen.add(recovery);
    }
    expect([...seen].toSorted()).toEqual(CODES[key]?.toSorted());
  });

  const flip = (value: Item, at = 0): Item =>
    typeof value === 'number' ? value ^ 1 : (value as Uint8Array).map((byte, i) => (i === at ? byte ^ 4 : byte));
  const FIELDS = ['kind', 'key id', 'share number', 'enc', 'ciphertext', 'share commitment'] as const;
  /** For the recovery key and for the brokers; recipients 0 and 1 are the two brokers that are asked, 2 is a third, 3 the recovery key. */
  function expected(r: number, field: (typeof FIELDS)[number]): [string, string] {
    if (field === 'share number' || (field === 'kind' && r < 3)) return [MALFORMED, MALFORMED];
    const code = field === 'kind' || field === 'key id' ? 'ERR_SEAL_RECIPIENT' : SHARE;
    return [r === 3 ? code : 'opened', r < 2 ? code : 'opened'];
  }
  test.each([0, 1, 2, 3])('recipient %i, each of its fields: nobody but who it concerns is kept out', async (r) => {
    for (const [i, field] of FIELDS.entries()) {
      const value = listOf(model.payload, 9)[r]?.[i] ?? 0;
      const places = value instanceof Uint8Array ? [0, 15, 31, 1087, 1119].filter((at) => at < value.length) : [0];
      for (const at of places) {
        const file = resigned(
          model,
          edited((p) => listOf(p, 9)[r]?.splice(i, 1, flip(value, at))),
        );
        expect({ field, at, codes: await both(file) }).toEqual({ field, at, codes: expected(r, field) });
      }
    }
  });
});

describe('fields and recipients, moved about and signed by the owner:', () => {
  const swap = (list: unknown[], i: number, j: number) => {
    [list[i], list[j]] = [list[j], list[i]];
  };
  const recipients = (p: Payload) => listOf(p, 9);
  /** After another edit. */
  const numbered = (p: Payload, _: unknown) => {
    let share = 0;
    for (const recipient of recipients(p)) if (recipient[0] === 1) recipient[2] = ++share;
  };
  const cases: [string, (payload: Payload) => void, string, string?][] = [
    ['two brokers swapped', (p) => swap(recipients(p), 0, 1), MALFORMED],
    ['two brokers swapped and numbered anew', (p) => numbered(p, swap(recipients(p), 0, 1)), 'opened', SHARE],
    ['a broker left out', (p) => recipients(p).splice(0, 1), MALFORMED],
    ['a broker left out, two of two', (p) => [recipients(p).splice(2, 1), p.set(8, [2, 2])], SHARE],
    ['a broker twice', (p) => recipients(p).splice(1, 0, recipients(p)[0] ?? []), MALFORMED],
    ['a broker in place of another', (p) => recipients(p).splice(1, 1, [...(recipients(p)[0] ?? [])]), MALFORMED],
    [
      'a broker in place of another, numbered',
      (p) => numbered(p, recipients(p).splice(1, 1, [...(recipients(p)[0] ?? [])])),
      'opened',
      'ERR_SEAL_RECIPIENT',
    ],
    ['enc of another broker', (p) => recipients(p)[0]?.splice(3, 1, recipients(p)[1]?.[3] ?? 0), 'opened', SHARE],
    ["another model's recipients", (p) => p.set(9, other.payload.get(9) ?? 0), SHARE],
    ["another model's policy", (p) => p.set(4, other.payload.get(4) ?? 0), SHARE],
    ["another model's seal id and recipients", (p) => [2, 9].map((k) => p.set(k, other.payload.get(k) ?? 0)), SHARE],
    [
      "another model's shares whole: seal id, policy, recipients",
      (p) => [2, 4, 9].map((k) => p.set(k, other.payload.get(k) ?? 0)),
      'ERR_SEAL_KEY',
    ],
    [
      "another model's key as well",
      (p) => [2, 4, 9, 10].map((k) => p.set(k, other.payload.get(k) ?? 0)),
      'ERR_SEAL_TAMPERED',
    ],
    ['the recovery key left out', (p) => recipients(p).splice(3, 1), 'ERR_SEAL_RECIPIENT', 'opened'],
    ['any one broker is enough', (p) => p.set(8, [1, 3]), MALFORMED],
    ['all three are needed', (p) => p.set(8, [3, 3]), SHARE],
    ['four of three', (p) => p.set(8, [4, 3]), MALFORMED],
    ['epoch 2 with the shares of epoch 1', (p) => p.set(3, 2), SHARE],
    ['parts swapped', (p) => swap(listOf(p, 6), 0, 1), 'ERR_SEAL_INDEX'],
    ['a part twice', (p) => listOf(p, 6).splice(1, 1, listOf(p, 6)[0] ?? []), MALFORMED],
    ['a part left out', (p) => listOf(p, 6).splice(1, 1), 'ERR_SEAL_TRAILING'],
    ['a part more', (p) => listOf(p, 6).push([new Uint8Array(16), 200]), 'ERR_SEAL_TRUNCATED'],
    ['a part longer within its padding', (p) => listOf(p, 6)[1]?.splice(1, 1, 200), 'ERR_SEAL_INDEX'],
    ['an index longer within its padding', (p) => listOf(p, 7).splice(0, 1, 400 as never), 'ERR_SEAL_TAMPERED'],
    ['an extension', (p) => p.set(11, ['x']), 'ERR_SEAL_EXTENSION'],
    ['a field more', (p) => p.set(13, 0), MALFORMED],
    ['another suite', (p) => p.set(1, 2), 'ERR_SEAL_SUITE'],
  ];
  test.each(cases)('%s', async (_, edit, code, brokers = code) => {
    expect(await both(resigned(model, edited(edit)))).toEqual([code, brokers]);
  });

  test('each field left out, or of another type', async () => {
    for (const key of model.payload.keys()) {
      const missing = edited((p) => p.delete(key));
      const code = key === 1 ? 'ERR_SEAL_SUITE' : key === 11 ? 'ERR_SEAL_EXTENSION' : MALFORMED;
      expect(await judge(resigned(model, missing), 'recovery')).toBe(code);
      for (const value of [-1, 'x', new Uint8Array(3), [1, 2, 3], new Map()] as Item[]) {
        const found = await judge(
          resigned(
            model,
            edited((p) => p.set(key, value)),
          ),
          'recovery',
        );
        // Three bytes are a policy, though not one that is CBOR.
        expect({ key, value, found }).toEqual({
          key,
          value,
          found: key === 4 && value instanceof Uint8Array ? CBOR : code,
        });
      }
    }
  });

  test('a part and its place left out of the header and the file', async () => {
    const payload = edited((p) => listOf(p, 6).splice(1, 1));
    expect(await both(resigned(model, payload, OWNER, model.sections.slice(1, 3)))).toEqual([
      'ERR_SEAL_INDEX',
      'ERR_SEAL_INDEX',
    ]);
  });
});

describe('signed by a stranger:', () => {
  const owner = ed25519.getPublicKey(OWNER);
  test('in their own name: another owner to who expects the right one; to others the shares do not open', async () => {
    const file = resigned(
      model,
      edited((p) => p.set(12, ed25519.getPublicKey(STRANGER))),
      STRANGER,
    );
    expect(await both(file, owner)).toEqual(['ERR_SEAL_OWNER', 'ERR_SEAL_OWNER']);
    expect(await both(file)).toEqual([SHARE, SHARE]);
  });

  test("in the owner's name", async () => {
    const file = resigned(model, model.payload, STRANGER);
    expect(await both(file, owner)).toEqual(['ERR_SEAL_SIGNATURE', 'ERR_SEAL_SIGNATURE']);
  });
});
