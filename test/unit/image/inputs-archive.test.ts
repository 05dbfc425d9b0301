import { expect, test } from 'vitest';
import { parseArchiveIndex } from '../../../src/image/inputs-archive.ts';

const index = (path: string) =>
  Buffer.from(JSON.stringify({ version: 1, lock: 'a'.repeat(64), blobs: [], project: [{ path, type: 'dir' }] }));

test('an index with a second lock, or a name that no file system holds, is malformed and no failed write', () => {
  for (const path of ['atoma-tee.lock', 'a'.repeat(256), `a/${'é'.repeat(128)}`, '../a', 'a//b']) {
    expect(() => parseArchiveIndex(index(path))).toThrow(
      expect.objectContaining({ code: 'ERR_INPUTS_MALFORMED', exitCode: 2 }),
    );
  }
  expect(parseArchiveIndex(index('app/atoma-tee.lock')).project).toHaveLength(1);
});
