import { expect, test } from 'vitest';
import { describe } from '../../../src/cli/describe.ts';

test('a hostile file with more keys than a call has arguments is described', () => {
  const keys = Array.from({ length: 300_000 }, (_, i) => [`k${i}`, i]);
  expect(describe(Object.fromEntries(keys)).split('\n')).toHaveLength(keys.length);
});
