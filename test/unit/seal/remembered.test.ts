import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { DigestCache, digestFiles, digestModel, listModel } from '../../../src/model/index.ts';
import { type SealOptions, sealModel, unsealFile, verifySealed } from '../../../src/seal/index.ts';
import { extract, openIndex, readHeader } from '../../../src/seal/open.ts';
import { unwrapContentKey } from '../../../src/seal/recipients.ts';
import { fileSource } from '../../../src/seal/source.ts';
import { newOwner, policy, xwing } from './fixture.ts';
import { rememberLies } from './lies.ts';

// Sealing with digests that were remembered (model/digest-cache.ts): nothing is hashed, so whoever opens has to.

const dir = mkdtempSync(join(tmpdir(), 'atoma-remembered-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const at = (...names: string[]) => join(dir, ...names);
const owner = newOwner();
const recovery = xwing();
const LATER = Date.now() + 3_600_000;
const big = randomBytes(2 ** 21 + 5);
/** More segments than one thread does. */
const bigger = randomBytes(9 * 2 ** 20 + 5);

beforeEach(() => {
  for (const name of readdirSync(dir)) rmSync(at(name), { recursive: true });
  mkdirSync(at('model', 'sub'), { recursive: true });
  writeFileSync(at('model', 'big'), big);
  writeFileSync(at('model', 'sub', 'small'), 'small');
  writeFileSync(at('model', 'empty'), '');
});
const options = (expectDigest: string, more: Partial<SealOptions> = {}): SealOptions => ({
  ...{ model: at('model'), policy: { ...policy, model: expectDigest }, ownerKey: owner.key, threshold: 1 },
  ...{ brokers: [xwing().publicRaw], recovery: recovery.publicRaw, out: at('m.sealed'), created: 1, expectDigest },
  ...{ cacheDir: at('cache') },
  ...more,
});
async function remember(): Promise<string> {
  const files = await listModel(at('model'));
  await (await DigestCache.open(at('cache'), at('model'))).record(files, await digestFiles(files), LATER);
  return (await digestModel(at('model'))).digest;
}
/** The digest that the model would have if `lies` were in it. */
async function digestWith(lies: Record<string, Uint8Array>): Promise<string> {
  execFileSync('cp', ['-r', at('model'), at('other')]);
  for (const [path, bytes] of Object.entries(lies)) writeFileSync(at('other', path), bytes);
  const { digest } = await digestModel(at('other'));
  rmSync(at('other'), { recursive: true });
  return digest;
}

describe('digests that were remembered', () => {
  test('the sealed model is as good as any; some known, all known, none', async () => {
    for (const forget of [[], ['big'], ['sub/small'], ['big', 'sub/small']]) {
      writeFileSync(at('model', 'big'), forget.length === 0 ? bigger : big);
      const digest = await remember();
      // Its ctime is another now: it is not known any more.
      for (const name of forget) execFileSync('chmod', ['0600', at('model', name)]);
      await sealModel(options(digest));
      const { checks } = await verifySealed(at('m.sealed'), { owner: owner.publicRaw, key: recovery });
      expect(checks.filter((c) => c.status !== 'pass')).toEqual([]);
      rmSync(at('out'), { recursive: true, force: true });
      await unsealFile({ sealed: at('m.sealed'), key: recovery, out: at('out') });
      expect(() => execFileSync('diff', ['-r', at('out'), at('model')])).not.toThrow();
    }
  });

  test('another model than the measured one is refused before anything is written', async () => {
    await remember();
    let written = false;
    const sealing = sealModel(options('00'.repeat(32), { onProgress: () => (written = true) }));
    await expect(sealing).rejects.toMatchObject({ code: 'ERR_SEAL_MODEL_MISMATCH', exitCode: 3 });
    expect(written).toBe(false);
  });

  test('what seal digested it remembers itself, but not of files that had only just changed', async () => {
    const { digest } = await digestModel(at('model'));
    await sealModel(options(digest));
    expect(existsSync(at('cache', 'digests'))).toBe(true);
    const cache = await DigestCache.open(at('cache'), at('model'));
    for (const file of await listModel(at('model'))) expect(cache.digest(file)).toBeUndefined();
  });

  test('a source that changes while it is read is refused although nothing is hashed: written to, grown, cut off', async () => {
    const changes = [
      () => writeFileSync(at('model', 'big'), Buffer.alloc(bigger.length)),
      () => appendFileSync(at('model', 'big'), 'x'),
      () => truncateSync(at('model', 'big'), 2 ** 20),
      () => truncateSync(at('model', 'sub', 'small'), 0),
    ];
    for (const change of changes) {
      writeFileSync(at('model', 'big'), bigger);
      writeFileSync(at('model', 'sub', 'small'), 'small');
      const sealing = sealModel(options(await remember(), { out: at('x.sealed') }));
      while (!existsSync(at('x.sealed.partial'))) await setTimeout(1);
      change();
      await expect(sealing).rejects.toMatchObject({ code: 'ERR_SEAL_SOURCE_CHANGED', exitCode: 2 });
      expect(readdirSync(dir).filter((name) => name.startsWith('x.'))).toEqual([]);
    }
  });
});

describe('a cache that lies', () => {
  test('seals, but nothing opens it: unseal, verify with the key, the enclave; and --rehash finds out', async () => {
    const all: Record<string, Buffer>[] = [{ big: Buffer.alloc(big.length) }, { 'sub/small': Buffer.from('SMALL') }];
    for (const lies of all) {
      const wanted = await digestWith(lies);
      await rememberLies(at('cache'), await listModel(at('model')), lies);
      // The image measured the lie, so that sealing finds nothing wrong.
      await sealModel(options(wanted));
      const refusal = {
        code: 'ERR_SEAL_DIGEST',
        exitCode: 3,
        message: expect.stringContaining(Object.keys(lies)[0] ?? ''),
      };
      const opening = unsealFile({ sealed: at('m.sealed'), key: recovery, out: at('out') });
      await expect(opening).rejects.toMatchObject({ ...refusal, hint: expect.stringContaining('--rehash') });
      expect(readdirSync(dir).filter((name) => name.includes('out'))).toEqual([]);
      const { checks } = await verifySealed(at('m.sealed'), { owner: owner.publicRaw, key: recovery });
      expect(checks.filter((c) => c.status === 'fail')).toEqual([
        expect.objectContaining({ id: 'seal.contents', detail: expect.stringContaining('ERR_SEAL_DIGEST') }),
      ]);
      await expect(asTheEnclave()).rejects.toMatchObject(refusal);
      const rehashed = sealModel(options(wanted, { rehash: true, out: at('x.sealed') }));
      await expect(rehashed).rejects.toMatchObject({ code: 'ERR_SEAL_MODEL_MISMATCH', exitCode: 3 });
    }
  });

  test('--rehash also mends what is remembered', async () => {
    const { digest } = await digestModel(at('model'));
    await rememberLies(at('cache'), await listModel(at('model')), { big: Buffer.from('lie') });
    await expect(sealModel(options(digest))).rejects.toMatchObject({ code: 'ERR_SEAL_MODEL_MISMATCH' });
    await sealModel(options(digest, { rehash: true }));
    await sealModel(options(digest));
    expect((await unsealFile({ sealed: at('m.sealed'), key: recovery, out: at('out') })).digest).toBe(digest);
  });

  /** src/enclave/unlock.ts, without the host. */
  async function asTheEnclave() {
    const source = await fileSource(at('m.sealed'));
    try {
      const parsed = await readHeader(source);
      const key = await unwrapContentKey(parsed.header, recovery);
      const nowhere = { open: async () => ({ write: async () => {}, close: async () => {} }) };
      return await extract(source, parsed, await openIndex(source, parsed, key), key, nowhere);
    } finally {
      await source.close();
    }
  }

  test('the model as it is opens in the same way', async () => {
    const digest = await remember();
    await sealModel(options(digest));
    expect(await asTheEnclave()).toEqual({ digest });
    expect(readFileSync(at('m.sealed')).length).toBeGreaterThan(big.length);
  });
});
