import { describe, expect, test } from 'vitest';
import { type BrokerFailure, type Post, requestRelease } from '../../../src/broker/index.ts';
import { decodeRelease, encodeReply, releaseBinder } from '../../../src/broker/protocol.ts';
import { sha256 } from '../../../src/core/bytes.ts';
import { AtomaError } from '../../../src/core/errors.ts';
import { hpkeSeal } from '../../../src/keys/hpke.ts';
import { openShare, unwrapContentKey } from '../../../src/seal/recipients.ts';
import { combineShares } from '../../../src/seal/shares.ts';
import { model, newAttester, newBroker, newOwner, policy, resign, seal } from './fixture.ts';

const owner = newOwner();

/** `n` brokers of one model that takes `t` of them. */
async function setup(t: number, n: number, change: Parameters<typeof seal>[2] = {}) {
  const brokers = Array.from({ length: n }, () => newBroker());
  const sealed = await seal(
    owner,
    brokers.map(({ key }) => key),
    { threshold: t, ...change },
  );
  const failures: BrokerFailure[] = [];
  const ask = (posts: Post[], header = sealed.parsed, timeoutMs = 5000) =>
    requestRelease({
      brokers: posts,
      attester: newAttester(),
      tee: 'simulated',
      header,
      measured: { owner: owner.raw, project: 'digits', model },
      timeoutMs,
      onFailure: (failure) => failures.push(failure),
    });
  return { brokers, posts: brokers.map(({ post }) => post), sealed, ask, failures };
}

const dead: Post = async () => {
  throw new AtomaError(
    'unexpected',
    'ERR_BROKER_UNREACHABLE',
    'expected an answer from the broker, found: ECONNREFUSED',
  );
};
const silent: Post = () => new Promise(() => {});
const garbage: Post = async () => ({ status: 200, body: Buffer.from('<html>') });

/** A broker that answers in the protocol's form, with a share that is not the one it was given. */
const liar =
  ({ broker, post }: ReturnType<typeof newBroker>, share: Uint8Array): Post =>
  async (path, body) => {
    if (path !== '/v1/release') return post(path, body);
    const request = decodeRelease(body);
    const headerDigest = sha256(request.header);
    const binder = releaseBinder({ ...request, brokerKeyId: broker.keyId, headerDigest });
    return { status: 200, body: encodeReply(await hpkeSeal(request.pkE, binder, share)) };
  };

describe('t of n brokers', () => {
  test.each([
    [1, 1],
    [1, 3],
    [2, 2],
    [2, 3],
    [3, 5],
    [12, 20],
  ])('%i of %i release the content key', async (t, n) => {
    const { posts, sealed, ask, brokers, failures } = await setup(t, n);
    expect(await ask(posts)).toEqual(sealed.contentKey);
    expect(failures).toEqual([]);
    expect(brokers.filter(({ state }) => state.audit.lines().length === 1).length).toBeGreaterThanOrEqual(t);
  });

  test('with threshold 1, one broker is asked: the others have nothing to release', async () => {
    const { posts, ask, brokers } = await setup(1, 3);
    await ask(posts);
    expect(brokers.map(({ state }) => state.audit.lines().length)).toEqual([1, 0, 0]);
  });

  test('the others are enough where one is dead, one silent, one no broker', async () => {
    const { posts, sealed, ask, failures } = await setup(2, 5);
    expect(await ask([dead, silent, garbage, ...posts.slice(3)])).toEqual(sealed.contentKey);
    expect(failures.map(({ broker, error }) => [broker, error.code])).toEqual([
      [1, 'ERR_BROKER_UNREACHABLE'],
      [3, 'ERR_RELEASE_REPLY'],
    ]);
  });

  test('a silent broker of a model with threshold 1 costs its time limit, then the next is asked', async () => {
    const { posts, sealed, ask, failures } = await setup(1, 2);
    expect(await ask([silent, ...posts.slice(1)], sealed.parsed, 2000)).toEqual(sealed.contentKey);
    expect(failures).toMatchObject([{ broker: 1, error: { code: 'ERR_BROKER_UNREACHABLE' } }]);
  });
});

