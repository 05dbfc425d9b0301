import { generateKeyPairSync, type KeyObject, randomBytes, sign as signWith } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  enclaveAttributes,
  parseSigstruct,
  type SgxSettings,
  signerOf,
  verifySigstruct,
} from '../../../src/gramine/index.ts';
import { signedBytes } from '../../../src/gramine/sigstruct.ts';
import { completeSigstruct, unsignedSigstruct } from '../../../src/gramine/sigstruct-write.ts';
import { haveVectors, vectors } from '../vectors.ts';

const settings: SgxSettings = {
  enclaveSize: 16n << 20n,
  edmm: false,
  maxThreads: 1,
  isvprodid: 0x1234,
  isvsvn: 7,
  debug: false,
  useExinfo: true,
  cpuFeatures: { avx: 'required', avx512: 'disabled', amx: 'unspecified', mpx: 'disabled', pkru: 'required' },
};
const key = generateKeyPairSync('rsa', { modulusLength: 3072, publicExponent: 3 }).privateKey;
const modulusOf = (of: KeyObject) => Buffer.from(of.export({ format: 'jwk' }).n ?? '', 'base64url').reverse();

function signed(change: (bytes: Buffer) => void = () => {}): Buffer {
  const bytes = unsignedSigstruct(settings, 'ab'.repeat(32), '2025-01-31');
  change(bytes);
  completeSigstruct(bytes, modulusOf(key), signWith('sha256', signedBytes(bytes), key));
  return bytes;
}
const genuine = signed();
const good = { signature: true, quotients: true };

/** What EINIT would say. */
function accepted(bytes: Buffer): boolean {
  try {
    const { signature, quotients } = verifySigstruct(parseSigstruct(bytes));
    return signature && quotients;
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_SIGSTRUCT_MALFORMED', exitCode: 2 });
    return false;
  }
}

describe('a SIGSTRUCT', () => {
  test('has every field where Intel has it', () => {
    const read = parseSigstruct(genuine);
    expect(verifySigstruct(read)).toEqual(good);
    expect(read).toMatchObject({
      date: '2025-01-31',
      vendor: 0,
      exponent: 3,
      miscselect: 1,
      miscmask: 0xffffffff,
      isvprodid: 0x1234,
      isvsvn: 7,
      flags: 4n,
      flagsMask: 0xffffffffffffffffn,
    });
    expect(read.mrenclave.toString('hex')).toBe('ab'.repeat(32));
    expect(genuine.subarray(0x14, 0x18).toString('hex')).toBe('31012520');
  });

  test.skipIf(!haveVectors)('those of the reference vectors, field by field', () => {
    const names = readdirSync(vectors('gramine')).filter((name) => /^\d/.test(name) && !name.includes('fail'));
    for (const name of names) {
      const meta = JSON.parse(readFileSync(vectors('gramine', name, 'meta.json'), 'utf8'));
      const read = parseSigstruct(readFileSync(vectors('gramine', name, 'app.sig')));
      expect(verifySigstruct(read)).toEqual(good);
      expect({
        mrenclave: read.mrenclave.toString('hex'),
        mrsigner: signerOf(read.modulus),
        miscselect: read.miscselect,
        miscmask: `0x${read.miscmask.toString(16)}`,
        attributes_flags: `0x${read.flags.toString(16)}`,
        attributes_xfrm: `0x${read.xfrm.toString(16)}`,
        attribute_mask_flags: `0x${read.flagsMask.toString(16)}`,
        attribute_mask_xfrm: `0x${read.xfrmMask.toString(16)}`,
        isvprodid: read.isvprodid,
        isvsvn: read.isvsvn,
        date: read.date,
      }).toEqual(Object.fromEntries(Object.entries(meta).filter(([field]) => FIELDS.has(field))));
    }
  });

  // Expected values: worked out by hand from the bits of XFRM in Intel's manual and Gramine's order.
  test.each<[Partial<SgxSettings['cpuFeatures']>, bigint, bigint]>([
    [{}, 0x3n, 0xfffffffffff9ff1bn],
    [{ avx: 'required' }, 0x7n, 0xfffffffffff9ff1fn],
    [{ avx: 'disabled' }, 0x3n, 0xfffffffffff9ff1fn],
    [{ avx512: 'required' }, 0xe7n, 0xfffffffffff9ffffn],
    [{ avx: 'required', avx512: 'disabled' }, 0x3n, 0xfffffffffff9ffffn],
    [{ amx: 'required' }, 0x60003n, 0xffffffffffffff1bn],
    [{ mpx: 'required', pkru: 'required' }, 0x21bn, 0xfffffffffff9ff1bn],
  ])('CPU features %j', (features, xfrm, xfrmMask) => {
    const all = { ...settings.cpuFeatures, avx: 'unspecified', avx512: 'unspecified', pkru: 'disabled', ...features };
    const found = enclaveAttributes({ ...settings, cpuFeatures: all as SgxSettings['cpuFeatures'] });
    expect(found).toMatchObject({ xfrm, xfrmMask: xfrmMask | 0x218n });
  });
});

