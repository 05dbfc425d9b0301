import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createSimulatedAttester, createSimulatedRoot } from '../../../src/attest/index.ts';
import { requestShare } from '../../../src/broker/client.ts';
import {
  findBrokenLink,
  MemoryState,
  type Post,
  type ReleaseOptions,
  releaseBinder,
  requestRelease,
} from '../../../src/broker/index.ts';
import { decodeRelease, encodeRelease, type ReleaseRequest } from '../../../src/broker/protocol.ts';
import { sha256 } from '../../../src/core/bytes.ts';
import { decodeCbor, encodeCbor } from '../../../src/core/cbor.ts';
import { hpkeSeal } from '../../../src/keys/hpke.ts';
import { encodePolicy } from '../../../src/seal/policy.ts';
import {
  measured,
  model,
  newAttester,
  newBroker,
  newBrokerKey,
  newOwner,
  policy,
  resign,
  root,
  seal,
} from './fixture.ts';

const owner = newOwner();
type Setup = Awaited<ReturnType<typeof setup>>;

async function setup(options: Parameters<typeof newBroker>[0] = {}, change: Parameters<typeof seal>[2] = {}) {
  const world = newBroker(options);
  const sealed = await seal(owner, [world.key], change);
  const ask = ({ post = world.post, ...more }: Partial<ReleaseOptions & { post: Post }> = {}) =>
    requestRelease({
      brokers: [post],
      attester: newAttester(),
      tee: 'simulated',
      header: sealed.parsed,
      measured: { owner: owner.raw, project: 'digits', model },
      ...more,
    });
  return { ...world, sealed, ask };
}

/** A post that changes the release request on its way: what a host can do. */
const tamper =
  (post: Post, change: (request: ReleaseRequest) => Partial<ReleaseRequest>): Post =>
  async (path, body) => {
    if (path !== '/v1/release') return post(path, body);
    const request = decodeRelease(body);
    return post(path, encodeRelease({ ...request, ...change(request) }));
  };

/** What the enclave sent, for replays. */
async function recordRequest({ post, ask }: Setup): Promise<Uint8Array> {
  let recorded: Uint8Array = new Uint8Array(0);
  const recorder: Post = async (path, body) => {
    if (path !== '/v1/release') return post(path, body);
    recorded = body;
    return { status: 403, body: new Uint8Array(0) };
  };
  await expect(ask({ post: recorder })).rejects.toThrow();
  return recorded;
}

const refused = (code: string, rule: string) => ({ code, exitCode: 4, details: expect.objectContaining({ rule }) });

describe('release', () => {
  test('the content key reaches the enclave that the policy names', async () => {
    const { ask, sealed, state, broker } = await setup();
    expect(await ask()).toEqual(sealed.contentKey);
    const [line = ''] = state.audit.lines();
    expect(JSON.parse(line)).toMatchObject({
      index: 0,
      event: 'release',
      broker: broker.keyId.toString('hex'),
      owner: owner.raw.toString('hex'),
      epoch: 1,
      simulated: true,
      measurement: { tee: 'simulated', root: root.fingerprint, of: measured },
    });
    expect(line).not.toContain(sealed.contentKey.toString('hex'));
  });

  test('twice, and the audit log is a chain', async () => {
    const { ask, state } = await setup();
    await ask();
    await ask();
    await ask();
    const lines = state.audit.lines();
    expect(lines).toHaveLength(3);
    expect(findBrokenLink(lines)).toBe(-1);
    expect(findBrokenLink(lines.toSpliced(1, 1))).toBe(1);
    expect(
      findBrokenLink([
        lines[0] ?? '',
        (lines[1] ?? '').replace('digits', 'other').replace('"epoch":1', '"epoch":2'),
        lines[2] ?? '',
      ]),
    ).toBe(2);
    expect(findBrokenLink(['not json'])).toBe(0);
  });

  test('from the right one of two brokers', async () => {
    const world = await setup();
    const other = newBroker();
    const { parsed, contentKey } = await seal(owner, [other.key, world.key]);
    expect(await world.ask({ header: parsed })).toEqual(contentKey);
    expect(await world.ask({ header: parsed, post: other.post })).toEqual(contentKey);
  });

  test('a broker that does not say its key id', async () => {
    const { ask, post, sealed, key } = await setup();
    const silent: Post = async (path, body) => {
      const answer = await post(path, body);
      if (path !== '/v1/challenge') return answer;
      const { broker: _broker, ...rest } = JSON.parse(Buffer.from(answer.body).toString());
      return { ...answer, body: Buffer.from(JSON.stringify(rest)) };
    };
    expect(await ask({ post: silent })).toEqual(sealed.contentKey);
    const two = await seal(owner, [key, newBrokerKey()]);
    await expect(ask({ post: silent, header: two.parsed })).rejects.toMatchObject({ code: 'ERR_RELEASE_RECIPIENT' });
  });
});

