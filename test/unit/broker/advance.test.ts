import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { findBrokenLink, handleBrokerRequest, MemoryState, requestRelease } from '../../../src/broker/index.ts';
import { model, newAttester, newBroker, newBrokerKey, newOwner, policy, resign, type Sealed, seal } from './fixture.ts';

// `PUT /v1/epochs`, which `broker advance` sends: key-release.md.

const owner = newOwner();
const refused = (code: string, rule: string) => ({ code, exitCode: 4, details: expect.objectContaining({ rule }) });
type World = ReturnType<typeof newBroker>;

/** The same seal at some epoch, as `rebind` makes it. */
const atEpoch = (world: World, epoch: number, sealId: Uint8Array, by = owner) =>
  seal(by, [world.key], { epoch, sealId });
const advance = ({ broker }: World, { parsed }: Pick<Sealed, 'parsed'>) => broker.advance(parsed.bytes);
const release = ({ post }: World, { parsed }: Sealed, by = owner) =>
  requestRelease({
    brokers: [post],
    attester: newAttester(),
    tee: 'simulated',
    header: parsed,
    measured: { owner: by.raw, project: 'digits', model },
  });

describe('advance', () => {
  test('raises the epoch in force: older headers are refused from then on, newer ones not', async () => {
    const world = newBroker();
    const sealId = randomBytes(16);
    const [one, two, three] = await Promise.all([1, 2, 3].map((epoch) => atEpoch(world, epoch, sealId)));
    if (!one || !two || !three) throw new Error('unreachable');
    expect(await release(world, one)).toEqual(one.contentKey);
    expect(await advance(world, two)).toEqual({ previous: 0, epoch: 2 });
    await expect(release(world, one)).rejects.toMatchObject(refused('ERR_RELEASE_EPOCH', 'epoch'));
    expect(await release(world, two)).toEqual(two.contentKey);
    expect(await release(world, three)).toEqual(three.contentKey);
    await expect(release(world, two)).rejects.toMatchObject(refused('ERR_RELEASE_EPOCH', 'epoch'));
  });

  test('over the interface: PUT, and what changed is in the audit log', async () => {
    const world = newBroker();
    const { parsed } = await atEpoch(world, 5, randomBytes(16));
    const put = () => handleBrokerRequest(world.broker, 'PUT', '/v1/epochs', parsed.bytes);
    expect(await put()).toMatchObject({ status: 200, body: Buffer.from('{"previous":0,"epoch":5}') });
    expect(await put()).toMatchObject({ status: 200, body: Buffer.from('{"previous":5,"epoch":5}') });
    expect(findBrokenLink(world.state.audit.lines())).toBe(-1);
    const lines = world.state.audit.lines().map((line) => JSON.parse(line));
    expect(lines).toMatchObject([
      { index: 0, event: 'advance', before: 0, epoch: 5, headerDigest: parsed.digest.toString('hex') },
    ]);
  });

  test('with a threshold, each broker is advanced by itself', async () => {
    const [a, b] = [newBroker(), newBroker()];
    const { parsed } = await seal(owner, [a.key, b.key], { epoch: 4, threshold: 2 });
    expect(await b.broker.advance(parsed.bytes)).toEqual({ previous: 0, epoch: 4 });
    expect(await a.state.epoch(owner.raw, parsed.header.sealId)).toBe(0);
  });
});

