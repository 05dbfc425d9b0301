import { createHmac } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { encodeCbor, Tagged } from '../../../src/core/cbor.ts';
import { signSign1 } from '../../../src/core/cose.ts';
import { keyId } from '../../../src/keys/keys.ts';
import {
  encodeHeader,
  KIND,
  MAGIC,
  parseHeader,
  type SealHeader,
  verifyHeaderSignature,
} from '../../../src/seal/header.ts';
import { encodePolicy } from '../../../src/seal/policy.ts';
import { checkContentKey, findRecipient, openShare, wrapShare } from '../../../src/seal/recipients.ts';
import { keyCommitment } from '../../../src/seal/secrets.ts';
import { exampleHeader, newOwner, policy, xwing } from './fixture.ts';

const owner = newOwner();
const broker = xwing();
const recovery = xwing();
const ck = Buffer.alloc(32, 9);
let header: Omit<SealHeader, 'policy'>;
let bytes: Buffer;
beforeAll(async () => {
  ({ header, bytes } = await exampleHeader(owner, broker, recovery, ck));
});

const code = (c: string, exitCode = 2) => expect.objectContaining({ code: c, exitCode });
const padded = () => Buffer.concat([bytes, Buffer.alloc(4096 - (bytes.length % 4096))]);
const frame = (sign1: Uint8Array) => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(sign1.length);
  return Buffer.concat([MAGIC, length, sign1]);
};
/** The example's payload, changed, and signed by its owner. */
function resigned(
  change: (payload: Map<number, unknown>) => void,
  type: unknown = 'application/vnd.atoma.seal+cbor',
): Buffer {
  const payload = new Map<number, unknown>([
    [1, 1],
    [2, header.sealId],
    [3, header.epoch],
    [4, header.policyBytes],
    [5, header.created],
    [6, header.parts.map((p) => [p.id, p.length])],
    [7, [header.index.length, header.index.sha256]],
    [8, [1, 1]],
    [9, header.recipients.map((r) => [r.kind, r.keyId, r.share, r.enc, r.ciphertext, r.commitment])],
    [10, header.commitment],
    [11, []],
    [12, header.owner],
  ]);
  change(payload);
  const protectedHeader = new Map<number, unknown>([
    [1, -8],
    [3, type],
  ]);
  return frame(signSign1(protectedHeader, encodeCbor(payload), owner.key, true));
}