describe('attacks on the nonce', () => {
  test('replayed nonce', async () => {
    const world = await setup();
    const body = await recordRequest(world);
    expect((await world.post('/v1/release', body)).status).toBe(200);
    await expect(world.broker.release(body)).rejects.toMatchObject({
      ...refused('ERR_RELEASE_NONCE', 'nonce'),
      details: { found: 'used nonce' },
    });
  });

  test('replayed nonce, at the same time', async () => {
    const world = await setup();
    const body = await recordRequest(world);
    const answers = await Promise.all(Array.from({ length: 8 }, () => world.post('/v1/release', body)));
    expect(answers.filter((a) => a.status === 200)).toHaveLength(1);
    expect(world.state.audit.lines()).toHaveLength(1);
  });

  test('expired nonce', async () => {
    const world = await setup();
    const body = await recordRequest(world);
    world.time.now = new Date(world.time.now.getTime() + 62_000);
    await expect(world.broker.release(body)).rejects.toMatchObject({
      ...refused('ERR_RELEASE_NONCE', 'nonce'),
      details: { found: 'expired nonce' },
    });
    await world.broker.challenge();
    await expect(world.broker.release(body)).rejects.toMatchObject({ details: { found: 'unknown nonce' } });
  });

  test("another broker's nonce", async () => {
    const world = await setup();
    const other = newBroker(world.key);
    const post: Post = (path, body) => (path === '/v1/challenge' ? other : world).post(path, body);
    await expect(world.ask({ post })).rejects.toMatchObject(refused('ERR_RELEASE_NONCE', 'nonce'));
  });

  test('a flood of challenges: memory stays bounded, and whoever asks last is served', async () => {
    const state = new MemoryState({ mostNonces: 100 });
    const { broker } = newBroker({ state });
    const nonces: Uint8Array[] = [];
    for (let i = 0; i < 250; i++) nonces.push((await broker.challenge()).nonce);
    const status = await Promise.all(nonces.map((nonce) => state.nonceStatus(nonce, 0)));
    expect(status.filter((word) => word === 'fresh')).toHaveLength(100);
    expect(status.slice(150)).not.toContain('unknown');
  });

  test('a refusal does not consume the nonce', async () => {
    const world = await setup();
    const body = await recordRequest(world);
    const spoilt = encodeRelease({ ...decodeRelease(body), share: 2 });
    await expect(world.broker.release(spoilt)).rejects.toMatchObject({ exitCode: 4 });
    expect((await world.post('/v1/release', body)).status).toBe(200);
  });
});

