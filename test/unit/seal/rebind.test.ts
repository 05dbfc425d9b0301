import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestModel } from '../../../src/model/index.ts';
import { type ParsedHeader, parseHeader, verifyHeaderSignature } from '../../../src/seal/header.ts';
import { sealModel, unsealFile, verifySealed } from '../../../src/seal/index.ts';
import { type RebindOptions, rebindModel } from '../../../src/seal/rebind.ts';
import { openShare, unwrapContentKey } from '../../../src/seal/recipients.ts';
import { newOwner, policy, xwing } from './fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-rebind-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const at = (...names: string[]) => join(dir, ...names);
const owner = newOwner();
const broker = xwing();
const recovery = xwing();
const newPolicy = { ...policy, any: [{ tee: 'nitro' as const, pcr8: '88'.repeat(48) }] };
let digest: string;

beforeAll(async () => {
  mkdirSync(at('model', 'sub'), { recursive: true });
  writeFileSync(at('model', 'big.bin'), randomBytes(5 * 2 ** 20 + 7));
  writeFileSync(at('model', 'sub/small'), 'small');
  digest = (await digestModel(at('model'))).digest;
  await sealModel({
    model: at('model'),
    policy: { ...policy, model: digest },
    ownerKey: owner.key,
    brokers: [broker.publicRaw],
    threshold: 1,
    recovery: recovery.publicRaw,
    out: at('old.sealed'),
    created: 1_800_000_000,
    expectDigest: digest,
  });
});

const options = (out: string, more: Partial<RebindOptions> = {}): RebindOptions => ({
  sealed: at('old.sealed'),
  ownerKey: owner.key,
  key: recovery,
  policy: { ...newPolicy, model: digest },
  brokers: [broker.publicRaw],
  threshold: 1,
  out: at(out),
  created: 1_800_000_001,
  ...more,
});
const code = (c: string, exitCode = 3) => expect.objectContaining({ code: c, exitCode });
function read(name: string): ParsedHeader & { payload: Buffer } {
  const file = readFileSync(at(name));
  const end = 12 + file.readUInt32BE(8);
  const parsed = parseHeader(file.subarray(0, end));
  return { ...parsed, payload: file.subarray(parsed.payloadOffset) };
}

describe('rebind', () => {
  test('the next epoch and the new policy over the same bytes; the content key and seal id stay', async () => {
    const result = await rebindModel(options('new.sealed'));
    const [old, now] = [read('old.sealed'), read('new.sealed')];
    expect(now.payload.equals(old.payload)).toBe(true);
    expect(now.header).toMatchObject({ epoch: 2, sealId: old.header.sealId, created: 1_800_000_001 });
    expect(now.header.policy).toEqual({ ...newPolicy, model: digest });
    expect(now.header.commitment).toEqual(old.header.commitment);
    expect(result).toMatchObject({ epoch: 2, headerDigest: now.digest.toString('hex'), old: { epoch: 1 } });
    verifyHeaderSignature(now, owner.publicRaw);
    expect(await unwrapContentKey(now.header, recovery)).toEqual(await unwrapContentKey(old.header, recovery));
    const { checks } = await verifySealed(at('new.sealed'), { owner: owner.publicRaw, key: recovery });
    expect(checks.map(({ status }) => status)).not.toContain('fail');
    await unsealFile({ sealed: at('new.sealed'), key: recovery, out: at('opened') });
    expect((await digestModel(at('opened'))).digest).toBe(digest);
  });

  test('a header of another size moves the payload and nothing else: to 20 brokers, and back', async () => {
    const brokers = Array.from({ length: 20 }, () => xwing().publicRaw);
    await rebindModel(options('wide.sealed', { brokers, threshold: 7 }));
    const wide = read('wide.sealed');
    expect(wide.payloadOffset).toBeGreaterThan(read('old.sealed').payloadOffset);
    expect(wide.payload.equals(read('old.sealed').payload)).toBe(true);
    await rebindModel(options('narrow.sealed', { sealed: at('wide.sealed') }));
    expect(read('narrow.sealed').header.epoch).toBe(3);
    const { checks } = await verifySealed(at('narrow.sealed'), { key: recovery });
    expect(checks.map(({ status }) => status)).not.toContain('fail');
  });

  test('with the only broker’s key, and to another recovery key', async () => {
    const other = xwing();
    const result = await rebindModel(options('by-broker.sealed', { key: broker }));
    expect(result.recovery).toBeUndefined();
    await rebindModel(options('other-recovery.sealed', { recovery: other.publicRaw }));
    const { header } = read('other-recovery.sealed');
    await expect(unwrapContentKey(header, recovery)).rejects.toThrow(code('ERR_SEAL_RECIPIENT'));
    expect(await unwrapContentKey(header, other)).toHaveLength(32);
  });
});

