import { describe, expect, test } from 'vitest';
import { createSimulatedAttester } from '../../../src/attest/index.ts';
import { requestRelease } from '../../../src/broker/index.ts';
import type { NitroMeasurement, SgxMeasurement } from '../../../src/core/measurement.ts';
import { measurementPolicy, type Policy } from '../../../src/seal/policy.ts';
import { model, newBroker, newOwner, root, seal } from './fixture.ts';

// One sealed model for the images of both targets, bound to the images or to whoever signs them.

const owner = newOwner();
const register = (byte: string, length: number) => byte.repeat(length);
const eif: NitroMeasurement = {
  tee: 'nitro',
  pcr0: register('01', 48),
  pcr1: register('02', 48),
  pcr2: register('03', 48),
  pcr8: register('08', 48),
};
const enclave: SgxMeasurement = {
  tee: 'sgx',
  mrenclave: register('11', 32),
  mrsigner: register('12', 32),
  isvprodid: 5,
  isvsvn: 3,
};

async function release(bind: 'image' | 'signer', measured: NitroMeasurement | SgxMeasurement) {
  const world = newBroker();
  const any = [eif, enclave].map((of) => ({
    tee: 'simulated' as const,
    root: root.fingerprint,
    of: measurementPolicy(of, { bind }),
  }));
  const policy: Policy = { any, project: 'digits', model };
  const sealed = await seal(owner, [world.key], { policy });
  const released = await requestRelease({
    brokers: [world.post],
    attester: createSimulatedAttester(root, measured.tee === 'sgx' ? { ...measured, debug: false } : measured),
    tee: 'simulated',
    header: sealed.parsed,
    measured: { owner: owner.raw, project: 'digits', model },
  });
  expect(released).toEqual(sealed.contentKey);
}
const refused = {
  code: 'ERR_RELEASE_POLICY',
  exitCode: 4,
  details: expect.objectContaining({ rule: 'policy.measurement' }),
};
const rebuiltEif = { ...eif, pcr0: register('a1', 48), pcr2: register('a3', 48) };
const rebuilt = { ...enclave, mrenclave: register('21', 32) };

describe('one policy for a Nitro image and an SGX enclave', () => {
  test.each(['image', 'signer'] as const)('bound to the %s: either opens it', async (bind) => {
    await release(bind, eif);
    await release(bind, enclave);
  });

  test('bound to the image: a rebuilt one of the same signer is refused', async () => {
    await expect(release('image', rebuiltEif)).rejects.toMatchObject(refused);
    await expect(release('image', rebuilt)).rejects.toMatchObject(refused);
  });

  test('bound to the signer: a rebuilt one opens it, a newer version too', async () => {
    await release('signer', rebuiltEif);
    await release('signer', rebuilt);
    await release('signer', { ...rebuilt, isvsvn: 4 });
  });

  test.each<[string, NitroMeasurement | SgxMeasurement]>([
    ['another signing certificate', { ...eif, pcr8: register('09', 48) }],
    ['an unsigned image', (({ pcr8: _, ...unsigned }) => unsigned)(eif)],
    ['another signer of the enclave', { ...enclave, mrsigner: register('13', 32) }],
    ['another product of that signer', { ...enclave, isvprodid: 6 }],
    ['an older version', { ...enclave, isvsvn: 2 }],
  ])('bound to the signer: %s is refused', async (_, measured) => {
    await expect(release('signer', measured)).rejects.toMatchObject(refused);
  });
});