describe('attacks with evidence', () => {
  test('relayed evidence with another pkE', async () => {
    const { ask, post } = await setup();
    const { publicRaw } = newBrokerKey();
    await expect(ask({ post: tamper(post, () => ({ pkE: publicRaw })) })).rejects.toMatchObject(
      refused('ERR_RELEASE_BINDER', 'binder'),
    );
  });

  test('evidence for another header', async () => {
    const { ask, post, key } = await setup();
    const other = await seal(owner, [key]);
    await expect(ask({ post: tamper(post, () => ({ header: other.parsed.bytes })) })).rejects.toMatchObject(
      refused('ERR_RELEASE_BINDER', 'binder'),
    );
  });

  test('evidence for another share', async () => {
    const { ask, post } = await setup();
    await expect(ask({ post: tamper(post, () => ({ share: 2 })) })).rejects.toMatchObject(
      refused('ERR_RELEASE_BINDER', 'binder'),
    );
  });

  test('evidence for another broker', async () => {
    const world = await setup();
    const other = newBroker();
    const both = await seal(owner, [world.key, other.key]);
    // The enclave means to ask `other`; the host relays it all to `world` under the nonce of `world`.
    const post: Post = async (path, body) => {
      const answer = await world.post(path, body);
      if (path !== '/v1/challenge') return answer;
      const json = {
        ...JSON.parse(Buffer.from(answer.body).toString()),
        broker: other.broker.keyId.toString('base64'),
      };
      return { ...answer, body: Buffer.from(JSON.stringify(json)) };
    };
    await expect(world.ask({ header: both.parsed, post })).rejects.toMatchObject(
      refused('ERR_RELEASE_BINDER', 'binder'),
    );
  });

  test('identity evidence, with a public key in it', async () => {
    const { ask } = await setup();
    const attester = newAttester();
    const wrapped = { attest: (request: object) => attester.attest({ ...request, publicKey: randomBytes(32) }) };
    await expect(ask({ attester: wrapped })).rejects.toMatchObject(refused('ERR_RELEASE_BINDER', 'binder'));
  });

  test('evidence with another nonce in it', async () => {
    const { ask } = await setup();
    const attester = newAttester();
    const wrapped = { attest: (request: object) => attester.attest({ ...request, nonce: randomBytes(32) }) };
    await expect(ask({ attester: wrapped })).rejects.toMatchObject(refused('ERR_RELEASE_BINDER', 'binder'));
  });

  test('another image', async () => {
    const { ask } = await setup();
    const attester = createSimulatedAttester(root, { ...measured, pcr2: '04'.repeat(48) });
    await expect(ask({ attester })).rejects.toMatchObject({
      ...refused('ERR_RELEASE_POLICY', 'policy.measurement'),
      details: { expected: `pcr2 ${measured.pcr2}`, found: `pcr2 ${'04'.repeat(48)}` },
    });
  });

  test('debug enclave', async () => {
    const { ask } = await setup();
    const zero = '00'.repeat(48);
    const attester = createSimulatedAttester(root, { tee: 'nitro', pcr0: zero, pcr1: zero, pcr2: zero });
    await expect(ask({ attester })).rejects.toMatchObject(refused('ERR_RELEASE_DEBUG', 'evidence.debug'));
  });

  test('wrong root', async () => {
    const { ask } = await setup();
    const attester = createSimulatedAttester(await createSimulatedRoot(), measured);
    await expect(ask({ attester })).rejects.toMatchObject(refused('ERR_RELEASE_EVIDENCE', 'evidence.root'));
  });

  test('expired chain', async () => {
    const world = await setup();
    world.time.now = new Date(world.time.now.getTime() + 4 * 3_600_000);
    await expect(world.ask()).rejects.toMatchObject(refused('ERR_RELEASE_EVIDENCE', 'evidence.validity'));
  });

  test('evidence older than five minutes', async () => {
    const world = await setup();
    const attester = createSimulatedAttester(root, measured, () => new Date(world.time.now.getTime() - 301_000));
    await expect(world.ask({ attester })).rejects.toMatchObject(refused('ERR_RELEASE_EVIDENCE', 'evidence.time'));
  });

  test('simulated evidence to a production broker', async () => {
    const { ask, post } = await setup({ allowSimulated: [] });
    await expect(ask()).rejects.toMatchObject(refused('ERR_RELEASE_SIMULATED', 'simulated'));
    await expect(ask({ post: tamper(post, () => ({ tee: 'nitro' })) })).rejects.toMatchObject(
      refused('ERR_RELEASE_EVIDENCE', 'evidence'),
    );
  });

  test('simulated evidence for a policy of real hardware', async () => {
    const { ask } = await setup({}, { policy: { ...policy, any: [measured] } });
    await expect(ask()).rejects.toMatchObject({
      ...refused('ERR_RELEASE_POLICY', 'policy.measurement'),
      details: { found: 'SIMULATED' },
    });
  });

  test('a second request after the enclave has opened its model', async () => {
    const { ask, sealed } = await setup();
    const attester = newAttester();
    expect(await ask({ attester })).toEqual(sealed.contentKey);
    attester.lockRelease();
    await expect(ask({ attester })).rejects.toMatchObject(refused('ERR_RELEASE_LOCKED', 'pcr16'));
  });

  test('attester-supplied collateral', async () => {
    const world = await setup();
    const body = await recordRequest(world);
    const map = decodeCbor(body, { what: 'request', maxBytes: body.length }) as Map<number, unknown>;
    for (const key of [7, 0, 'endorsements', -1]) {
      const stuffed = encodeCbor(new Map<unknown, unknown>([...map, [key, { root_ca_crl: 'aa' }]]));
      await expect(world.broker.release(stuffed)).rejects.toMatchObject(refused('ERR_RELEASE_REQUEST', 'request'));
    }
  });

  test('evidence of a kind that is not built in', async () => {
    const { ask, post } = await setup();
    const quote = Buffer.alloc(1200);
    quote.writeUInt16LE(3);
    quote.write('939a7233f79c4ca9940a0db3957f0607', 12, 'hex');
    await expect(ask({ post: tamper(post, () => ({ tee: 'sgx', evidence: quote })) })).rejects.toMatchObject(
      refused('ERR_RELEASE_EVIDENCE', 'evidence'),
    );
  });
});

