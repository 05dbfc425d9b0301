import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestModel, listModel } from '../../../src/model/index.ts';
import { type SealOptions, sealModel, unsealFile, verifySealed } from '../../../src/seal/index.ts';
import { openIndex, partOffsets, readHeader } from '../../../src/seal/open.ts';
import { unwrapContentKey } from '../../../src/seal/recipients.ts';
import { fileSource } from '../../../src/seal/source.ts';
import { newOwner, policy, xwing } from './fixture.ts';
import { rememberLies } from './lies.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-reuse-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const at = (...names: string[]) => join(dir, ...names);
const owner = newOwner();
const broker = xwing();
const recovery = xwing();
const MIB = 2 ** 20;
const limits = { part: 2 * MIB, large: MIB };

/** Parts of v1: small (a, b), big in three, other. Few enough segments to need no threads. */
const v1: Record<string, Buffer> = {
  'big.bin': randomBytes(4 * MIB + 77),
  'other.bin': randomBytes(MIB),
  'small/a': Buffer.from('a'),
  'small/b': randomBytes(5000),
};
function write(name: string, files: Record<string, Buffer>): string {
  rmSync(at(name), { recursive: true, force: true });
  mkdirSync(at(name, 'small'), { recursive: true });
  for (const [path, bytes] of Object.entries(files)) writeFileSync(at(name, path), bytes);
  return at(name);
}
const options = async (model: string, out: string, more: Partial<SealOptions> = {}): Promise<SealOptions> => {
  const digest = more.expectDigest ?? (await digestModel(model)).digest;
  return {
    ...{ model, policy: { ...policy, model: digest }, ownerKey: owner.key, brokers: [broker.publicRaw], threshold: 1 },
    ...{ recovery: recovery.publicRaw, out: at(out), created: 1_800_000_000, expectDigest: digest, limits },
    ...more,
  };
};
const reuse = { sealed: at('v1.sealed'), key: recovery };
const sealAgain = async (files: Record<string, Buffer>, more: Partial<SealOptions> = {}) =>
  sealModel(await options(write('v2', files), 'v2.sealed', { reuse, ...more }));

/** Everything that the recovery key shows: keys, and the ciphertext of each part by its id. */
async function look(name: string) {
  const source = await fileSource(at(name));
  try {
    const parsed = await readHeader(source);
    const ck = await unwrapContentKey(parsed.header, recovery);
    const index = await openIndex(source, parsed, ck);
    const offsets = partOffsets(parsed);
    const bytes = readFileSync(at(name));
    const parts = parsed.header.parts.map(({ id, length }, i) => {
      const from = offsets[i] ?? 0;
      const key = Buffer.from(index.parts[i]?.key ?? []).toString('hex');
      return {
        id: Buffer.from(id).toString('hex'),
        key,
        from,
        length,
        ciphertext: bytes.subarray(from, from + length),
      };
    });
    return { ck, parsed, index, parts };
  } finally {
    await source.close();
  }
}

async function opensAs(name: string, model: string): Promise<void> {
  const { checks } = await verifySealed(at(name), { owner: owner.publicRaw, key: recovery });
  expect(checks.filter((c) => c.status !== 'pass')).toEqual([]);
  rmSync(at('opened'), { recursive: true, force: true });
  await unsealFile({ sealed: at(name), key: recovery, owner: owner.publicRaw, out: at('opened') });
  expect(() => execFileSync('diff', ['-r', at('opened'), model])).not.toThrow();
}

beforeAll(async () => {
  await sealModel(await options(write('v1', v1), 'v1.sealed'));
});

