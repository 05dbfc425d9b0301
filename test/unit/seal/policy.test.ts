import { describe, expect, test } from 'vitest';
import { decodeCbor, encodeCbor } from '../../../src/core/cbor.ts';
import {
  bindsSigner,
  decodePolicy,
  encodePolicy,
  measurementPolicy,
  type Policy,
  policyFromJson,
} from '../../../src/seal/policy.ts';

const pcr = (digit: string) => digit.repeat(96);
const nitro = { tee: 'nitro', pcr0: pcr('1'), pcr1: pcr('2'), pcr2: pcr('3') } as const;
const sgx = { tee: 'sgx', mrsigner: 'ab'.repeat(32), isvprodid: 1, min_isvsvn: 2 } as const;
const root = `sha256:${'cd'.repeat(32)}`;
const base: Policy = { any: [nitro], project: 'digits', model: 'ef'.repeat(32) };
const full: Policy = {
  any: [nitro, { tee: 'nitro', pcr8: pcr('8') }, sgx, { ...sgx, mrenclave: '11'.repeat(32) }],
  accept_tcb: ['UpToDate', 'SWHardeningNeeded'],
  min_tcb_evaluation: 17,
  accept_advisories: ['INTEL-SA-00615'],
  platforms: ['00ff'],
  not_after: 1_900_000_000,
  project: 'digits',
  model: 'ef'.repeat(32),
};
const code = (c: string) => expect.objectContaining({ code: c, exitCode: 2 });

describe('release policy', () => {
  test.each([[base], [full], [{ ...base, any: [{ tee: 'simulated', root, of: nitro } as const] }]])(
    'round trip %#',
    (policy) => {
      expect(decodePolicy(encodePolicy(policy))).toEqual(policy);
      expect(policyFromJson(JSON.stringify(policy))).toEqual(policy);
    },
  );

  test('registers and ids are byte strings in dCBOR', () => {
    const map = decodeCbor(encodePolicy({ ...base, any: [{ tee: 'simulated', root, of: nitro }] }), {
      maxBytes: 9999,
      what: 'x',
    }) as Map<string, unknown>;
    expect(map.get('model')).toEqual(new Uint8Array(32).fill(0xef));
    const m = (map.get('any') as Map<string, unknown>[])[0] ?? new Map<string, unknown>();
    expect(m.get('root')).toEqual(new Uint8Array(32).fill(0xcd));
    expect((m.get('of') as Map<string, unknown>).get('pcr0')).toEqual(new Uint8Array(48).fill(0x11));
  });

  test('real and simulated do not mix', () => {
    const any = [nitro, { tee: 'simulated', root, of: nitro }];
    expect(() => policyFromJson(JSON.stringify({ ...base, any }))).toThrow(code('ERR_POLICY_MIXED'));
  });

  test.each([
    ['no alternatives', { ...base, any: [] }, 'any'],
    ['an unknown field', { ...base, not_befor: 1 }, 'not_befor'],
    ['an unknown register', { ...base, any: [{ ...nitro, pcr9: pcr('1') }] }, 'pcr9'],
    ['a short register', { ...base, any: [{ ...nitro, pcr0: '11' }] }, '48 bytes'],
    ['upper case', { ...base, model: 'EF'.repeat(32) }, 'lower-case'],
    ['a debug measurement', { ...base, any: [{ ...nitro, pcr0: pcr('0') }] }, 'debug'],
    ['a part of a measurement', { ...base, any: [{ tee: 'nitro', pcr0: pcr('1') }] }, 'identifies no image'],
    ['an unknown TEE', { ...base, any: [{ tee: 'tdx' }] }, 'any.0'],
    [
      'simulated of simulated',
      { ...base, any: [{ tee: 'simulated', root, of: { tee: 'simulated', root, of: nitro } }] },
      'any.0.of',
    ],
    [
      'a fingerprint without its hash',
      { ...base, any: [{ tee: 'simulated', root: 'cd'.repeat(32), of: nitro }] },
      'sha256:',
    ],
    ['a negative time', { ...base, not_after: -1 }, 'not_after'],
    ['a fraction', { ...base, not_after: 1.5 }, 'not_after'],
    ['no project', { any: [nitro], model: base.model }, 'project'],
  ])('refuses %s', (_name, policy, text) => {
    const refused = expect.objectContaining({
      code: 'ERR_POLICY_INVALID',
      exitCode: 2,
      message: expect.stringContaining(text),
    });
    expect(() => policyFromJson(JSON.stringify(policy))).toThrow(refused);
  });

  test('JSON with __proto__ is an unknown field', () => {
    const json = JSON.stringify(base).replace('{', '{"__proto__":{"any":[]},');
    expect(() => policyFromJson(json)).toThrow(code('ERR_POLICY_INVALID'));
    expect(() => policyFromJson('{')).toThrow(code('ERR_POLICY_INVALID'));
  });

  test('dCBOR with __proto__, with text for bytes, with bytes for text, with trailing bytes', () => {
    const map = new Map<string, unknown>(Object.entries({ project: 'digits' }));
    map.set('model', new Uint8Array(32).fill(1));
    map.set('any', [
      new Map<string, unknown>([
        ['tee', 'nitro'],
        ['pcr8', new Uint8Array(48).fill(1)],
      ]),
    ]);
    expect(decodePolicy(encodeCbor(map)).model).toBe('01'.repeat(32));
    for (const [key, value] of [
      ['__proto__', new Map()],
      ['model', '01'.repeat(32)],
      ['project', Buffer.from('digits')],
      [1, 2],
    ] as const) {
      const other = new Map<unknown, unknown>(map).set(key, value);
      expect(() => decodePolicy(encodeCbor(other))).toThrow(code('ERR_POLICY_INVALID'));
    }
    expect(() => decodePolicy(Buffer.concat([encodeCbor(map), Buffer.alloc(1)]))).toThrow(code('ERR_CBOR_MALFORMED'));
  });

  test('truncated at every length, every bit flipped: refused or another policy, never a crash', () => {
    const bytes = Buffer.from(encodePolicy(full));
    for (let i = 0; i < bytes.length; i++)
      expect(() => decodePolicy(bytes.subarray(0, i))).toThrow(expect.objectContaining({ exitCode: 2 }));
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      try {
        expect(decodePolicy(flipped)).not.toEqual(full);
      } catch (error) {
        expect(error).toMatchObject({ exitCode: 2 });
      }
    }
  });
});

