import { describe, expect, test } from 'vitest';
import type { AttestRequest } from '../../../src/attest/index.ts';
import type { BrokerOptions } from '../../../src/broker/index.ts';
import { requestRelease } from '../../../src/broker/index.ts';
import type { Policy } from '../../../src/seal/policy.ts';
import { type Change, nitroDocument, nitroRoot, now, registers } from '../attest/nitro-fixture.ts';
import { ark, ask, endorse, type ReportChange, snpReport, vek } from '../attest/snp-fixture.ts';
import { model, newBroker, newOwner, seal } from './fixture.ts';

// Evidence in the forms of real hardware, under roots of our own: a broker treats them alike.

const owner = newOwner();
const pcr = (index: number) => Buffer.alloc(48, index + 1).toString('hex');
const nitroPolicy: Policy = {
  any: [{ tee: 'nitro', pcr0: pcr(0), pcr1: pcr(1), pcr2: pcr(2) }],
  project: 'digits',
  model,
};

async function setup(options: Partial<BrokerOptions>, policy = nitroPolicy) {
  const world = newBroker({ allowSimulated: [], clock: () => now, ...options });
  const sealed = await seal(owner, [world.key], { policy });
  const ask = (tee: 'nitro' | 'snp', attest: (request: AttestRequest) => Uint8Array) =>
    requestRelease({
      brokers: [world.post],
      attester: { attest: async (request) => attest(request) },
      tee,
      header: sealed.parsed,
      measured: { owner: owner.raw, project: 'digits', model },
    });
  return { ...world, sealed, ask };
}

const refused = (code: string, rule: string) => ({ code, exitCode: 4, details: expect.objectContaining({ rule }) });

describe('AWS Nitro evidence at a broker', () => {
  const attest =
    (change: Change = {}) =>
    ({ userData, nonce, publicKey }: AttestRequest) =>
      nitroDocument({
        ...change,
        document: {
          user_data: userData ?? null,
          nonce: nonce ?? null,
          public_key: publicKey ?? null,
          ...change.document,
        },
      });

  test('the content key reaches the enclave that the policy names', async () => {
    const { ask, sealed, state } = await setup({ roots: [nitroRoot] });
    expect(await ask('nitro', attest())).toEqual(sealed.contentKey);
    const [line = ''] = state.audit.lines();
    expect(JSON.parse(line)).toMatchObject({
      tee: 'nitro',
      simulated: false,
      measurement: { tee: 'nitro', pcr0: pcr(0) },
    });
  });

  test('an image signed with the key of pcr8', async () => {
    const policy: Policy = { ...nitroPolicy, any: [{ tee: 'nitro', pcr8: pcr(8) }] };
    const { ask, sealed } = await setup({ roots: [nitroRoot] }, policy);
    expect(await ask('nitro', attest())).toEqual(sealed.contentKey);
  });

  test.each<[string, Change, string, string]>([
    [
      'an enclave that has opened its model',
      { document: { pcrs: new Map([...registers(), [16, Buffer.alloc(48, 1)]]) } },
      'ERR_RELEASE_LOCKED',
      'pcr16',
    ],
    [
      'a debug enclave',
      {
        document: { pcrs: new Map([...registers(), ...[0, 1, 2].map((i): [number, Buffer] => [i, Buffer.alloc(48)])]) },
      },
      'ERR_RELEASE_DEBUG',
      'evidence.debug',
    ],
    [
      'another image',
      { document: { pcrs: new Map([...registers(), [1, Buffer.alloc(48, 9)]]) } },
      'ERR_RELEASE_POLICY',
      'policy.measurement',
    ],
    ['evidence for something else', { document: { user_data: Buffer.alloc(64) } }, 'ERR_RELEASE_BINDER', 'binder'],
    ['evidence with a public key', { document: { public_key: Buffer.alloc(32, 1) } }, 'ERR_RELEASE_BINDER', 'binder'],
    ['old evidence', { document: { timestamp: now.getTime() - 301_000 } }, 'ERR_RELEASE_EVIDENCE', 'evidence.time'],
    ['an emulator’s', { header: new Map([[1, -1]]) }, 'ERR_RELEASE_EVIDENCE', 'evidence'],
  ])('%s gets nothing', async (_, change, code, rule) => {
    const { ask } = await setup({ roots: [nitroRoot] });
    await expect(ask('nitro', attest(change))).rejects.toMatchObject(refused(code, rule));
  });

  test('under another root than the pinned one', async () => {
    const { ask } = await setup({});
    await expect(ask('nitro', attest())).rejects.toMatchObject(refused('ERR_RELEASE_EVIDENCE', 'evidence.root'));
  });

  test('that says it is of another TEE', async () => {
    const { ask } = await setup({ roots: [nitroRoot] });
    await expect(ask('snp', attest())).rejects.toMatchObject(refused('ERR_RELEASE_EVIDENCE', 'evidence'));
  });
});

describe('SEV-SNP evidence at a broker', () => {
  const attest =
    (change: ReportChange = {}) =>
    ({ userData }: AttestRequest) =>
      snpReport({ ...change, bytes: [[0x50, Buffer.from(userData ?? [])], ...(change.bytes ?? [])] });
  const options = { roots: [ark], endorsements: endorse([ask(), vek()]) };

  test('comes as far as the policy, which names no SNP guest yet', async () => {
    const world = await setup(options);
    await expect(world.ask('snp', attest())).rejects.toMatchObject(refused('ERR_RELEASE_POLICY', 'policy.measurement'));
  });

  test('for something else', async () => {
    const world = await setup(options);
    const other = attest({ bytes: [[0x8f, Buffer.from([0x55])]] });
    await expect(world.ask('snp', (request) => other(request))).rejects.toMatchObject(
      refused('ERR_RELEASE_BINDER', 'binder'),
    );
  });

  test('without endorsements of the broker’s own', async () => {
    const world = await setup({ roots: [ark] });
    await expect(world.ask('snp', attest())).rejects.toMatchObject(refused('ERR_RELEASE_EVIDENCE', 'evidence'));
  });
});
