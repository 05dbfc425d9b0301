import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { keyId } from '../../../src/keys/keys.ts';
import { KIND, parseHeader, type SealHeader } from '../../../src/seal/header.ts';
import { checkShare, openShare, unwrapContentKey, wrapContentKey } from '../../../src/seal/recipients.ts';
import { keyCommitment } from '../../../src/seal/secrets.ts';
import { combineShares, splitContentKey } from '../../../src/seal/shares.ts';
import { exampleHeader, newOwner, policy, xwing } from './fixture.ts';

const code = (c: string, exitCode = 3) => expect.objectContaining({ code: c, exitCode });
const subsets = <T>(all: T[], size: number): T[][] =>
  size === 0 ? [[]] : all.flatMap((first, i) => subsets(all.slice(i + 1), size - 1).map((rest) => [first, ...rest]));

describe('shares of a content key', () => {
  const ck = randomBytes(32);

  test.each([
    [2, 2],
    [2, 3],
    [3, 5],
    [5, 5],
  ])('any %i of %i give the key, in any order', async (t, n) => {
    const shares = await splitContentKey(ck, t, n);
    expect(shares.map(({ length }) => length)).toEqual(shares.map(() => 33));
    for (const some of subsets(shares, t)) {
      expect(await combineShares(some)).toEqual(ck);
      expect(await combineShares(some.toReversed())).toEqual(ck);
    }
  });

  test('255 of 255', async () => {
    const shares = await splitContentKey(ck, 255, 255);
    expect(new Set(shares.map((share) => share[32])).size).toBe(255);
    expect(await combineShares(shares)).toEqual(ck);
  });

  test('fewer than t learn nothing: one share is consistent with every key', async () => {
    // With t = 2, a share and any key fix a line; that its slope is drawn anew for every byte is what hides the key.
    const seen = Array.from({ length: 32 }, () => new Set<number>());
    for (let i = 0; i < 200; i++) {
      const [share = new Uint8Array()] = await splitContentKey(Buffer.alloc(32), 2, 3);
      for (const [at, values] of seen.entries()) values.add(share[at] ?? -1);
    }
    expect(Math.min(...seen.map(({ size }) => size))).toBeGreaterThan(90);
  });

  test('fewer than t, combined, are not the key', async () => {
    const shares = await splitContentKey(ck, 3, 4);
    for (const two of subsets(shares, 2)) expect(await combineShares(two)).not.toEqual(ck);
  });

  test('a share twice, a share at zero, a short share, one share: refused, never a key', async () => {
    const [a = new Uint8Array(), b = new Uint8Array()] = await splitContentKey(ck, 2, 2);
    const zero = Uint8Array.from(a);
    zero[32] = 0;
    for (const shares of [[a, a], [zero, b], [a, b.subarray(1)], [a], []]) {
      await expect(combineShares(shares)).rejects.toThrow(code('ERR_SEAL_KEY'));
    }
  });
});

describe('a content key wrapped to several brokers', () => {
  const ck = randomBytes(32);
  const brokers = [xwing(), xwing(), xwing()];
  const recovery = xwing();
  const keys = { brokers: brokers.map(({ publicRaw }) => publicRaw), threshold: 2, recovery: recovery.publicRaw };

  async function sealed(threshold = 2) {
    const { header } = await exampleHeader(newOwner(), xwing(), xwing(), ck);
    const context = { ...header, threshold: { t: threshold, n: 3 } };
    const recipients = await wrapContentKey(context, { ...keys, threshold }, ck);
    return { ...context, recipients, commitment: keyCommitment(ck, header.sealId), policy } satisfies SealHeader;
  }

  test('threshold 2 of 3: each broker opens its share, which its commitment covers; recovery opens the key', async () => {
    const header = await sealed();
    expect(header.recipients.map(({ kind, share }) => [kind, share])).toEqual([
      [KIND.broker, 1],
      [KIND.broker, 2],
      [KIND.broker, 3],
      [KIND.recovery, 0],
    ]);
    const shares = [];
    for (const [i, broker] of brokers.entries()) {
      const recipient = header.recipients[i];
      if (!recipient) throw new Error('a recipient is missing');
      expect(recipient.keyId).toEqual(keyId(broker.publicRaw));
      const share = await openShare(header, recipient, broker.seed);
      expect(share).toHaveLength(33);
      expect(share.includes(ck)).toBe(false);
      expect(() => checkShare(header, recipient, share.with(5, (share[5] ?? 0) ^ 1))).toThrow(code('ERR_SEAL_SHARE'));
      shares.push(share);
    }
    for (const two of subsets(shares, 2)) expect(await combineShares(two)).toEqual(ck);
    expect(await unwrapContentKey(header, recovery)).toEqual(ck);
  });

  test('no broker of several opens it alone', async () => {
    const header = await sealed();
    for (const broker of brokers)
      await expect(unwrapContentKey(header, broker)).rejects.toThrow(code('ERR_SEAL_RECIPIENT'));
    expect(await unwrapContentKey(await sealed(1), brokers[2] ?? recovery)).toEqual(ck);
  });

  test('a share moved to another threshold does not open', async () => {
    const header = await sealed();
    const moved = { ...header, threshold: { t: 3, n: 3 } };
    const [first] = header.recipients;
    if (!first || !brokers[0]) throw new Error('a recipient is missing');
    await expect(openShare(moved, first, brokers[0].seed)).rejects.toThrow(code('ERR_SEAL_SHARE'));
  });

  test.each([
    ['a threshold above the brokers', { threshold: 4 }, 'ERR_SEAL_THRESHOLD'],
    ['a threshold of 0', { threshold: 0 }, 'ERR_SEAL_THRESHOLD'],
    ['half a threshold', { threshold: 1.5 }, 'ERR_SEAL_THRESHOLD'],
    ['no broker', { brokers: [] }, 'ERR_SEAL_RECIPIENTS'],
    ['256 brokers', { brokers: Array(256).fill(recovery.publicRaw) }, 'ERR_SEAL_RECIPIENTS'],
    ['a broker twice', { brokers: [...keys.brokers, keys.brokers[0]] }, 'ERR_SEAL_RECIPIENTS'],
    ['the recovery key as a broker', { recovery: keys.brokers[0] }, 'ERR_SEAL_RECIPIENTS'],
  ])('%s is refused', async (_, change, expected) => {
    const { header } = await exampleHeader(newOwner(), xwing(), xwing(), ck);
    const wrong = { ...keys, ...change } as typeof keys;
    await expect(wrapContentKey(header, wrong, ck)).rejects.toThrow(code(expected, 2));
  });
});

test('the largest header that seal can write is read again', async () => {
  const owner = newOwner();
  const { header } = await exampleHeader(owner, xwing(), xwing(), randomBytes(32));
  const { publicRaw } = xwing();
  const one = await wrapContentKey({ ...header }, { brokers: [publicRaw], threshold: 1 }, randomBytes(32));
  const { encodeHeader } = await import('../../../src/seal/header.ts');
  const recipients = Array.from({ length: 255 }, (_, i) => ({
    ...(one[0] as (typeof one)[0]),
    share: i + 1,
    ciphertext: new Uint8Array(49),
  }));
  const bytes = encodeHeader({ ...header, threshold: { t: 255, n: 255 }, recipients }, owner.key);
  expect(parseHeader(bytes).header.recipients).toHaveLength(255);
});
