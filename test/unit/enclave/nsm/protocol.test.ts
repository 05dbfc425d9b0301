import { expect, test } from 'vitest';
import { encodeCbor } from '../../../../src/core/cbor.ts';
import { decodeResponse, encodeAttestation, encodeRequest } from '../../../../src/enclave/nsm/protocol.ts';

// Against a real module (QEMU's): test/guest/nsm.ts, run by test/e2e/guest.test.ts.

test.each([
  ['userData', 512, 'user_data'],
  ['nonce', 512, 'nonce'],
  ['publicKey', 1024, 'public_key'],
])('%s has at most %d bytes', (field, most, name) => {
  expect(encodeAttestation({ [field]: Buffer.alloc(most) }).length).toBeLessThan(4096);
  expect(() => encodeAttestation({ [field]: Buffer.alloc(most + 1) })).toThrow(
    expect.objectContaining({
      code: 'ERR_ATTEST_REQUEST',
      message: `${name}: expected at most ${most} bytes, found ${most + 1}`,
    }),
  );
});

test('a request beyond what the driver takes is not sent', () => {
  expect(() => encodeRequest('ExtendPCR', { index: 1, data: Buffer.alloc(4096) })).toThrow(
    expect.objectContaining({ code: 'ERR_NSM' }),
  );
});

const pcr = { lock: true, data: Buffer.alloc(48, 1) };
const refused = expect.objectContaining({ code: 'ERR_NSM', exitCode: 1 });

test('an answer is read by the types of its fields', () => {
  const fields = decodeResponse('DescribePCR', encodeCbor({ DescribePCR: pcr }));
  expect([fields.flag('lock'), Buffer.from(fields.bytes('data', 48, 48))]).toEqual([true, pcr.data]);
  decodeResponse('LockPCR', encodeCbor('LockPCR'));
});

test.each<[what: string, bytes: Uint8Array]>([
  ['no CBOR', Buffer.from([0xff, 0xff])],
  ['nothing', Buffer.alloc(0)],
  ['another answer', encodeCbor({ ExtendPCR: pcr })],
  ['two answers', encodeCbor({ DescribePCR: pcr, ExtendPCR: pcr })],
  ['an answer without fields', encodeCbor({ DescribePCR: 7 })],
  ['an endless one', Buffer.alloc(12289)],
])('%s is refused', (_, bytes) => {
  expect(() => decodeResponse('DescribePCR', bytes)).toThrow(refused);
});

test.each([
  ['of another length', { ...pcr, data: Buffer.alloc(47) }],
  ['a list of numbers', { ...pcr, data: [1, 2] }],
  ['missing', { lock: true }],
])('a register that is %s is refused', (_, state) => {
  const fields = decodeResponse('DescribePCR', encodeCbor({ DescribePCR: state }));
  expect(() => fields.bytes('data', 48, 48)).toThrow(refused);
});

test("the module's own error is named; what is no name is not repeated", () => {
  const answer = (name: unknown) => () => decodeResponse('LockPCR', encodeCbor({ Error: name }));
  expect(answer('ReadOnlyIndex')).toThrow('LockPCR: the NSM answered ReadOnlyIndex');
  expect(answer('\u001b[2J')).toThrow('expected an answer to it');
});