describe('attacks on re-binding', () => {
  const nothing = (name: string) => expect(readdirSync(dir).filter((entry) => entry.startsWith(name))).toEqual([]);

  test.each<[string, () => Partial<RebindOptions>, string, number]>([
    ['a stranger signs', () => ({ ownerKey: newOwner().key }), 'ERR_SEAL_OWNER', 3],
    ['a stranger’s recovery key', () => ({ key: xwing() }), 'ERR_SEAL_RECIPIENT', 3],
    ['another model', () => ({ policy: { ...newPolicy, model: 'cd'.repeat(32) } }), 'ERR_POLICY_MISMATCH', 3],
    ['another project', () => ({ policy: { ...newPolicy, model: digest, project: 'x' } }), 'ERR_POLICY_MISMATCH', 3],
    ['a threshold above the brokers', () => ({ threshold: 2 }), 'ERR_SEAL_THRESHOLD', 2],
    ['the recovery key among the brokers', () => ({ brokers: [recovery.publicRaw] }), 'ERR_SEAL_RECIPIENTS', 2],
    ['no sealed model', () => ({ sealed: at('model/sub/small') }), 'ERR_SEAL_MAGIC', 2],
  ])('%s: refused, nothing left', async (_, change, expected, exit) => {
    await expect(rebindModel(options('never.sealed', change()))).rejects.toThrow(code(expected, exit));
    nothing('never');
  });

  test('the sealed model at OUT.partial: refused, and still there', async () => {
    const there = at('never.sealed.partial');
    writeFileSync(there, readFileSync(at('old.sealed')));
    await expect(rebindModel(options('never.sealed', { sealed: there }))).rejects.toThrow(code('ERR_REBIND_OUT', 2));
    expect(readFileSync(there).equals(readFileSync(at('old.sealed')))).toBe(true);
    rmSync(there);
  });

  test('a changed header, a changed index, a file cut short: refused, nothing left', async () => {
    const good = readFileSync(at('old.sealed'));
    const { payloadOffset } = read('old.sealed');
    const changed = (place: number) => {
      const copy = Buffer.from(good);
      copy.writeUInt8(copy.readUInt8(place) ^ 1, place);
      return copy;
    };
    for (const [bytes, expected, exit] of [
      [changed(12 + good.readUInt32BE(8) - 1), 'ERR_SEAL_SIGNATURE', 3],
      [changed(payloadOffset + 100), 'ERR_SEAL_TAMPERED', 3],
      [good.subarray(0, good.length - 4096), 'ERR_SEAL_TRUNCATED', 2],
    ] as const) {
      writeFileSync(at('bad.sealed'), bytes);
      await expect(rebindModel(options('never.sealed', { sealed: at('bad.sealed') }))).rejects.toThrow(
        code(expected, exit),
      );
      nothing('never');
    }
  });

  test('over the sealed model itself, by its name or another', async () => {
    linkSync(at('old.sealed'), at('alias.sealed'));
    for (const out of ['old.sealed', 'alias.sealed'])
      await expect(rebindModel(options(out))).rejects.toThrow(code('ERR_REBIND_OUT', 2));
    expect(read('old.sealed').header.epoch).toBe(1);
  });

  test('a share of the old header does not open under the new one, nor the other way round', async () => {
    await rebindModel(options('shares.sealed'));
    const [old, now] = [read('old.sealed').header, read('shares.sealed').header];
    const [a, b] = [old.recipients[0], now.recipients[0]];
    if (!a || !b) throw new Error('a recipient is missing');
    await expect(openShare(now, a, broker.seed)).rejects.toThrow(code('ERR_SEAL_SHARE'));
    await expect(openShare(old, b, broker.seed)).rejects.toThrow(code('ERR_SEAL_SHARE'));
    expect(await openShare(now, b, broker.seed)).toHaveLength(32);
  });
});