const FIELDS = new Set(
  'mrenclave mrsigner miscselect miscmask attributes_flags attributes_xfrm attribute_mask_flags attribute_mask_xfrm isvprodid isvsvn date'.split(
    ' ',
  ),
);

describe('attacks on a SIGSTRUCT', () => {
  test('every bit of what is signed, and of all that is around it', () => {
    for (let at = 0; at < genuine.length; at++) {
      // Checking a signature takes half a millisecond: all bits of the signed ranges, one bit of every other byte.
      const isSigned = at < 0x80 || (at >= 0x384 && at < 0x404);
      for (const bit of isSigned ? [0, 1, 2, 3, 4, 5, 6, 7] : [at % 8]) {
        const altered = Buffer.from(genuine);
        altered[at] = (altered[at] ?? 0) ^ (1 << bit);
        if (accepted(altered)) throw new Error(`byte ${at}, bit ${bit} can be changed`);
      }
    }
  });

  test('cut off, or longer', () => {
    for (const length of [0, 1, 128, 1807]) expect(accepted(genuine.subarray(0, length))).toBe(false);
    expect(accepted(Buffer.concat([genuine, Buffer.alloc(1)]))).toBe(false);
  });

  test('the signature of another enclave', () => {
    const other = signed((bytes) => bytes.writeUInt8(1, 0x3c0));
    const moved = Buffer.from(genuine);
    other.copy(moved, 0x204, 0x204, 0x384);
    other.copy(moved, 0x410, 0x410);
    expect(verifySigstruct(parseSigstruct(moved))).toEqual({ signature: false, quotients: true });
  });

  test('the modulus of another key, with quotients to match', () => {
    const moved = Buffer.from(genuine);
    const modulus = randomBytes(384);
    modulus[0] = (modulus[0] ?? 0) | 1;
    modulus[383] = 0xff;
    completeSigstruct(moved, modulus, Buffer.from(genuine.subarray(0x204, 0x384)).reverse());
    expect(verifySigstruct(parseSigstruct(moved))).toEqual({ signature: false, quotients: true });
  });

  test('right signature, wrong q1 or q2', () => {
    for (const at of [0x410, 0x590]) {
      const altered = Buffer.from(genuine);
      altered[at] = (altered[at] ?? 0) ^ 1;
      expect(verifySigstruct(parseSigstruct(altered))).toEqual({ signature: true, quotients: false });
    }
  });

  test('a modulus of zeros, or a short one: no division by zero, nothing verifies', () => {
    const bad = { signature: false, quotients: false };
    for (const from of [0x80, 0x81, 0x1ff]) {
      const altered = Buffer.from(genuine);
      altered.fill(0, from, 0x200);
      expect(verifySigstruct(parseSigstruct(altered))).toEqual(bad);
    }
    const even = Buffer.from(genuine);
    even[0x80] = 0;
    expect(verifySigstruct(parseSigstruct(even)).signature).toBe(false);
  });

  test('modulus 1 with any signature (x^3 mod 1 is 0)', () => {
    const altered = Buffer.from(genuine);
    altered.fill(0, 0x81, 0x200)[0x80] = 1;
    expect(verifySigstruct(parseSigstruct(altered)).signature).toBe(false);
  });
});
