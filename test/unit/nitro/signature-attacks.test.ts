/** Hostile signature sections: nothing but an AtomaError or a verdict may come of them. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { encodeCbor } from '../../../src/core/cbor.ts';
import { signSign1 } from '../../../src/core/cose.ts';
import { AtomaError } from '../../../src/core/errors.ts';
import {
  bytesPart,
  bytesSource,
  type EifSigner,
  inspectEif,
  measureEif,
  nitroCliDescription,
  readSigner,
  signEif,
  unpackEif,
  writeEif,
} from '../../../src/nitro/index.ts';
import {
  checkSignature,
  encodeSignatureSection,
  parseSignatureSection,
  pcr0Payload,
} from '../../../src/nitro/signature.ts';
import { verify } from '../../../src/tasks/verify/index.ts';
import { type Identity, identity, pem } from './certificates.ts';
import { withDirectory } from './small.ts';

let owner: Identity;
let sign: EifSigner;
let image: Buffer;
let pcr0: string;
/** Where the signature section's data lies in `image`. */
let at: { offset: number; size: number };

beforeAll(async () => {
  owner = await identity({ curve: 'P-256' });
  sign = readSigner(owner.certificate, owner.key);
  image = await signed();
  const { sections, measurement } = await measureEif(bytesSource(image));
  pcr0 = measurement.pcr0;
  at = sections.at(-1) ?? { offset: 0, size: 0 };
});

const signed = () =>
  withDirectory(async (dir) => {
    const out = join(dir, 'x.eif');
    const part = bytesPart(Buffer.from('x'));
    await writeEif({ kernel: part, cmdline: 'c', ramdisks: [part, part], arch: 'x86_64', sign, out });
    return readFileSync(out);
  });

/** Numbers that are the same in every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** What the attempt comes to; anything but an AtomaError is a failure of the test. */
async function outcome<T>(attempt: () => Promise<T> | T): Promise<T | string> {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof AtomaError)) throw error;
    expect(error.code).toMatch(/^ERR_(EIF|CBOR|COSE)_/);
    expect(error.exitCode).toBeGreaterThan(1);
    return error.code;
  }
}

const section = (certificate: Uint8Array, sign1: Uint8Array) => encodeSignatureSection(certificate, sign1);
const cose = (header: [number, unknown][], payload: Uint8Array, identity: Identity = owner) =>
  signSign1(new Map(header), payload, createPrivateKey(identity.key), false);
const judge = (bytes: Uint8Array) => checkSignature(parseSignatureSection(bytes), pcr0);