describe('seal --reuse', () => {
  test('keeps, byte for byte, every part that did not change; a new part has a new id, key and IV', async () => {
    const big = Buffer.from(v1['big.bin'] ?? []);
    big[2 * MIB] = (big[2 * MIB] ?? 0) ^ 1; // in the second of its three parts
    const files = { ...v1, 'big.bin': big, 'small/a': Buffer.from('A') };
    const result = await sealAgain(files);
    expect(result.reused).toEqual({ parts: 3, bytes: 2 * MIB + 77 + MIB });
    const [before, after] = [await look('v1.sealed'), await look('v2.sealed')];
    expect(after.parts.length).toBe(5);
    let kept = 0;
    for (const part of after.parts) {
      const old = before.parts.find(({ id }) => id === part.id);
      if (old) {
        kept++;
        expect(part.ciphertext.equals(old.ciphertext)).toBe(true);
        expect(part.key).toBe(old.key);
        continue;
      }
      expect(before.parts.map(({ key }) => key)).not.toContain(part.key);
      expect(before.parts.some(({ ciphertext }) => ciphertext.includes(part.ciphertext.subarray(10, 42)))).toBe(false);
    }
    expect(kept).toBe(3);
    expect(after.ck.equals(before.ck)).toBe(false);
    expect(after.parsed.header.sealId).not.toEqual(before.parsed.header.sealId);
    await opensAs('v2.sealed', at('v2'));
  });

  test('nothing changed; everything changed; files renamed, added, removed', async () => {
    expect((await sealAgain(v1)).reused.parts).toBe(5);
    await opensAs('v2.sealed', at('v2'));
    const { 'big.bin': big = Buffer.alloc(0), 'other.bin': other = Buffer.alloc(0), ...small } = v1;
    expect((await sealAgain({ 'big-v2.bin': big, 'extra.bin': randomBytes(2 * MIB), ...small })).reused.parts).toBe(4);
    await opensAs('v2.sealed', at('v2'));
    expect(
      (await sealAgain({ 'other.bin': randomBytes(other.length), 'small/c': Buffer.from('c') })).reused.parts,
    ).toBe(0);
    await opensAs('v2.sealed', at('v2'));
  });

  test('a large file that grew or was cut', async () => {
    const big = v1['big.bin'] ?? Buffer.alloc(0);
    expect((await sealAgain({ ...v1, 'big.bin': Buffer.concat([big, randomBytes(4 * MIB)]) })).reused.parts).toBe(5);
    await opensAs('v2.sealed', at('v2'));
    expect((await sealAgain({ ...v1, 'big.bin': big.subarray(0, 3 * MIB) })).reused.parts).toBe(3);
    await opensAs('v2.sealed', at('v2'));
  });

  test('a version of a version, over the file it was made from', async () => {
    copyFileSync(at('v1.sealed'), at('v2.sealed'));
    const files = { ...v1, 'small/a': Buffer.from('2') };
    await sealAgain(files, { reuse: { ...reuse, sealed: at('v2.sealed') } });
    expect(
      (await sealAgain({ ...files, extra: randomBytes(9) }, { reuse: { ...reuse, sealed: at('v2.sealed') } })).reused
        .parts,
    ).toBe(5);
    await opensAs('v2.sealed', at('v2'));
    expect(readdirSync(dir).filter((name) => name.includes('.partial'))).toEqual([]);
  });
});

describe('seal --reuse refuses', () => {
  const refused = async (sealed: string, code: string, exitCode = 3, more: Partial<SealOptions> = {}) => {
    const sealing = sealAgain(
      { ...v1, 'small/a': Buffer.from('x') },
      { out: at('x.sealed'), reuse: { sealed, key: recovery }, ...more },
    );
    await expect(sealing).rejects.toMatchObject({ code, exitCode });
    expect(readdirSync(dir).filter((name) => name.startsWith('x.'))).toEqual([]);
  };
  const spoilt = (edit: (bytes: Buffer) => void): string => {
    const bytes = readFileSync(at('v1.sealed'));
    edit(bytes);
    writeFileSync(at('spoilt.sealed'), bytes);
    return at('spoilt.sealed');
  };
  const flip = (bytes: Buffer, place: number) => bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);

  test("another owner's sealed model: its keys are known to who chose them", async () => {
    await refused(at('v1.sealed'), 'ERR_SEAL_OWNER', 3, { ownerKey: newOwner().key });
  });

  test('a key that does not open it, a header that was changed, a file that is cut off or none', async () => {
    await refused(at('v1.sealed'), 'ERR_SEAL_RECIPIENT', 3, { reuse: { ...reuse, key: xwing() } });
    await refused(
      spoilt((b) => flip(b, b.readUInt32BE(8) + 11)),
      'ERR_SEAL_SIGNATURE',
    );
    truncateSync(
      spoilt(() => {}),
      5 * MIB,
    );
    await refused(at('spoilt.sealed'), 'ERR_SEAL_TRUNCATED', 2);
    await refused(at('none.sealed'), 'ERR_FILE_NOT_FOUND', 2);
    await refused(at('v1', 'big.bin'), 'ERR_SEAL_MAGIC', 2);
  });

  test('a flipped bit in a part that would be taken over: its header, IV, ciphertext, tag', async () => {
    const part = (await look('v1.sealed')).parts[1]; // of big.bin
    const from = part?.from ?? 0;
    for (const place of [
      from + 3,
      from + 20,
      from + 60,
      from + 74,
      from + 80,
      from + 5000,
      from + (part?.length ?? 0) - 1,
    ])
      await refused(
        spoilt((b) => flip(b, place)),
        'ERR_SEAL_TAMPERED',
      );
  });

  test('a flipped bit in a part that is only compared', async () => {
    const part = (await look('v1.sealed')).parts[1];
    const big = Buffer.concat([v1['big.bin'] ?? Buffer.alloc(0), Buffer.from('more')]);
    const sealed = spoilt((b) => flip(b, (part?.from ?? 0) + 5000));
    const sealing = sealAgain({ ...v1, 'big.bin': big }, { out: at('x.sealed'), reuse: { sealed, key: recovery } });
    await expect(sealing).rejects.toMatchObject({ code: 'ERR_SEAL_TAMPERED', exitCode: 3 });
  });
});

