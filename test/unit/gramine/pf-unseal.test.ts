import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openProtectedFile, protectedFilesSink } from '../../../src/gramine/pf/index.ts';
import { writeKeyFiles } from '../../../src/keys/generate.ts';
import { readXWingPrivateKey, readXWingPublicKey } from '../../../src/keys/keys.ts';
import { digestModel } from '../../../src/model/index.ts';
import { sealModel, unsealFile } from '../../../src/seal/index.ts';
import { type UnsealTaskOptions, unseal } from '../../../src/tasks/unseal.ts';
import { newOwner, policy, xwing } from '../seal/fixture.ts';
import { source, wrapKey } from './pf-fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-pf-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const at = (...names: string[]) => join(dir, ...names);
const marker = 'these words are a secret of the model';
const files: Record<string, Buffer> = {
  'big.bin': Buffer.concat([randomBytes(1_200_000), Buffer.from(marker), randomBytes(1_300_000)]),
  empty: Buffer.alloc(0),
  'sub/a': Buffer.from(marker),
  'sub/inline': randomBytes(3072),
};

beforeAll(async () => {
  mkdirSync(at('model', 'sub'), { recursive: true });
  for (const [name, bytes] of Object.entries(files)) writeFileSync(at('model', name), bytes, { mode: 0o444 });
  await writeKeyFiles('recovery', at('recovery.key'));
  writeFileSync(at('wrap.key'), wrapKey, { mode: 0o600 });
  const { digest } = await digestModel(at('model'));
  await sealModel({
    model: at('model'),
    policy: { ...policy, model: digest },
    ownerKey: newOwner().key,
    brokers: [xwing().publicRaw],
    threshold: 1,
    recovery: readXWingPublicKey(readFileSync(at('recovery.key.pub'))).raw,
    out: at('sealed'),
    created: 1_800_000_000,
    expectDigest: digest,
  });
});

const run = (out: string, more: Partial<UnsealTaskOptions> = {}) =>
  unseal({
    sealed: at('sealed'),
    key: at('recovery.key'),
    out: at(out),
    format: 'gramine-pf',
    wrapKey: at('wrap.key'),
    ...more,
  });
const opened = async (out: string, name: string, path: string) =>
  (await openProtectedFile(source(readFileSync(at(out, name))), wrapKey, { path })).read(0, 10_000_000);
const leftovers = (name: string) => readdirSync(dir).filter((entry) => entry.includes(name));

describe('unseal --format gramine-pf', () => {
  test('every file opens at the path that Gramine will use, and nothing of it is in the clear', async () => {
    const result = await run('out', { pfPath: './models//m/' });
    expect(result).toMatchObject({ files: 4, format: 'gramine-pf', protectedFiles: { path: 'models/m', version: 1 } });
    for (const [name, bytes] of Object.entries(files)) {
      expect((await opened('out', name, `models/m/${name}`)).equals(bytes)).toBe(true);
      expect(readFileSync(at('out', name)).includes(marker)).toBe(false);
    }
    expect(leftovers('out')).toEqual(['out']);
  });

  test('they can be written by their owner: Gramine opens them so, even for a reader', async () => {
    for (const name of Object.keys(files)) expect(statSync(at('out', name)).mode & 0o777).toBe(0o644);
  });

  test.each([
    [{}, `${dir}/default/empty`],
    [{ pfPath: '' }, 'empty'],
    [{ pfPath: '.' }, 'empty'],
    [{ pfPath: '/' }, '/empty'],
    [{ pfPath: '../up' }, '../up/empty'],
    [{ pfPath: 'file:models/' }, 'models/empty'],
    [{ pfVersion: 2 as const }, `${dir}/default/empty`],
  ])('%j: made for %s', async (more, path) => {
    await run('default', more);
    expect(await opened('default', 'empty', path)).toHaveLength(0);
    expect(readFileSync(at('default', 'empty'))[8]).toBe('pfVersion' in more ? 2 : 1);
    rmSync(at('default'), { recursive: true });
  });

  test('a sealed model changed in its last segment: nothing appears', async () => {
    const bytes = readFileSync(at('sealed'));
    const at90 = Math.floor(bytes.length * 0.9);
    bytes.writeUInt8(bytes.readUInt8(at90) ^ 1, at90);
    writeFileSync(at('hostile'), bytes);
    await expect(run('never', { sealed: at('hostile') })).rejects.toMatchObject({ code: 'ERR_SEAL_TAMPERED' });
    expect(leftovers('never')).toEqual([]);
  });

  test('a path that is too long for a protected file: said before anything is written', async () => {
    const pfPath = 'x'.repeat(765);
    await expect(run('never', { pfPath })).rejects.toMatchObject({ code: 'ERR_PF_NAME', exitCode: 2 });
    expect(leftovers('never')).toEqual([]);
  });

  test('a wrap key of another length, as hex, empty or missing', async () => {
    for (const bytes of [wrapKey.toString('hex'), Buffer.alloc(15), Buffer.alloc(17), '']) {
      writeFileSync(at('bad.key'), bytes);
      await expect(run('never', { wrapKey: at('bad.key') })).rejects.toMatchObject({ code: 'ERR_PF_WRAP_KEY' });
    }
    await expect(run('never', { wrapKey: at('no.key') })).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    await expect(run('never', { wrapKey: undefined })).rejects.toMatchObject({ code: 'ERR_USAGE' });
    expect(leftovers('never')).toEqual([]);
  });

  test('options that nothing would heed: plain files would appear where protected ones were meant', async () => {
    for (const more of [{}, { wrapKey: undefined, pfPath: 'x' }, { wrapKey: undefined, pfVersion: 2 as const }]) {
      await expect(run('never', { ...more, format: 'files' })).rejects.toMatchObject({ code: 'ERR_USAGE' });
    }
    expect(existsSync(at('never'))).toBe(false);
  });

  test('interrupted: nothing appears', async () => {
    const stop = new AbortController();
    const unsealing = unsealFile({
      sealed: at('sealed'),
      key: readXWingPrivateKey(readFileSync(at('recovery.key'))),
      out: at('never'),
      sink: (directory, list) => protectedFilesSink(directory, list, { wrapKey, prefix: 'x', version: 1 }),
      onProgress: () => stop.abort(),
      signal: stop.signal,
    });
    await expect(unsealing).rejects.toMatchObject({ code: 'ERR_INTERRUPTED' });
    expect(leftovers('never')).toEqual([]);
  });
});