describe('signatures that must not hold', () => {
  test('of another key under the certificate', async () => {
    const other = await identity({ curve: 'P-256' });
    const forged = section(owner.certificate, cose([[1, -7]], pcr0Payload(pcr0), other));
    expect(judge(forged)).toEqual({ valid: false, reason: "the signature is not the certificate's" });
  });

  test('of another image, transplanted', () => {
    expect(judge(sign.section('ab'.repeat(48)))).toMatchObject({ reason: `the signed PCR0 is ${'ab'.repeat(48)}` });
  });

  test('over another register', () => {
    const payload = encodeCbor({ register_index: 1, register_value: [...Buffer.from(pcr0, 'hex')] });
    expect(judge(section(owner.certificate, cose([[1, -7]], payload)))).toMatchObject({
      valid: false,
      reason: 'what is signed is not PCR0',
    });
  });

  test('over PCR0 in another form, which another reader would refuse', () => {
    const payload = encodeCbor(
      new Map<string, unknown>([
        ['register_index', 0],
        ['register_value', [...Buffer.from(pcr0, 'hex')]],
        ['more', 1],
      ]),
    );
    expect(judge(section(owner.certificate, cose([[1, -7]], payload)))).toMatchObject({ valid: false });
  });

  test('with the algorithm of another curve, or none', () => {
    for (const alg of [-35, -36, -8]) {
      const signature = parseSignatureSection(sign.section(pcr0)).sign1;
      const header = encodeCbor(new Map([[1, alg]]));
      const bent = Buffer.concat([
        Buffer.from([0x84]),
        encodeCbor(header),
        signature.subarray(1 + encodeCbor(encodeCbor(new Map([[1, -7]]))).length),
      ]);
      expect(judge(section(owner.certificate, bent))).toMatchObject({
        valid: false,
        reason: "the algorithm is not the one of the key's curve",
      });
    }
    expect(judge(section(owner.certificate, Buffer.from('84a0a04040', 'hex')))).toMatchObject({ valid: false });
  });

  test('with a critical header parameter that nobody understands', () => {
    const bent = cose(
      [
        [1, -7],
        [2, [99]],
        [99, 1],
      ],
      pcr0Payload(pcr0),
    );
    expect(judge(section(owner.certificate, bent))).toMatchObject({ valid: false, reason: /critical/ });
  });

  test('a certificate that only one of two readers would find: two blocks of which the first is damaged', () => {
    const { sign1 } = parseSignatureSection(sign.section(pcr0));
    const { raw } = new X509Certificate(owner.certificate);
    for (const text of [
      Buffer.concat([pem(raw, 'TRUSTED CERTIFICATE'), owner.certificate]),
      Buffer.concat([pem(raw.subarray(0, -1)), owner.certificate]),
      Buffer.concat([Buffer.from('x'), owner.certificate]),
      raw,
      Buffer.alloc(0),
    ]) {
      expect(() => parseSignatureSection(section(text, sign1))).toThrow(
        expect.objectContaining({ code: 'ERR_EIF_SIGNATURE' }),
      );
    }
  });

  test.each<[string, () => Uint8Array]>([
    ['two signatures', () => encodeCbor([entry(), entry()])],
    ['a key twice', () => Buffer.concat([Buffer.from([0x81, 0xa2]), ...twice()])],
    ['a third key', () => encodeCbor([{ ...entry(), more: 1 }])],
    [
      'byte strings, which the reference does not read',
      () => encodeCbor([{ ...entry(), signature: Buffer.from('x') }]),
    ],
    ['numbers that are no bytes', () => encodeCbor([{ ...entry(), signature: [256] }])],
    ['fractions', () => encodeCbor([{ ...entry(), signature: [0.5] }])],
    ['trailing bytes', () => Buffer.concat([sign.section(pcr0), Buffer.alloc(1)])],
  ])('%s', (_, bytes) => {
    expect(() => parseSignatureSection(bytes())).toThrow(
      expect.objectContaining({ code: 'ERR_EIF_SIGNATURE', exitCode: 2 }),
    );
  });
});

const entry = () => {
  const { pem: text, sign1 } = parseSignatureSection(sign.section(pcr0));
  return { signing_certificate: [...text], signature: [...sign1] };
};
const twice = () => ['signature', [1], 'signature', [2]].map(encodeCbor);

const keyOf = ({ publicKey }: X509Certificate) => publicKey.export({ format: 'der', type: 'spki' });

