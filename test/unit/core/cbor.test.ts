import { expect, test } from 'vitest';
import { decodeCbor } from '../../../src/core/cbor.ts';

test.each([
  ['a map with lists for keys', 'a2810101810203'],
  ['a map with a number and a list for keys', 'a20101810203'],
  ['two equal list keys', 'a2810102810103'],
  ['a million nested lists', '81'.repeat(1 << 20)],
  ['a list that says it has 2^53 items', '9b001fffffffffffff'],
  ['a byte string that says it has 2^64 bytes', '5bffffffffffffffff'],
  ['a number in a longer form than it needs', '1800'],
  ['a bignum', 'c249010000000000000000'],
])('a CBOR bomb is malformed input, nothing worse: %s', (_, hex) => {
  const bytes = Buffer.from(hex, 'hex');
  expect(() => decodeCbor(bytes, { what: 'x', maxBytes: 1 << 21 })).toThrow(
    expect.objectContaining({ code: 'ERR_CBOR_MALFORMED', exitCode: 2 }),
  );
});