describe('parseHeader', () => {
  test('reads what encodeHeader writes, with and without padding', () => {
    expect(resigned(() => {})).toEqual(bytes);
    for (const input of [bytes, padded()]) {
      const parsed = parseHeader(input);
      expect(parsed.header).toEqual({ ...header, sealId: new Uint8Array(header.sealId), policy, ...views() });
      expect(parsed.bytes).toEqual(new Uint8Array(bytes));
      expect(parsed.payloadOffset).toBe(4096);
      verifyHeaderSignature(parsed, owner.publicRaw);
    }
    function views() {
      const plain = <T>(value: T): T => (value instanceof Uint8Array ? (new Uint8Array(value) as T) : value);
      const all = (o: object) => Object.fromEntries(Object.entries(o).map(([k, v]) => [k, plain(v)]));
      return {
        policyBytes: plain(header.policyBytes),
        parts: header.parts.map(all),
        index: all(header.index),
        recipients: header.recipients.map(all),
        commitment: new Uint8Array(header.commitment),
        owner: new Uint8Array(header.owner),
      };
    }
  });

  test('truncation at every length', () => {
    for (let i = 0; i < bytes.length; i++) {
      expect(() => parseHeader(bytes.subarray(0, i))).toThrow(code(i < 1 ? 'ERR_SEAL_MAGIC' : 'ERR_SEAL_TRUNCATED'));
    }
  });

  test('every ninth bit flipped: refused by the parser, or by the signature', () => {
    for (let bit = 0; bit < bytes.length * 8; bit += 9) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => verifyHeaderSignature(parseHeader(flipped), owner.publicRaw)).toThrow(/./);
    }
  });

  test('padding that is not zero', () => {
    for (const at of [bytes.length, 4095]) {
      const bad = padded();
      bad[at] = 1;
      expect(() => parseHeader(bad)).toThrow(code('ERR_SEAL_PADDING'));
    }
  });

  test('trailing bytes, oversized length, another file', () => {
    expect(() => parseHeader(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(code('ERR_SEAL_TRAILING'));
    expect(() => parseHeader(Buffer.concat([padded(), Buffer.alloc(1)]))).toThrow(code('ERR_SEAL_TRAILING'));
    const long = Buffer.from(bytes);
    long.writeUInt32BE(0xffffffff, 8);
    expect(() => parseHeader(long)).toThrow(code('ERR_SEAL_MALFORMED'));
    expect(() => parseHeader(Buffer.from('PK\x03\x04 not sealed'))).toThrow(code('ERR_SEAL_MAGIC'));
    expect(() => parseHeader(Buffer.from('ATSEAL\x02\n\0\0\0\x01\0', 'latin1'))).toThrow(code('ERR_SEAL_MAGIC'));
  });

  test('unknown critical extension', () => {
    expect(() => parseHeader(resigned((p) => p.set(11, ['x'])))).toThrow(code('ERR_SEAL_EXTENSION'));
    expect(() => parseHeader(resigned((p) => p.set(11, 0)))).toThrow(code('ERR_SEAL_EXTENSION'));
  });

  test('unknown suite', () => expect(() => parseHeader(resigned((p) => p.set(1, 2)))).toThrow(code('ERR_SEAL_SUITE')));

  const part = (n: number, length: unknown = 500) => [new Uint8Array(16).fill(n), length];
  test.each<[string, (p: Map<number, unknown>) => void]>([
    ['an unknown field', (p) => p.set(13, 0)],
    ['a missing field', (p) => p.delete(12)],
    ['a short seal id', (p) => p.set(2, new Uint8Array(15))],
    ['epoch 0', (p) => p.set(3, 0)],
    ['an epoch beyond 2^53', (p) => p.set(3, 2n ** 60n)],
    ['a negative time', (p) => p.set(5, -1)],
    ['two parts with one id', (p) => p.set(6, [part(1), part(1)])],
    ['a part shorter than any ciphertext', (p) => p.set(6, [part(1, 105)])],
    ['a part longer than 16 GiB', (p) => p.set(6, [part(1, 2 ** 34 + 2 ** 22)])],
    ['an oversized index', (p) => p.set(7, [2 ** 27, new Uint8Array(32)])],
    ['threshold 0', (p) => p.set(8, [0, 1])],
    ['threshold above n', (p) => p.set(8, [2, 1])],
    ['more shares than brokers', (p) => p.set(8, [1, 2])],
    ['no recipients', (p) => p.set(9, [])],
    ['a recipient with a short key', (p) => edit(p, (r) => r.splice(3, 1, new Uint8Array(1119)))],
    ['a recipient with a long ciphertext', (p) => edit(p, (r) => r.splice(4, 1, new Uint8Array(64)))],
    ['a broker with share 2 of 1', (p) => edit(p, (r) => r.splice(2, 1, 2))],
    ['a short commitment', (p) => p.set(10, new Uint8Array(31))],
    ['a small-order owner', (p) => p.set(12, new Uint8Array(32))],
    ['a list for a map', (p) => p.set(7, 1)],
  ])('malformed: %s', (_name, change) => {
    expect(() => parseHeader(resigned(change))).toThrow(code('ERR_SEAL_MALFORMED'));
  });
  function edit(p: Map<number, unknown>, change: (first: unknown[]) => void): void {
    const list = (p.get(9) as unknown[][]).map((r) => [...r]);
    if (list[0]) change(list[0]);
    p.set(9, list);
  }

  test('recipients of an unknown kind are skipped', () => {
    const stranger = [77, new Uint8Array(16), 0, new Uint8Array(1), new Uint8Array(1), new Uint8Array(32)];
    const parsed = parseHeader(resigned((p) => p.set(9, [...(p.get(9) as unknown[]), stranger])));
    expect(parsed.header.recipients.length).toBe(3);
  });

  test('another content type, an unprotected header, an untagged or padded COSE', () => {
    expect(() => parseHeader(resigned(() => {}, 'text/plain'))).toThrow(code('ERR_SEAL_MALFORMED'));
    const { protectedBytes, payload, signature } = parseHeader(bytes).sign1;
    const bare = [protectedBytes, new Map(), payload, signature];
    expect(() => parseHeader(frame(encodeCbor(bare)))).toThrow(code('ERR_COSE_MALFORMED'));
    const unprotected = new Tagged(18, [protectedBytes, new Map([[4, 1]]), payload, signature]);
    expect(() => parseHeader(frame(encodeCbor(unprotected)))).toThrow(code('ERR_SEAL_MALFORMED'));
    expect(() => parseHeader(frame(Buffer.concat([bytes.subarray(12), Buffer.alloc(1)])))).toThrow(
      code('ERR_CBOR_MALFORMED'),
    );
  });
});