describe('random damage', () => {
  test('flipped bits, cut and doubled pieces in the section: a verdict or an AtomaError, never valid', async () => {
    const pick = numbers(1);
    let unreadable = 0;
    for (let i = 0; i < 500; i++) {
      const bytes = Buffer.from(image.subarray(at.offset, at.offset + at.size));
      for (let flips = 1 + pick(3); flips > 0; flips--) {
        const place = pick(bytes.length);
        bytes[place] = (bytes[place] ?? 0) ^ (1 << pick(8));
      }
      const cut = pick(10) === 0 ? bytes.subarray(0, pick(bytes.length)) : bytes;
      const found = await outcome(() => judge(cut));
      if (typeof found === 'string') unreadable++;
      // A certificate whose name, say, was changed still has the key that signed; its PCR8 is another.
      else if (found.valid) expect(keyOf(parseSignatureSection(cut).certificate)).toEqual(keyOf(sign.certificate));
    }
    expect(unreadable).toBeGreaterThan(50);
  });

  test('flipped bits in the DER of the certificate', async () => {
    const pick = numbers(2);
    const { raw } = new X509Certificate(owner.certificate);
    const { sign1 } = parseSignatureSection(sign.section(pcr0));
    const seen = new Set<string>();
    for (let i = 0; i < 500; i++) {
      const der = Buffer.from(raw);
      const place = pick(der.length);
      der[place] = (der[place] ?? 0) ^ (1 << pick(8));
      const bent = section(pem(der), sign1);
      const found = await outcome(() => judge(bent));
      seen.add(typeof found === 'string' ? found : String(found.valid));
      if (typeof found === 'string') continue;
      // Whatever passes as a certificate has another PCR8, and can be described.
      expect(parseSignatureSection(bent).pcr8).not.toBe(sign.pcr8);
      expect(await describeAll(bent)).toBe('described');
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  test('times of validity that are none: refused, whatever the memory of the process holds', async () => {
    const { raw } = new X509Certificate(owner.certificate);
    const start = raw.indexOf('200101000000Z', 'latin1');
    expect(start).toBeGreaterThan(0);
    const { sign1 } = parseSignatureSection(sign.section(pcr0));
    for (const time of [
      '209901000000Z',
      '200230000000Z',
      '20010100000Z0',
      '2001010000000',
      '\xb200101000000Z'.slice(0, 13),
    ]) {
      const der = Buffer.from(raw);
      der.write(time, start, 'latin1');
      expect(() => parseSignatureSection(section(pem(der), sign1))).toThrow(
        expect.objectContaining({ code: 'ERR_EIF_SIGNATURE' }),
      );
    }
  });

  /** Everything that shows an image, over one with this signature section. */
  const describeAll = async (bytes: Buffer) => {
    const bent = withSection(bytes);
    await inspectEif(bytesSource(bent));
    JSON.parse(await nitroCliDescription(bytesSource(bent)));
    return 'described';
  };
  /** The image with other bytes for its signature section, and its sizes put right: an attacker's writer. */
  const withSection = (bytes: Buffer): Buffer => {
    const bent = Buffer.concat([image.subarray(0, at.offset), bytes]);
    bent.writeBigUInt64BE(BigInt(bytes.length), at.offset - 8);
    bent.writeBigUInt64BE(BigInt(bytes.length), 284 + 8 * (bent.readUInt16BE(26) - 1));
    return bent;
  };

  test('signing, unpacking and verifying damaged images: a signed image, a refusal, or a failed check', () =>
    withDirectory(async (dir) => {
      const pick = numbers(3);
      const path = join(dir, 'x.eif');
      const seen = new Map<string, number>();
      for (let i = 0; i < 60; i++) {
        const bytes = Buffer.from(image);
        const place = pick(2) === 0 ? pick(bytes.length) : at.offset + pick(at.size);
        bytes[place] = (bytes[place] ?? 0) ^ (1 << pick(8));
        writeFileSync(path, bytes);
        const report = await outcome(() =>
          verify({ files: [path], kind: 'eif', expect: [`pcr0=${pcr0}`], allowSimulated: [] }),
        );
        expect(report).toMatchObject({ verdict: 'fail' });
        const unpacked = await outcome(() => unpackEif({ image: path, out: join(dir, `parts${i}`) }));
        const resigned = await outcome(() => signEif({ image: path, sign, out: join(dir, 'y.eif') }));
        for (const code of [unpacked, resigned]) {
          expect(code).toEqual(expect.stringMatching(/^ERR_EIF_/));
          seen.set(String(code), (seen.get(String(code)) ?? 0) + 1);
        }
      }
      expect([...seen.keys()]).toEqual(expect.arrayContaining(['ERR_EIF_CRC', 'ERR_EIF_SIGNATURE']));
    }));
});