describe('attacks with the header', () => {
  const withHeader = (world: Setup, header: Setup['sealed']['parsed'], asOwner = owner) =>
    world.ask({ header, measured: { owner: asOwner.raw, project: 'digits', model } });

  test('re-signed header', async () => {
    const world = await setup();
    const thief = newOwner();
    const header = resign({ ...world.sealed.header, owner: thief.raw }, thief);
    // An enclave built by the thief would ask; the broker's share opens only under the real owner.
    await expect(withHeader(world, header, thief)).rejects.toMatchObject(refused('ERR_RELEASE_SHARE', 'share'));
    // The real image does not even ask.
    await expect(withHeader(world, header)).rejects.toMatchObject({ code: 'ERR_SEAL_OWNER', exitCode: 3 });
    expect(world.state.audit.lines()).toEqual([]);
  });

  test('signed by another than the owner named', async () => {
    const world = await setup();
    const header = resign(world.sealed.header, newOwner());
    await expect(withHeader(world, header)).rejects.toMatchObject({ code: 'ERR_SEAL_SIGNATURE', exitCode: 3 });
    const options = { post: world.post, attester: newAttester(), tee: 'simulated' as const, header };
    await expect(requestShare(options)).rejects.toMatchObject(refused('ERR_RELEASE_HEADER', 'header'));
  });

  test('swapped policy', async () => {
    const world = await setup({}, { policy: { ...policy, not_after: 1 } });
    await expect(world.ask()).rejects.toMatchObject(refused('ERR_RELEASE_POLICY', 'policy.not-after'));
    const header = resign({ ...world.sealed.header, policyBytes: encodePolicy(policy) }, owner);
    await expect(withHeader(world, header)).rejects.toMatchObject(refused('ERR_RELEASE_SHARE', 'share'));
  });

  test('swapped recipient', async () => {
    const world = await setup();
    const other = await seal(owner, [world.key]);
    const header = resign({ ...world.sealed.header, recipients: other.header.recipients }, owner);
    await expect(withHeader(world, header)).rejects.toMatchObject(refused('ERR_RELEASE_SHARE', 'share'));
  });

  test('a share of another epoch', async () => {
    const world = await setup();
    const header = resign({ ...world.sealed.header, epoch: 9 }, owner);
    await expect(withHeader(world, header)).rejects.toMatchObject(refused('ERR_RELEASE_SHARE', 'share'));
  });

  test('a header with padding', async () => {
    const world = await setup();
    const padded = Buffer.alloc(world.sealed.parsed.payloadOffset);
    padded.set(world.sealed.parsed.bytes);
    await expect(world.ask({ post: tamper(world.post, () => ({ header: padded })) })).rejects.toMatchObject(
      refused('ERR_RELEASE_BINDER', 'binder'),
    );
    // Nor where the evidence was made for it.
    const header = { ...world.sealed.parsed, bytes: padded, digest: sha256(padded) };
    await expect(withHeader(world, header)).rejects.toMatchObject(refused('ERR_RELEASE_HEADER', 'header'));
  });

  test('a header that is not one', async () => {
    const world = await setup();
    const bytes = randomBytes(500);
    const header = {
      ...world.sealed.parsed,
      bytes,
      digest: (await import('../../../src/core/bytes.ts')).sha256(bytes),
    };
    await expect(withHeader(world, header)).rejects.toMatchObject(refused('ERR_RELEASE_HEADER', 'header'));
  });

  test('a model sealed to other brokers', async () => {
    const world = await setup();
    const { parsed } = await seal(owner, [newBrokerKey()]);
    await expect(withHeader(world, parsed)).rejects.toMatchObject({ code: 'ERR_RELEASE_RECIPIENT', exitCode: 4 });
  });

  test('seal-id squatting', async () => {
    const world = await setup();
    const squatter = newOwner();
    // The squatter seals its own model under the victim's seal id, with a huge epoch.
    const { sealId } = world.sealed.header;
    const squat = await seal(squatter, [world.key], { sealId, epoch: 1_000_000 });
    expect(await withHeader(world, squat.parsed, squatter)).toEqual(squat.contentKey);
    expect(await world.ask()).toEqual(world.sealed.contentKey);
  });

  test('epoch poisoning', async () => {
    const world = await setup();
    const { sealId } = world.sealed.header;
    // A header that the owner never signed and whose share does not open moves nothing.
    const forged = resign({ ...world.sealed.header, epoch: 1_000_000 }, owner);
    await expect(withHeader(world, forged)).rejects.toMatchObject(refused('ERR_RELEASE_SHARE', 'share'));
    // Nor does one that is the owner's, but whose policy refuses this enclave.
    const ended = await seal(owner, [world.key], { sealId, epoch: 5, policy: { ...policy, not_after: 1 } });
    await expect(withHeader(world, ended.parsed)).rejects.toMatchObject(
      refused('ERR_RELEASE_POLICY', 'policy.not-after'),
    );
    expect(await world.state.epoch(owner.raw, sealId)).toBe(0);
    expect(await world.ask()).toEqual(world.sealed.contentKey);
  });

  test('old epoch', async () => {
    const world = await setup();
    const { sealId } = world.sealed.header;
    const newer = await seal(owner, [world.key], { sealId, epoch: 2 });
    expect(await world.ask()).toEqual(world.sealed.contentKey);
    expect(await withHeader(world, newer.parsed)).toEqual(newer.contentKey);
    await expect(world.ask()).rejects.toMatchObject({
      ...refused('ERR_RELEASE_EPOCH', 'epoch'),
      details: { expected: 'epoch 2 or later', found: 'epoch 1' },
    });
    expect(world.state.audit.lines()).toHaveLength(2);
  });
});

