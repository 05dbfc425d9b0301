import { describe, expect, test } from 'vitest';
import { parseCertificate } from '../../../src/attest/certificate.ts';
import { basicConstraints, extension, newKey, SIGN_DATA, signTbs, utc } from './certificates.ts';
import { der, encodeOid, TAG } from './der.ts';

// What only a reader of the bytes can see; OpenSSL takes most of these certificates.

const { publicKey, privateKey } = newKey();
const oid = (dotted: string) => der(TAG.oid, encodeOid(dotted));
const ECDSA = der(TAG.sequence, oid('1.2.840.10045.4.3.3'));
const attribute = (...value: Buffer[]) => der(TAG.sequence, oid('2.5.4.3'), ...value);
const nameOf = (...sets: Buffer[]) => der(TAG.sequence, ...sets);
const NAME = nameOf(der(TAG.set, attribute(der(TAG.utf8, Buffer.from('x')))));
const SPKI: Buffer = publicKey.export({ type: 'spki', format: 'der' });
const VALIDITY = der(TAG.sequence, utc('200101000000Z'), utc('491231235959Z'));
const EXTENSIONS = [basicConstraints(false), SIGN_DATA];

const FIELDS = {
  version: der(0xa0, der(TAG.integer, Buffer.from([2]))),
  serial: der(TAG.integer, Buffer.from([1])),
  algorithm: ECDSA,
  issuer: NAME,
  validity: VALIDITY,
  subject: NAME,
  publicKey: SPKI,
  extensions: der(0xa3, der(TAG.sequence, ...EXTENSIONS)),
};
type Change = Partial<Record<keyof typeof FIELDS, Buffer>>;
const certificate = (change: Change = {}) =>
  signTbs(der(TAG.sequence, ...Object.values({ ...FIELDS, ...change })), privateKey);
const withExtensions = (...list: Buffer[]) => ({ extensions: der(0xa3, der(TAG.sequence, ...list)) });
const constraints = (...content: Buffer[]) =>
  withExtensions(extension('2.5.29.19', der(TAG.sequence, ...content), 0xff));
const parse = (bytes: Buffer) => parseCertificate(bytes, 'certificate');
const TRUE = der(TAG.boolean, Buffer.from([0xff]));
const FALSE = der(TAG.boolean, Buffer.from([0]));

test('the baseline is read', () => {
  const read = parse(certificate());
  expect(read).toMatchObject({ serial: '01', ca: false, keyUsage: 1, key: 'P-384' });
  expect(Buffer.from(read.issuer)).toEqual(NAME);
  expect(parse(certificate(constraints(TRUE, der(TAG.integer, Buffer.from([3])))))).toMatchObject({
    ca: true,
    pathLength: 3,
  });
});

describe('refused', () => {
  test.each<[string, Change, string]>([
    ['a default of basic constraints written out', constraints(FALSE), 'default'],
    ['a path length for what is no authority', constraints(der(TAG.integer, Buffer.from([1]))), 'path length'],
    ['a path length of two bytes', constraints(TRUE, der(TAG.integer, Buffer.from([1, 0]))), 'path length'],
    ['an empty list of extensions', withExtensions(), 'empty list'],
    ['a unique identifier', { publicKey: Buffer.concat([SPKI, der(0x81, Buffer.from([0, 1]))]) }, 'tag'],
    [
      'another algorithm under the signature',
      { algorithm: der(TAG.sequence, oid('1.2.840.10045.4.3.2')) },
      'algorithm',
    ],
    ['an algorithm with more than parameters', { algorithm: der(TAG.sequence, oid('1.2.3'), TRUE, TRUE) }, 'algorithm'],
    ['a key that is not of whole bytes', { publicKey: bentKey(4) }, 'bit string'],
    ['a name whose set has a wrong tag', { subject: nameOf(der(0x11, attribute(der(TAG.utf8)))) }, 'tag'],
    [
      'a name with a sequence in place of a set',
      { subject: nameOf(der(TAG.sequence, attribute(der(TAG.utf8)))) },
      'tag',
    ],
    ['a name with an empty set', { subject: nameOf(der(TAG.set)) }, 'name'],
    [
      'a name that is a number',
      { subject: nameOf(der(TAG.set, attribute(der(TAG.integer, Buffer.from([1]))))) },
      'name',
    ],
    ['a name with two values', { subject: nameOf(der(TAG.set, attribute(der(TAG.utf8), der(TAG.utf8)))) }, 'left over'],
    [
      'a name that is not UTF-8',
      { subject: nameOf(der(TAG.set, attribute(der(TAG.utf8, Buffer.from([0xc0]))))) },
      'UTF-8',
    ],
    ['a string in pieces', { subject: nameOf(der(TAG.set, attribute(der(0x2c, der(TAG.utf8))))) }, 'tag'],
    ['a serial number with a byte too many', { serial: der(TAG.integer, Buffer.from([0, 1])) }, 'shortest'],
    ['no serial number', { serial: der(TAG.integer) }, 'shortest'],
    ['version 2', { version: der(0xa0, der(TAG.integer, Buffer.from([1]))) }, 'version 3'],
    ['a 13th month', { validity: der(TAG.sequence, utc('201301000000Z'), utc('491231235959Z')) }, 'exist'],
    ['the 30th of February', { validity: der(TAG.sequence, utc('200230000000Z'), utc('491231235959Z')) }, 'exist'],
    [
      'three times',
      { validity: der(TAG.sequence, utc('200101000000Z'), utc('211231235959Z'), utc('491231235959Z')) },
      'left over',
    ],
  ])('%s', (_, change, why) => {
    expect(() => parse(certificate(change))).toThrow(
      expect.objectContaining({ code: 'ERR_CERTIFICATE_MALFORMED', message: expect.stringContaining(why) }),
    );
  });

  test('nesting without an end', () => {
    let deep: Buffer = der(TAG.set, attribute(der(TAG.utf8)));
    for (let times = 0; times < 40; times++) deep = der(TAG.sequence, deep);
    expect(() => parse(certificate({ subject: deep }))).toThrow('nested too deeply');
  });

  test('bytes behind the certificate, and every shorter one', () => {
    const bytes = certificate();
    expect(() => parse(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow('left over');
    for (let length = 0; length < bytes.length; length++) expect(() => parse(bytes.subarray(0, length))).toThrow();
  });
});

/** A public key whose last bits are said to be unused. */
function bentKey(unused: number): Buffer {
  const point = SPKI.subarray(-97);
  const algorithm = der(TAG.sequence, oid('1.2.840.10045.2.1'), oid('1.3.132.0.34'));
  const bent = Buffer.from(point);
  bent[96] = (bent[96] ?? 0) & 0xf0;
  return der(TAG.sequence, algorithm, der(TAG.bitString, Buffer.from([unused]), bent));
}