describe('attacks on epochs', () => {
  test('epoch poisoning by a stranger: the header is theirs, so is the epoch', async () => {
    const world = newBroker();
    const stranger = newOwner();
    const sealId = randomBytes(16);
    const mine = await atEpoch(world, 1, sealId);
    expect(await advance(world, await atEpoch(world, 2 ** 40, sealId, stranger))).toMatchObject({ epoch: 2 ** 40 });
    expect(await release(world, mine)).toEqual(mine.contentKey);
    expect(await world.state.epoch(owner.raw, sealId)).toBe(0);
  });

  test("epoch poisoning with the victim's name in a stranger's header: forged owner", async () => {
    const world = newBroker();
    const stranger = newOwner();
    const mine = await atEpoch(world, 1, randomBytes(16));
    const forged = resign({ ...mine.header, epoch: 1000 }, stranger);
    await expect(advance(world, { parsed: forged })).rejects.toMatchObject(refused('ERR_RELEASE_HEADER', 'header'));
    expect(await world.state.epoch(owner.raw, mine.header.sealId)).toBe(0);
  });

  test("a stranger's header around the victim's share, which does not open", async () => {
    const world = newBroker();
    const stranger = newOwner();
    const mine = await atEpoch(world, 1, randomBytes(16));
    const stolen = resign({ ...mine.header, owner: stranger.raw, epoch: 9 }, stranger);
    await expect(advance(world, { parsed: stolen })).rejects.toMatchObject(refused('ERR_RELEASE_SHARE', 'share'));
  });

  test('a header whose share does not open: the owner cannot raise an epoch that was not sealed', async () => {
    const world = newBroker();
    const mine = await atEpoch(world, 1, randomBytes(16));
    const raised = resign({ ...mine.header, epoch: 7 }, owner);
    await expect(advance(world, { parsed: raised })).rejects.toMatchObject(refused('ERR_RELEASE_SHARE', 'share'));
    expect(await world.state.epoch(owner.raw, mine.header.sealId)).toBe(0);
    expect(world.state.audit.lines()).toEqual([]);
  });

  test('seal-id squatting: a seal id that a stranger took first', async () => {
    const world = newBroker();
    const sealId = randomBytes(16);
    await advance(world, await atEpoch(world, 50, sealId, newOwner()));
    const mine = await atEpoch(world, 2, sealId);
    expect(await advance(world, mine)).toEqual({ previous: 0, epoch: 2 });
    expect(await release(world, mine)).toEqual(mine.contentKey);
  });

  test("replay of an older header's advance never lowers the epoch", async () => {
    const world = newBroker();
    const sealId = randomBytes(16);
    const [two, three] = [await atEpoch(world, 2, sealId), await atEpoch(world, 3, sealId)];
    await advance(world, three);
    expect(await advance(world, two)).toEqual({ previous: 3, epoch: 3 });
    await expect(release(world, two)).rejects.toMatchObject(refused('ERR_RELEASE_EPOCH', 'epoch'));
    expect(await advance(world, three)).toEqual({ previous: 3, epoch: 3 });
    expect(world.state.audit.lines()).toHaveLength(1);
  });

  test('a model that is sealed to other brokers', async () => {
    const world = newBroker();
    const { parsed } = await seal(owner, [newBrokerKey()], { epoch: 3 });
    await expect(advance(world, { parsed })).rejects.toMatchObject(refused('ERR_RELEASE_RECIPIENT', 'recipient'));
  });

  test('padding, bytes after, half a header, nothing', async () => {
    const world = newBroker();
    const { parsed } = await atEpoch(world, 3, randomBytes(16));
    const { bytes } = parsed;
    const padded = Buffer.concat([bytes, Buffer.alloc(parsed.payloadOffset - bytes.length)]);
    for (const body of [padded, Buffer.concat([bytes, Buffer.alloc(1)]), bytes.subarray(0, 500), Buffer.alloc(0)]) {
      await expect(world.broker.advance(body)).rejects.toMatchObject(refused('ERR_RELEASE_HEADER', 'header'));
    }
  });

  test('made-up seals without end: the memory is bounded, and what is known stays', async () => {
    const state = new MemoryState({ mostEpochs: 2 });
    const world = { ...newBroker({ state }), state };
    const known = await atEpoch(world, 2, randomBytes(16));
    await advance(world, known);
    await advance(world, await atEpoch(world, 2, randomBytes(16), newOwner()));
    await expect(advance(world, await atEpoch(world, 2, randomBytes(16), newOwner()))).rejects.toMatchObject(
      refused('ERR_RELEASE_FULL', 'state'),
    );
    await expect(release(world, await atEpoch(world, 2, randomBytes(16)))).rejects.toMatchObject(
      refused('ERR_RELEASE_FULL', 'state'),
    );
    expect(await release(world, known)).toEqual(known.contentKey);
    // First epochs cost nothing, so they are served still.
    const first = await atEpoch(world, 1, randomBytes(16));
    expect(await release(world, first)).toEqual(first.contentKey);
    expect(await advance(world, await atEpoch(world, 3, known.header.sealId))).toEqual({ previous: 2, epoch: 3 });
  });

  test('a broker that serves certain owners: a stranger gets neither share nor memory', async () => {
    const world = newBroker({ owners: [owner.raw] });
    const stranger = newOwner();
    const theirs = await atEpoch(world, 2, randomBytes(16), stranger);
    await expect(advance(world, theirs)).rejects.toMatchObject(refused('ERR_RELEASE_OWNER', 'owner'));
    await expect(release(world, theirs, stranger)).rejects.toMatchObject(refused('ERR_RELEASE_OWNER', 'owner'));
    const mine = await seal(owner, [world.key], { policy });
    expect(await release(world, mine)).toEqual(mine.contentKey);
  });
});
