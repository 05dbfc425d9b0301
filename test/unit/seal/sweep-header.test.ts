/** Integrity sweep of the header, exhaustive: no bit of it can be flipped, and no length but its own opens. No key is needed to refuse. */
import { describe, expect, test } from 'vitest';
import { headerLength, verifyHeaderSignature } from '../../../src/seal/header.ts';
import { readHeader } from '../../../src/seal/open.ts';
import { encode } from '../../reference/cbor.ts';
import { flipEvery, memory, openFast, outcome, small } from './sweep-model.ts';

const model = small({ files: [20, 0, 20], partSize: 25, brokers: 1, threshold: 1, recovery: false });
const { bytes, payload } = model;
const end = headerLength(bytes);

test('untouched, it opens', async () => {
  expect(await openFast(model, bytes, 'brokers')).toEqual(model.contents);
});

/** Where each field of the payload lies: [from, to) in the file. */
function fields(): { name: string; from: number; to: number }[] {
  let at = bytes.indexOf(encode(payload)) + 1;
  const found = [...payload].map(([key, value]) => {
    const from = at;
    at += 1 + encode(value).length;
    return { name: `field ${key}`, from, to: at };
  });
  const begin = (found[0]?.from ?? 0) - 1;
  return [
    { name: 'magic', from: 0, to: 8 },
    { name: 'length', from: 8, to: 12 },
    { name: 'envelope', from: 12, to: begin },
    { name: 'map', from: begin, to: begin + 1 },
    ...found,
    { name: 'signature', from: at, to: end },
    { name: 'padding', from: end, to: Math.ceil(end / 4096) * 4096 },
  ];
}

const CBOR = 'ERR_CBOR_MALFORMED';
const MALFORMED = 'ERR_SEAL_MALFORMED';
const SIGNATURE = 'ERR_SEAL_SIGNATURE';
/** All that a flipped bit may be called, by where it is; each of them comes up. */
const CODES: Record<string, string[]> = {
  magic: ['ERR_SEAL_MAGIC'],
  // Shorter: the end of the envelope is padding that is not zero. Longer: zeros after the envelope, or no file of that length.
  length: [CBOR, MALFORMED, 'ERR_SEAL_PADDING', 'ERR_SEAL_TRUNCATED'],
  envelope: [CBOR, 'ERR_COSE_MALFORMED', MALFORMED],
  map: [CBOR],
  'field 1': [CBOR, 'ERR_SEAL_SUITE'],
  'field 2': [CBOR, SIGNATURE],
  'field 3': [CBOR, MALFORMED, SIGNATURE],
  'field 4': [CBOR, 'ERR_POLICY_INVALID', SIGNATURE],
  'field 5': [CBOR, MALFORMED, SIGNATURE],
  'field 6': [CBOR, MALFORMED, SIGNATURE],
  'field 7': [CBOR, MALFORMED, SIGNATURE, 'ERR_SEAL_TRUNCATED'],
  'field 8': [CBOR, MALFORMED],
  'field 9': [CBOR, MALFORMED, SIGNATURE],
  'field 10': [CBOR, SIGNATURE],
  'field 11': [CBOR, 'ERR_SEAL_EXTENSION'],
  'field 12': [CBOR, MALFORMED, SIGNATURE],
  signature: [CBOR, SIGNATURE],
  padding: ['ERR_SEAL_PADDING'],
};

/** What anybody does before a key is used. */
const check = async (file: Buffer) => verifyHeaderSignature(await readHeader(memory(file)));

describe('every bit, flipped, is refused before a key is used:', () => {
  test.each(fields())('$name', async ({ name, from, to }) => {
    const codes = await flipEvery(bytes, from, to, () => check(bytes));
    expect([...codes.keys()].toSorted()).toEqual(CODES[name]?.toSorted());
  });
});

test('every length that it can be cut to', async () => {
  for (let length = 0; length < bytes.length; length++) {
    const code = await outcome(() => check(bytes.subarray(0, length)));
    if (code !== (length === 0 ? 'ERR_SEAL_MAGIC' : 'ERR_SEAL_TRUNCATED')) expect({ length, code }).toBeNull();
  }
});

test('bytes after it: zeros, its own last section, itself', async () => {
  const tail = model.sections.at(-1) ?? Buffer.alloc(0);
  for (const more of [...[1, 2, 31, 32, 4095, 4096, 4097, 8192].map((n) => Buffer.alloc(n)), tail, bytes]) {
    expect(await outcome(() => check(Buffer.concat([bytes, more])))).toBe('ERR_SEAL_TRAILING');
  }
});

test('every byte of the header left out, or there twice', async () => {
  for (let i = 0; i < end; i++) {
    const [before, after] = [bytes.subarray(0, i), bytes.subarray(i)];
    for (const file of [
      Buffer.concat([before, after.subarray(1)]),
      Buffer.concat([before, after.subarray(0, 1), after]),
    ]) {
      const code = await outcome(() => check(file));
      if (!/^ERR_(SEAL|CBOR|COSE|POLICY)_/.test(code)) expect({ i, code }).toBeNull();
    }
  }
});
