import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Cache, CacheCorruption } from '../../../src/image/cache.ts';
import type { Lock } from '../../../src/image/lock-file.ts';
import { storedBySha256 } from '../../../src/kernel/store.ts';
import { chooseKernel } from '../../../src/tasks/build/kernel.ts';
import { tinyBzImage } from '../kernel/tiny.ts';
import { sha256, temporaryDirectory } from './fixtures.ts';

type Project = Parameters<typeof chooseKernel>[0];
const bytes = tinyBzImage('6.1.2');
const pin = { size: bytes.length, sha256: sha256(bytes) };

async function small() {
  const cache = await Cache.open(join(temporaryDirectory(), 'cache'));
  const dir = join(cache.dir, 'kernels', 'a'.repeat(64));
  mkdirSync(dir, { recursive: true });
  const tools = { gcc: '', ld: '', make: '', flex: '', bison: '', gzip: '' };
  const source = { name: 'linux-source', version: '6.1.2', sha256: 'b'.repeat(64) };
  const inputs = { recipe: 1, source, config: 'c'.repeat(64), variables: {}, tools };
  const record = { version: '6.1.2', ...pin, configSha256: sha256('config'), inputs };
  writeFileSync(join(dir, 'bzImage'), bytes);
  writeFileSync(join(dir, 'config'), 'config');
  writeFileSync(join(dir, 'kernel.json'), JSON.stringify(record));
  expect(await storedBySha256(cache, pin.sha256)).not.toBeNull();
  const project = { dir: '/', config: { nitro: { kernel: 'small' } } } as unknown as Project;
  const lock = (more = {}) =>
    ({ kernel: { version: '6.1.2', inputs: 'd'.repeat(64), ...pin, ...more } }) as unknown as Lock;
  return { cache, dir, choose: (more = {}) => chooseKernel(project, lock(more), cache, []) };
}

test.each([{ version: '99.9' }, { size: 5 }])(
  'a small kernel of which the lock says something else: %o',
  async (more) => {
    const { choose } = await small();
    await expect(choose(more)).rejects.toMatchObject({ code: 'ERR_INPUT_DIGEST', exitCode: 3 });
  },
);

test('a small kernel exchanged in the cache after it was compared is not written', async () => {
  const { dir, choose } = await small();
  const { part } = await choose();
  const evil = Buffer.from(bytes);
  evil[evil.length - 1] = (evil.at(-1) ?? 0) ^ 1;
  writeFileSync(join(dir, 'new'), evil);
  renameSync(join(dir, 'new'), join(dir, 'bzImage'));
  const read = async () => {
    for await (const _ of part.chunks());
  };
  await expect(read()).rejects.toBeInstanceOf(CacheCorruption);
});

test('a kernel file whose size the lock states wrongly', async () => {
  const dir = temporaryDirectory();
  writeFileSync(join(dir, 'bz'), bytes);
  const cache = await Cache.open(join(dir, 'cache'));
  const project = { dir, config: { nitro: { kernel: { file: 'bz' } } } } as unknown as Project;
  const lock = (more = {}) => ({ file: [{ path: 'bz', ...pin, ...more }] }) as unknown as Lock;
  expect(await chooseKernel(project, lock(), cache, [])).toMatchObject({ kind: 'file', version: '6.1.2' });
  await expect(chooseKernel(project, lock({ size: 5 }), cache, [])).rejects.toMatchObject({ code: 'ERR_INPUT_DIGEST' });
});