describe('attacks on thresholds', () => {
  test('a lying broker is named, and does not stop the others', async () => {
    const { posts, sealed, ask, brokers, failures } = await setup(2, 3);
    const [first, ...others] = brokers as [(typeof brokers)[0], ...typeof brokers];
    const lie = liar(first, new Uint8Array(33).fill(7));
    expect(await ask([lie, ...others.map(({ post }) => post)])).toEqual(sealed.contentKey);
    const keyId = first.broker.keyId.toString('hex');
    expect(failures).toMatchObject([{ broker: 1, keyId, error: { code: 'ERR_SEAL_SHARE' } }]);
    const error = (await ask([lie, dead, posts[2] ?? dead]).catch((e) => e)) as AtomaError;
    expect(error).toMatchObject({ code: 'ERR_RELEASE_THRESHOLD', exitCode: 4 });
    expect(error.message).toContain(`broker 1 (key id ${keyId})`);
    expect(error.details).toMatchObject({
      threshold: 2,
      released: 1,
      brokers: [
        { broker: 1, keyId, code: 'ERR_SEAL_SHARE' },
        { broker: 2, code: 'ERR_BROKER_UNREACHABLE' },
      ],
    });
  });

  test("a broker that answers with another broker's share", async () => {
    const { posts, ask, brokers, sealed, failures } = await setup(2, 3);
    const [first, second] = brokers as [(typeof brokers)[0], (typeof brokers)[0]];
    // Two colluding brokers: one hands its share to the other, which claims it as its own.
    const shares: Uint8Array[] = [];
    for (const [i, { key }] of brokers.entries()) {
      const recipient = sealed.parsed.header.recipients[i];
      if (recipient) shares.push(await openShare(sealed.parsed.header, recipient, key.seed));
    }
    const lie = liar(first, shares[1] ?? new Uint8Array());
    await expect(ask([lie, second.post])).rejects.toMatchObject({ code: 'ERR_SEAL_SHARE', exitCode: 3 });
    expect(failures).toMatchObject([{ broker: 1, error: { code: 'ERR_SEAL_SHARE' } }]);
    expect(await combineShares(shares.slice(1))).toEqual(sealed.contentKey);
    expect(await ask(posts)).toEqual(sealed.contentKey);
  });

  test('one broker under two addresses is one', async () => {
    const { posts, ask, failures } = await setup(2, 3);
    const [one = dead] = posts;
    await expect(ask([one, one])).rejects.toMatchObject({ code: 'ERR_RELEASE_RECIPIENT', exitCode: 4 });
    expect(failures).toHaveLength(1);
    expect(failures[0]?.error.message).toContain('asked already');
  });

  test('replicas: a dead address of a broker does not count against its living one', async () => {
    const { posts, ask, sealed } = await setup(2, 2);
    expect(await ask([dead, ...posts, silent])).toEqual(sealed.contentKey);
  });

  test('fewer than t: one error says what each broker said; a refusal by policy keeps its code and exit 4', async () => {
    const { posts, ask } = await setup(2, 2, { policy: { ...policy, not_after: 1 } });
    const error = (await ask(posts).catch((e) => e)) as AtomaError;
    expect(error).toMatchObject({ code: 'ERR_RELEASE_POLICY', exitCode: 4 });
    expect(error.message).toMatch(
      /expected 2 of the 2 brokers .* found 0; broker 1 .*not-after.*; broker 2 .*not-after/,
    );
    const { posts: others, ask: askOthers } = await setup(2, 2);
    await expect(askOthers([...others.slice(1), dead])).rejects.toMatchObject({
      code: 'ERR_BROKER_UNREACHABLE',
      exitCode: 1,
    });
  });

  test('brokers of another model say less than why the right one refuses', async () => {
    const { posts, ask } = await setup(1, 1, { policy: { ...policy, not_after: 1 } });
    await expect(ask([newBroker().post, ...posts, newBroker().post])).rejects.toMatchObject({
      code: 'ERR_RELEASE_POLICY',
    });
  });

  test('shares that the owner commits to and that are of no key: refused by the key commitment', async () => {
    const { posts, sealed, ask } = await setup(2, 2);
    const other = await seal(owner, [newBroker().key]);
    const header = resign({ ...sealed.header, commitment: other.header.commitment }, owner);
    await expect(ask(posts, header)).rejects.toMatchObject({ code: 'ERR_SEAL_KEY', exitCode: 3 });
  });

  test('a broker whose answer cannot be read at all does not end the program', async () => {
    const { posts, sealed, ask, failures } = await setup(2, 3);
    const broken = (async () => ({ status: 200 })) as unknown as Post;
    expect(await ask([broken, ...posts.slice(1)])).toEqual(sealed.contentKey);
    expect(failures).toMatchObject([{ broker: 1, error: { code: 'ERR_RELEASE_REPLY' } }]);
  });

  test('255 addresses that say nothing: an error of bounded size', async () => {
    const { ask } = await setup(2, 2);
    const error = (await ask(Array(255).fill(dead)).catch((e) => e)) as AtomaError;
    expect(error).toMatchObject({ code: 'ERR_BROKER_UNREACHABLE' });
    expect(error.message).toContain('and 239 more');
    expect(JSON.stringify(error.details).length).toBeLessThan(8000);
  });

  test('another owner: nobody is asked', async () => {
    const { posts, brokers } = await setup(2, 2);
    const stranger = newOwner();
    const theirs = await seal(
      stranger,
      brokers.map(({ key }) => key),
      { threshold: 2 },
    );
    const asked: string[] = [];
    const watch: Post = (path) => {
      asked.push(path);
      return dead(path, new Uint8Array());
    };
    await expect(
      requestRelease({
        brokers: [watch, ...posts],
        attester: newAttester(),
        tee: 'simulated',
        header: theirs.parsed,
        measured: { owner: owner.raw, project: 'digits', model },
      }),
    ).rejects.toMatchObject({ code: 'ERR_SEAL_OWNER' });
    expect(asked).toEqual([]);
  });

  test('a share of a threshold is nothing that a broker alone can open the model with', async () => {
    const { brokers, sealed } = await setup(2, 3);
    for (const { key } of brokers)
      await expect(unwrapContentKey(sealed.parsed.header, key)).rejects.toMatchObject({ code: 'ERR_SEAL_RECIPIENT' });
  });
});