describe('attacks between versions', () => {
  test('a part of the old version in the place of the new one, of the same length', async () => {
    const big = Buffer.from(v1['big.bin'] ?? []);
    big[0] = (big[0] ?? 0) ^ 1;
    await sealAgain({ ...v1, 'big.bin': big });
    const [before, after] = [await look('v1.sealed'), await look('v2.sealed')];
    const fresh = after.parts.find(({ id }) => !before.parts.some((old) => old.id === id));
    const old = before.parts.find(
      ({ id, length }) => length === fresh?.length && !after.parts.some((p) => p.id === id),
    );
    const bytes = readFileSync(at('v2.sealed'));
    bytes.set(old?.ciphertext ?? [], fresh?.from);
    writeFileSync(at('mixed.sealed'), bytes);
    const opening = unsealFile({ sealed: at('mixed.sealed'), key: recovery, out: at('mixed') });
    await expect(opening).rejects.toMatchObject({ code: 'ERR_SEAL_TAMPERED', exitCode: 3 });
    // The index of the old version, which knows the old part's key, under the new header.
    const place = after.parsed.payloadOffset;
    const index = readFileSync(at('v1.sealed'))
      .subarray(before.parsed.payloadOffset)
      .subarray(0, before.parsed.header.index.length);
    bytes.set(index, place);
    writeFileSync(at('mixed.sealed'), bytes);
    const again = unsealFile({ sealed: at('mixed.sealed'), key: recovery, out: at('mixed') });
    await expect(again).rejects.toMatchObject({ code: 'ERR_SEAL_TAMPERED', exitCode: 3 });
  });

  test('an old version whose index names another digest than its content has: seals, but does not open; --rehash refuses', async () => {
    // Sealed while the cache lied: the index says that big.bin is what it later became.
    const later = Buffer.from(v1['big.bin'] ?? []);
    later[1] = (later[1] ?? 0) ^ 1;
    const model = write('lied', v1);
    cpSync(model, at('truth'), { recursive: true });
    writeFileSync(at('truth', 'big.bin'), later);
    const expectDigest = (await digestModel(at('truth'))).digest;
    const cacheDir = await rememberLies(at('cache'), await listModel(model), { 'big.bin': later });
    await sealModel(await options(model, 'lied.sealed', { expectDigest, cacheDir }));
    const again = async (rehash: boolean) =>
      sealModel(
        await options(at('truth'), 'again.sealed', { reuse: { sealed: at('lied.sealed'), key: recovery }, rehash }),
      );
    await expect(again(true)).rejects.toMatchObject({ code: 'ERR_SEAL_DIGEST', exitCode: 3 });
    expect((await again(false)).reused.parts).toBe(5);
    const opening = unsealFile({ sealed: at('again.sealed'), key: recovery, out: at('again') });
    await expect(opening).rejects.toMatchObject({ code: 'ERR_SEAL_DIGEST', exitCode: 3 });
    renameSync(at('again.sealed'), at('gone'));
  });
});
