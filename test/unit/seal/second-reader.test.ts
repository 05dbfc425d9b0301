/** What one implementation of docs/sealed-model-format.md writes, the other opens; test/reference shares no code with src. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { xwingPublicFromSeed } from '../../../src/keys/xwing.ts';
import { digestModel } from '../../../src/model/index.ts';
import { inspectSealed, sealModel, unsealFile, verifySealed } from '../../../src/seal/index.ts';
import { encodePolicy } from '../../../src/seal/policy.ts';
import { rebindModel } from '../../../src/seal/rebind.ts';
import { xwingPublic } from '../../reference/hpke.ts';
import { type Keys, modelDigest, open, type SealInput, seal } from '../../reference/sealed.ts';
import { newOwner, type Owner, policy, type XWing, xwing } from './fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-second-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const at = (...path: string[]) => join(dir, ...path);
const bytesOf = (path: string) => new Uint8Array(readFileSync(path));
const MIB = 2 ** 20;

let count = 0;
/** Writes a model of these files; sizes become random bytes. */
function model(files: Record<string, number | Buffer>): string {
  const path = at(`model-${++count}`);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), typeof content === 'number' ? randomBytes(content) : content, { mode: 0o640 });
  }
  return path;
}

let owner: Owner;
let recovery: XWing;
let brokers: XWing[];
beforeAll(() => {
  owner = newOwner();
  recovery = xwing();
  brokers = [xwing(), xwing(), xwing()];
});

async function sealFast(path: string, more: Partial<Parameters<typeof sealModel>[0]> = {}): Promise<string> {
  const { digest } = await digestModel(path);
  const out = at(`${++count}.sealed`);
  await sealModel({
    model: path,
    policy: { ...policy, model: digest },
    ownerKey: owner.key,
    brokers: [brokers[0]?.publicRaw ?? Buffer.alloc(0)],
    threshold: 1,
    recovery: recovery.publicRaw,
    out,
    created: 1_800_000_000,
    expectDigest: digest,
    ...more,
  });
  return out;
}

/** Opens with the second reader and compares names, modes and bytes with the model on disk. */
async function opensAs(sealed: string, path: string, keys: Keys = { recovery: new Uint8Array(recovery.seed) }) {
  const opened = open(bytesOf(sealed), keys, new Uint8Array(owner.publicRaw));
  const { digest, files } = await digestModel(path);
  expect([...opened.files.keys()]).toEqual(files.map((file) => file.path));
  for (const [name, { bytes, mode }] of opened.files) {
    const file = statSync(path).isDirectory() ? join(path, name) : path;
    expect(readFileSync(file).equals(bytes), name).toBe(true);
    expect(mode).toBe(statSync(file).mode & 0o777);
  }
  expect(opened.modelDigest).toBe(digest);
  return opened;
}

