import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { isSameFile, requireOtherThan } from '../../../src/core/same-file.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-same-'));
const at = (name: string) => join(dir, name);
afterAll(() => rmSync(dir, { recursive: true }));
mkdirSync(at('model/deep'), { recursive: true });
for (const name of ['owner.key', 'model/weights', 'x.sealed.partial']) writeFileSync(at(name), name);
linkSync(at('owner.key'), at('hard'));
symlinkSync('owner.key', at('soft'));
symlinkSync('model/deep', at('door'));

describe('an output over what it is made from', () => {
  test.each([
    ['a key', 'owner.key', 'owner.key'],
    ['a key by another path', 'model/../owner.key', 'owner.key'],
    ['a hard link of it', 'hard', 'owner.key'],
    ['a link to it', 'soft', 'owner.key'],
    ['a model of one file', 'model/weights', 'model/weights'],
    ['a file of the model', 'model/weights', 'model'],
    ['a new file in the model', 'model/new.sealed', 'model'],
    ['a new file deep in the model, through a link', 'door/new.sealed', 'model'],
    ['what OUT.partial would replace', 'x.sealed', 'x.sealed.partial'],
  ])('%s: refused', async (_, out, input) => {
    await expect(requireOtherThan(at(out), [undefined, at('none'), at(input)])).rejects.toMatchObject({
      code: 'ERR_OUTPUT_INPUT',
      exitCode: 2,
    });
  });

  test('anything else is not: beside the model, of a similar name, where no directory is', async () => {
    for (const out of ['new.sealed', 'model.sealed', 'model-2/x.sealed', 'x.sealed.partial'])
      await requireOtherThan(at(out), [at('model'), at('owner.key'), at('none')]);
    expect(await isSameFile(at('none'), at('none'))).toBe(false);
  });
});