describe('what the enclave does not believe', () => {
  test('a policy for another project or model', async () => {
    const { ask } = await setup();
    for (const change of [{ project: 'other' }, { model: 'cd'.repeat(32) }]) {
      await expect(ask({ measured: { owner: owner.raw, project: 'digits', model, ...change } })).rejects.toMatchObject({
        code: 'ERR_RELEASE_MISMATCH',
        exitCode: 3,
      });
    }
  });

  test('a lying broker: another share than the one sealed', async () => {
    const world = await setup();
    const post: Post = async (path, body) => {
      if (path !== '/v1/release') return world.post(path, body);
      const request = decodeRelease(body);
      const binder = releaseBinder({
        ...request,
        brokerKeyId: world.broker.keyId,
        headerDigest: world.sealed.parsed.digest,
      });
      const { enc, ciphertext } = await hpkeSeal(request.pkE, binder, randomBytes(32));
      return {
        status: 200,
        body: encodeCbor(
          new Map([
            [1, enc],
            [2, ciphertext],
          ]),
        ),
      };
    };
    await expect(world.ask({ post })).rejects.toMatchObject({ code: 'ERR_SEAL_SHARE', exitCode: 3 });
  });

  test('a share that the header commits to, for another key', async () => {
    const world = await setup();
    const header = resign({ ...world.sealed.header, commitment: randomBytes(32) }, owner);
    await expect(world.ask({ header })).rejects.toMatchObject({ code: 'ERR_SEAL_KEY', exitCode: 3 });
  });

  test('a threshold that it cannot combine yet', async () => {
    const world = await setup();
    const { parsed } = world.sealed;
    const header = { ...parsed, header: { ...parsed.header, threshold: { t: 2, n: 2 } } };
    await expect(world.ask({ header })).rejects.toMatchObject({ code: 'ERR_RELEASE_THRESHOLD' });
  });

  test.each<[string, string, { status: number; body: Uint8Array }]>([
    ['an empty challenge', '/v1/challenge', { status: 200, body: new Uint8Array(0) }],
    ['a challenge that is not JSON', '/v1/challenge', { status: 200, body: Buffer.from('<html>') }],
    ['a challenge that is null', '/v1/challenge', { status: 200, body: Buffer.from('null') }],
    ['a short nonce', '/v1/challenge', { status: 200, body: Buffer.from('{"nonce":"AAAA","expires":1}') }],
    ['an empty reply', '/v1/release', { status: 200, body: new Uint8Array(0) }],
    ['an oversized reply', '/v1/release', { status: 200, body: Buffer.alloc(1 << 20) }],
    [
      'a reply of zeros',
      '/v1/release',
      {
        status: 200,
        body: encodeCbor(
          new Map([
            [1, Buffer.alloc(1120)],
            [2, Buffer.alloc(48)],
          ]),
        ),
      },
    ],
  ])('%s', async (_, at, answer) => {
    const { ask, post } = await setup();
    const liar: Post = async (path, body) => (path === at ? answer : post(path, body));
    await expect(ask({ post: liar })).rejects.toMatchObject({ code: 'ERR_RELEASE_REPLY', exitCode: 4 });
  });

  test('terminal codes and novels in a refusal', async () => {
    const { ask } = await setup();
    const error = { code: 'rm -rf', rule: '\u001b[2J', expected: 'x'.repeat(5000), found: { a: 1 } };
    const post: Post = async () => ({ status: 403, body: Buffer.from(JSON.stringify({ error })) });
    await expect(ask({ post })).rejects.toMatchObject({
      code: 'ERR_RELEASE_REFUSED',
      details: { rule: '?[2J', expected: 'x'.repeat(300), found: 'unknown' },
    });
    const garbage: Post = async () => ({ status: 502, body: Buffer.from('Bad Gateway') });
    await expect(ask({ post: garbage })).rejects.toMatchObject({
      code: 'ERR_RELEASE_REFUSED',
      details: { rule: 'HTTP 502' },
    });
  });
});