describe('the second reader opens what the toolkit seals', () => {
  test.each([
    ['one byte', { f: 1 }],
    ['an empty file alone: no part at all', { f: 0 }],
    ['a segment but a byte', { f: MIB - 1 }],
    ['exactly a segment', { f: MIB }],
    ['a segment and a byte', { f: MIB + 1 }],
    ['two segments', { f: 2 * MIB }],
    [
      'directories, empty files, names in other scripts',
      { 'a/b/c': 10, 'a/é': 0, 'z ÿ/漢字.bin': 77, 'a-b': 3, 'a.b': 3, 'a/😀': 4 },
    ],
  ])('%s', async (_, files) => {
    const path = model(files);
    await opensAs(await sealFast(path), path);
  });

  test('a model that is one file', async () => {
    const path = join(model({ 'weights.bin': 1000 }), 'weights.bin');
    await opensAs(await sealFast(path), path);
  });

  test('several parts, files across them', async () => {
    const path = model({ a: 700, b: 300, c: 0, d: 5000, e: 1 });
    const { index } = await opensAs(await sealFast(path, { limits: { part: 1000, large: 2000 } }), path);
    expect(index.parts.map(({ length }) => length)).toEqual([1000, 1, 1000, 1000, 1000, 1000, 1000]);
  });

  test('two of three brokers, any two; and the recovery key', async () => {
    const path = model({ f: 100 });
    const sealed = await sealFast(path, { brokers: brokers.map(({ publicRaw }) => publicRaw), threshold: 2 });
    const seeds = brokers.map(({ seed }) => new Uint8Array(seed));
    await opensAs(sealed, path);
    for (const leftOut of [0, 1, 2]) await opensAs(sealed, path, { brokers: seeds.filter((_, i) => i !== leftOut) });
    expect(() => open(bytesOf(sealed), { brokers: seeds.slice(1, 2) })).toThrow('ERR_SEAL_KEY');
  });

  test('a re-bound one, at epoch 2, with other brokers', async () => {
    const path = model({ f: 100, g: 0 });
    const sealed = await sealFast(path);
    const [, second, third] = brokers as [XWing, XWing, XWing];
    const out = at('rebound.sealed');
    await rebindModel({
      sealed,
      ownerKey: owner.key,
      key: recovery,
      policy: { ...policy, model: (await digestModel(path)).digest, not_after: 2_000_000_000 },
      brokers: [second.publicRaw, third.publicRaw],
      threshold: 2,
      out,
      created: 1_800_000_001,
    });
    const { header } = await opensAs(out, path);
    expect(header.epoch).toBe(2);
    await opensAs(out, path, { brokers: [new Uint8Array(third.seed), new Uint8Array(second.seed)] });
    expect(() => open(bytesOf(out), { brokers: [new Uint8Array(brokers[0]?.seed ?? [])] })).toThrow('ERR_SEAL_');
  });

  test('one that took parts over from an older one', async () => {
    const files = { a: randomBytes(3000), b: randomBytes(3000) };
    const old = await sealFast(model(files), { limits: { part: 1000, large: 2000 } });
    const path = model({ ...files, c: 4 });
    const reuse = { sealed: old, key: recovery };
    const now = await sealFast(path, { limits: { part: 1000, large: 2000 }, reuse });
    const { index } = await opensAs(now, path);
    const before = new Set(
      open(bytesOf(old), { recovery: new Uint8Array(recovery.seed) }).index.parts.map(({ id }) => hex(id)),
    );
    expect(index.parts.filter(({ id }) => before.has(hex(id))).length).toBe(6);
  });
});

describe('the toolkit opens what the second writer seals', () => {
  const random = (_: string, length: number) => new Uint8Array(randomBytes(length));
  const seeds = [1, 2, 3].map((n) => new Uint8Array(32).fill(n));

  test.each([
    ['one file', [5], 1000],
    ['nothing but empty files', [0, 0], 1000],
    ['parts that end within files', [300, 0, 300, 1, 299], 200],
    ['a part of a segment and a byte', [MIB + 1, 7], MIB + 1],
  ])('%s', async (_, sizes, partSize) => {
    const files = sizes.map((size, i) => ({ path: `d/${i}`, bytes: random('', size), mode: 0o600 }));
    const model = modelDigest(files.map(({ path, bytes }) => ({ path, sha256: new Uint8Array(sha256(bytes)) })));
    const publics = seeds.map(xwingPublic) as [Uint8Array, Uint8Array, Uint8Array];
    const input: SealInput = {
      files,
      partSize,
      owner: new Uint8Array(32).fill(9),
      brokers: publics.slice(0, 2),
      threshold: 2,
      recovery: publics[2],
      policy: encodePolicy({ ...policy, model }),
      created: 1_800_000_000,
    };
    const sealed = at(`${++count}.sealed`);
    writeFileSync(sealed, seal(input, random));
    const key = { seed: seeds[2] ?? new Uint8Array(), publicRaw: xwingPublicFromSeed(seeds[2] ?? new Uint8Array()) };
    const out = at(`out-${count}`);
    const result = await unsealFile({ sealed, key, out });
    expect(result.digest).toBe(model);
    for (const { path, bytes } of files) expect(readFileSync(join(out, path)).equals(bytes), path).toBe(true);
    const { checks } = await verifySealed(sealed, { owner: Buffer.from(result.owner, 'hex'), key });
    expect(checks.filter(({ status }) => status !== 'pass')).toEqual([]);
    expect(await inspectSealed(sealed, key)).toMatchObject({
      threshold: { t: 2, n: 2 },
      files: files.map(({ path }) => ({ path })),
    });
    rmSync(out, { recursive: true });
    expect(existsSync(out)).toBe(false);
  });
});
