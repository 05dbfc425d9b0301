import { expect, test } from 'vitest';
import { parsePax } from '../../../src/oci/layer-header.ts';

// Found by `npm run fuzz -- --target oci-layer`: the reader went over the first record for ever.
test.each(['11 path=ab\nrubbish', '11 path=ab\n\n', '11 path=ab\n0', '11 path=ab\n0 a=b\n'])(
  'an extended header with a record that has no length is malformed: %j',
  (text) => expect(parsePax(Buffer.from(text))).toBe('an extended header is malformed'),
);

test('an extended header with one record is read', () =>
  expect(parsePax(Buffer.from('11 path=ab\n'))).toEqual({ path: Buffer.from('ab') }));