describe('malformed requests', () => {
  test.each<[string, Partial<Record<keyof ReleaseRequest, unknown>>]>([
    ['a short nonce', { nonce: Buffer.alloc(31) }],
    ['an unknown TEE', { tee: 'trustzone' }],
    ['no evidence', { evidence: Buffer.alloc(0) }],
    ['oversized evidence', { evidence: Buffer.alloc(65537) }],
    ['a short key', { pkE: Buffer.alloc(1215) }],
    ['share zero', { share: 0 }],
    ['share 256', { share: 256 }],
    ['a share that is a float', { share: 1.5 }],
    ['a header of the wrong type', { header: 'x' }],
  ])('%s', async (_, change) => {
    const world = await setup();
    const body = encodeRelease({
      ...decodeRelease(await recordRequest(world)),
      ...(change as Partial<ReleaseRequest>),
    });
    await expect(world.broker.release(body)).rejects.toMatchObject(refused('ERR_RELEASE_REQUEST', 'request'));
  });

  test('truncated, every 100th byte flipped', async () => {
    const world = await setup();
    const body = await recordRequest(world);
    for (let n = 0; n < body.length; n += 97) {
      await expect(world.broker.release(body.subarray(0, n))).rejects.toMatchObject({ exitCode: 4 });
      const flipped = Buffer.from(body);
      flipped[n] = (flipped[n] ?? 0) ^ 0x10;
      await expect(world.broker.release(flipped)).rejects.toMatchObject({ exitCode: 4 });
    }
    expect(world.state.audit.lines()).toEqual([]);
    expect((await world.post('/v1/release', body)).status).toBe(200);
  });

  test('a key that is not a point or a lattice', async () => {
    const world = await setup();
    // The evidence binds it, so only the encryption can notice: nothing but a refusal comes out.
    const { nonce } = await world.broker.challenge();
    const pkE = Buffer.alloc(1216, 0xff);
    const { parsed } = world.sealed;
    const binder = releaseBinder({
      nonce,
      pkE,
      brokerKeyId: world.broker.keyId,
      headerDigest: parsed.digest,
      share: 1,
    });
    const evidence = await newAttester().attest({ userData: binder, nonce });
    const body = encodeRelease({ nonce, tee: 'simulated', evidence, pkE, share: 1, header: parsed.bytes });
    await expect(world.broker.release(body)).rejects.toMatchObject(refused('ERR_RELEASE_REQUEST', 'pkE'));
  });
});