describe('verifyHeaderSignature', () => {
  test('a header re-signed by another owner', () => {
    const other = newOwner();
    const swapped = parseHeader(encodeHeader({ ...header, owner: other.publicRaw }, other.key));
    verifyHeaderSignature(swapped); // it is well signed, by somebody
    expect(() => verifyHeaderSignature(swapped, owner.publicRaw)).toThrow(code('ERR_SEAL_OWNER', 3));
  });

  test("another's signature under the owner's name", () => {
    const forged = parseHeader(encodeHeader(header, newOwner().key));
    expect(() => verifyHeaderSignature(forged)).toThrow(code('ERR_SEAL_SIGNATURE', 3));
    expect(() => verifyHeaderSignature(forged, owner.publicRaw)).toThrow(code('ERR_SEAL_SIGNATURE', 3));
  });
});

describe('recipients', () => {
  const find = (kind: number, key: Buffer) => {
    const found = findRecipient(header, kind, keyId(key));
    if (!found) throw new Error('no such recipient');
    return found;
  };

  test('broker and recovery both open the content key', async () => {
    expect(await openShare(header, find(KIND.broker, broker.publicRaw), broker.seed)).toEqual(ck);
    expect(await openShare(header, find(KIND.recovery, recovery.publicRaw), recovery.seed)).toEqual(ck);
    checkContentKey({ ...header, policy }, ck);
  });

  test('wrong key', async () => {
    expect(findRecipient(header, KIND.broker, keyId(recovery.publicRaw))).toBeUndefined();
    await expect(openShare(header, find(KIND.broker, broker.publicRaw), recovery.seed)).rejects.toMatchObject({
      code: 'ERR_SEAL_SHARE',
      exitCode: 3,
    });
  });

  test('a share moved to another policy, owner, epoch, seal, threshold, share number', async () => {
    const recipient = find(KIND.broker, broker.publicRaw);
    const weaker = encodePolicy({ ...policy, any: [{ tee: 'nitro', pcr8: '44'.repeat(48) }] });
    const moved = [
      { policyBytes: weaker },
      { owner: newOwner().publicRaw },
      { epoch: 2 },
      { sealId: Buffer.alloc(16) },
      { threshold: { t: 1, n: 2 } },
    ];
    for (const change of moved) {
      await expect(openShare({ ...header, ...change }, recipient, broker.seed)).rejects.toMatchObject({
        code: 'ERR_SEAL_SHARE',
      });
    }
    await expect(openShare(header, { ...recipient, share: 2 }, broker.seed)).rejects.toMatchObject({
      code: 'ERR_SEAL_SHARE',
    });
  });

  test('swapped recipient: a share of another key under this commitment', async () => {
    const other = await wrapShare(
      header,
      { kind: KIND.broker, share: 1, publicRaw: broker.publicRaw },
      Buffer.alloc(32, 1),
    );
    const swapped = { ...other, commitment: find(KIND.broker, broker.publicRaw).commitment };
    await expect(openShare(header, swapped, broker.seed)).rejects.toMatchObject({ code: 'ERR_SEAL_SHARE' });
  });

  test('another content key', () => {
    expect(() => checkContentKey({ ...header, policy }, Buffer.alloc(32))).toThrow(code('ERR_SEAL_KEY', 3));
    expect(() => checkContentKey({ ...header, policy }, ck.subarray(1))).toThrow(code('ERR_SEAL_KEY', 3));
  });

  test('CC is HKDF-Expand-SHA-512 of the label and seal id', () => {
    const info = Buffer.concat([Buffer.from('atoma-tee/seal/v1/commit\0'), header.sealId, Buffer.from([1])]);
    expect(keyCommitment(ck, header.sealId)).toEqual(createHmac('sha512', ck).update(info).digest().subarray(0, 32));
  });
});
