import { RELEASE_PCR } from '../../src/attest/simulated-attester.ts';
import { hex, sha384 } from '../../src/core/bytes.ts';
import { decodeCbor } from '../../src/core/cbor.ts';
import { parseSign1 } from '../../src/core/cose.ts';
import { createNsmAttester, RELEASED } from '../../src/enclave/nsm/attester.ts';
import { type Nsm, openNsm } from '../../src/enclave/nsm/device.ts';
import { check, equal, throws } from './checks.ts';

/** What a security module must do for us. The registers are compared by the test: the guest does not know its image. */
export async function nsmChecks(): Promise<void> {
  const nsm = openNsm('/dev/nsm');
  await check('nsm: describes itself', () => {
    const { digest, maxPcrs, version } = nsm.describe();
    equal([digest, maxPcrs], ['SHA384', 32]);
    if (!/^\d+\.\d+\.\d+$/.test(version)) throw new Error(version);
  });
  for (const index of [0, 1, 2, 8]) console.log(`guest: PCR${index} ${hex(nsm.describePcr(index).data)}`);
  await check('nsm: random bytes, other ones each time', () => {
    const [a, b] = [nsm.random(), nsm.random()].map(hex);
    if (a === b || a === undefined || a.length < 64) throw new Error(`${a}`);
  });
  await check('nsm: an attestation document holds what it was asked for', () => {
    const asked = { userData: Buffer.from('data'), nonce: Buffer.alloc(512, 7), publicKey: Buffer.alloc(1024, 8) };
    const found = documentOf(nsm, asked);
    equal(
      ['user_data', 'nonce', 'public_key'].map((name) => hex(found.get(name) as Uint8Array)),
      [asked.userData, asked.nonce, asked.publicKey].map(hex),
    );
    equal(
      ['user_data', 'nonce', 'public_key'].map((name) => documentOf(nsm, {}).get(name)),
      [null, null, null],
    );
  });
  await check('nsm: fields that are too long are refused before they are sent', () =>
    throws(() => nsm.attestation({ userData: Buffer.alloc(513) }), /at most 512 bytes/),
  );
  await check("nsm: the module's own error has its name", () =>
    throws(() => nsm.describePcr(32), /DescribePCR: the NSM answered [A-Za-z]+/),
  );
  await check('nsm: a register is extended as a hash chain', () => {
    const before = nsm.describePcr(17);
    const after = nsm.extendPcr(17, Buffer.from('one'));
    equal([before.locked, hex(after)], [false, hex(sha384(before.data, Buffer.from('one')))]);
  });
  await check('nsm: the release register is extended and locked once', async () => {
    const channel = { attest: async () => new Uint8Array(), lock: async () => console.log('guest: channel locked') };
    const attester = createNsmAttester(nsm, channel);
    await attester.lock();
    const { locked, data } = nsm.describePcr(RELEASE_PCR);
    equal([locked, hex(data)], [true, hex(sha384(Buffer.alloc(48), RELEASED))]);
    const pcrs = documentOf(nsm, {}).get('pcrs') as Map<number, Uint8Array>;
    equal(hex(pcrs.get(RELEASE_PCR) ?? new Uint8Array()), hex(data));
    await throws(() => attester.lock(), /ReadOnlyIndex|NSM answered/);
  });
  nsm.close();
}

function documentOf(nsm: Nsm, fields: Parameters<Nsm['attestation']>[0]): Map<unknown, unknown> {
  const options = { what: 'document', maxBytes: 16384, tag: 'optional', form: 'any' } as const;
  const { payload } = parseSign1(nsm.attestation(fields), options);
  return decodeCbor(payload, { what: 'document', maxBytes: 16384, form: 'any' }) as Map<unknown, unknown>;
}