describe('policies for a measurement', () => {
  const enclave = {
    tee: 'sgx',
    mrenclave: '11'.repeat(32),
    mrsigner: 'ab'.repeat(32),
    isvprodid: 7,
    isvsvn: 3,
  } as const;
  const signed = { ...nitro, pcr8: pcr('8') };
  const { mrsigner, isvprodid } = enclave;

  test('image: every register; signer: who signed, which product, from which version on', () => {
    expect(measurementPolicy(signed, { bind: 'image' })).toEqual(signed);
    expect(measurementPolicy(signed, { bind: 'signer' })).toEqual({ tee: 'nitro', pcr8: pcr('8') });
    const sgxSigner = { tee: 'sgx', mrsigner, isvprodid };
    expect(measurementPolicy(enclave, { bind: 'signer' })).toEqual({ ...sgxSigner, min_isvsvn: 3 });
    expect(measurementPolicy(enclave, { bind: 'signer', minIsvsvn: 1 })).toEqual({ ...sgxSigner, min_isvsvn: 1 });
    const { mrenclave } = enclave;
    expect(measurementPolicy(enclave, { bind: 'image' })).toEqual({ ...sgxSigner, mrenclave, min_isvsvn: 3 });
  });

  test('an unsigned image has no signer; a version above its own would shut the image out', () => {
    expect(() => measurementPolicy(nitro, { bind: 'signer' })).toThrow(code('ERR_POLICY_UNSIGNED'));
    expect(() => measurementPolicy(enclave, { bind: 'image', minIsvsvn: 4 })).toThrow(code('ERR_POLICY_INVALID'));
  });

  test('what a policy that names a signer is called', () => {
    const bound = (any: Policy['any']) => bindsSigner({ ...base, any });
    expect(bound([signed, measurementPolicy(enclave, { bind: 'image' })])).toBe(false);
    expect(bound([signed, measurementPolicy(enclave, { bind: 'signer' })])).toBe(true);
    expect(bound([{ tee: 'simulated', root, of: measurementPolicy(signed, { bind: 'signer' }) }])).toBe(true);
    expect(bound([{ tee: 'simulated', root, of: signed }])).toBe(false);
  });
});
