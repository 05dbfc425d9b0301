import { describe, expect, test } from 'vitest';
import { parseCertificate } from '../../../src/attest/certificate.ts';
import { verifyChain } from '../../../src/attest/chain.ts';
import { SIMULATED_OID } from '../../../src/attest/simulated-certificate.ts';
import {
  basicConstraints,
  extension,
  keyUsage,
  newKey,
  type RawCertificate,
  rawCertificate,
  SIGN_CERTIFICATES,
  SIGN_DATA,
  utc,
} from './certificates.ts';
import { der, TAG } from './der.ts';

const [rootKey, middleKey, leafKey] = [newKey(), newKey(), newKey()];
const now = new Date('2026-11-22T00:00:00Z');
type Change = Partial<RawCertificate>;
const NULL = Buffer.from([5, 0]);
const generalized = (text: string) => der(TAG.generalizedTime, Buffer.from(text));

/** A chain of three: root, intermediate, leaf. */
function chain(change: { root?: Change; middle?: Change; leaf?: Change } = {}) {
  const authority = [basicConstraints(true), SIGN_CERTIFICATES];
  const root = { subject: 'root', issuer: 'root', publicKey: rootKey.publicKey, extensions: authority, ...change.root };
  const middle = {
    subject: 'mid',
    issuer: 'root',
    publicKey: middleKey.publicKey,
    extensions: authority,
    ...change.middle,
  };
  const leaf = {
    subject: 'leaf',
    issuer: 'mid',
    publicKey: leafKey.publicKey,
    extensions: [basicConstraints(false), SIGN_DATA],
    ...change.leaf,
  };
  return [
    rawCertificate(root, rootKey.privateKey),
    rawCertificate(middle, rootKey.privateKey),
    rawCertificate(leaf, middleKey.privateKey),
  ].map((bytes, i) => parseCertificate(bytes, `certificate ${i}`));
}

const problem = (certificates: ReturnType<typeof chain>, understood: string[] = []) =>
  verifyChain(certificates, { roots: [certificates[0]?.fingerprint ?? ''], at: now, now, current: true, understood })
    .filter((c) => c.status === 'fail')
    .map((c) => c.detail ?? c.id)
    .join('; ');

describe('hostile chains', () => {
  test('the baseline holds', () => expect(problem(chain())).toBe(''));

  test.each<[string, Parameters<typeof chain>[0], string]>([
    [
      'a leaf that issues',
      { middle: { extensions: [basicConstraints(false), SIGN_CERTIFICATES] } },
      'expected CA:TRUE',
    ],
    ['an issuer without constraints', { middle: { extensions: [SIGN_CERTIFICATES] } }, 'expected CA:TRUE'],
    ['a CA as leaf', { leaf: { extensions: [basicConstraints(true), SIGN_DATA] } }, 'expected CA:FALSE'],
    [
      'an issuer that may only sign data',
      { middle: { extensions: [basicConstraints(true), SIGN_DATA] } },
      'keyCertSign',
    ],
    ['an issuer without key usage', { middle: { extensions: [basicConstraints(true)] } }, 'keyCertSign'],
    [
      'a leaf that may not sign data',
      { leaf: { extensions: [basicConstraints(false), keyUsage(5, 0x20)] } },
      'digitalSignature',
    ],
    ['path length exceeded', { root: { extensions: [basicConstraints(true, 0), SIGN_CERTIFICATES] } }, 'path length 0'],
    ['another name', { leaf: { issuer: 'Mid' } }, 'another name'],
    ['signed by another key', { middle: { publicKey: leafKey.publicKey } }, "not its issuer's"],
    ['expired intermediate', { middle: { times: [utc('200101000000Z'), utc('260101000000Z')] } }, 'evidence.valid'],
    ['leaf not valid yet', { leaf: { times: [utc('270101000000Z'), utc('280101000000Z')] } }, 'evidence.valid'],
  ])('%s', (_, change, expected) => expect(problem(chain(change))).toContain(expected));

  test('path length that is enough', () =>
    expect(problem(chain({ root: { extensions: [basicConstraints(true, 1), SIGN_CERTIFICATES] } }))).toBe(''));

  test('unknown critical extension', () => {
    const unknown = extension('1.2.3.4', Buffer.from([5, 0]), 0xff);
    const leaf = { extensions: [basicConstraints(false), SIGN_DATA, unknown] };
    expect(problem(chain({ leaf }))).toContain('unknown critical extension 1.2.3.4');
    expect(problem(chain({ leaf }), ['1.2.3.4'])).toBe('');
    // What the caller understands in a leaf is not understood in an issuer.
    const middle = { extensions: [basicConstraints(true), SIGN_CERTIFICATES, unknown] };
    expect(problem(chain({ middle }), ['1.2.3.4'])).toContain('unknown critical extension');
    const known = { extensions: [basicConstraints(false), SIGN_DATA, extension('1.2.3.4', Buffer.from([5, 0]))] };
    expect(problem(chain({ leaf: known }))).toBe('');
  });

  test('a verifier of real hardware refuses the simulated mark', () => {
    const mark = extension(SIMULATED_OID, Buffer.from([5, 0]), 0xff);
    expect(problem(chain({ leaf: { extensions: [basicConstraints(false), SIGN_DATA, mark] } }))).toContain(
      SIMULATED_OID,
    );
  });
});

describe('hostile certificates', () => {
  const parse = (change: Change) => () =>
    parseCertificate(
      rawCertificate(
        { subject: 'x', issuer: 'x', publicKey: leafKey.publicKey, extensions: [basicConstraints(false)], ...change },
        leafKey.privateKey,
      ),
      'certificate',
    );

  test.each<[string, Change]>([
    ['an extension twice', { extensions: [basicConstraints(true), basicConstraints(false)] }],
    ['a critical flag that is neither true nor false', { extensions: [extension('1.2.3', Buffer.alloc(0), 1)] }],
    [
      'an identifier with a leading zero digit',
      { extensions: [extension(Buffer.from([0x80, 0x55]), Buffer.alloc(0))] },
    ],
    ['an identifier cut off', { extensions: [extension(Buffer.from([0x2a, 0x83]), Buffer.alloc(0))] }],
    ['an empty identifier', { extensions: [extension(Buffer.alloc(0), Buffer.alloc(0))] }],
    ['no version', { version: Buffer.alloc(0) }],
    ['version 1', { version: der(0xa0, der(TAG.integer, Buffer.from([0]))) }],
    ['a path length of 200', { extensions: [basicConstraints(true, 200)] }],
    ['constraints with more in them', { extensions: [extension('2.5.29.19', der(TAG.sequence, der(TAG.utf8)), 0xff)] }],
    ['key usage of three bytes', { extensions: [keyUsage(0, 1, 2, 3)] }],
    ['key usage with nine unused bits', { extensions: [keyUsage(9, 0x80)] }],
    ['the 31st of February', { times: [utc('200231000000Z'), utc('491231235959Z')] }],
    ['a time with an offset', { times: [utc('200101000000+0100'), utc('491231235959Z')] }],
    ['a time of another type', { times: [der(TAG.utf8, Buffer.from('200101000000Z')), utc('491231235959Z')] }],
    ['key usage without a bit', { extensions: [keyUsage(0)] }],
    ['key usage with bits that nobody named', { extensions: [keyUsage(0, 0x80, 0x41)] }],
    ['key usage with an unused bit set', { extensions: [keyUsage(7, 0xc0)] }],
    ['an indefinite length inside', { version: Buffer.from('a0800201020000', 'hex') }],
    ['a length not in its shortest form inside', { version: Buffer.from('a08103020102', 'hex') }],
    ['a negative path length', { extensions: [basicConstraints(true, 0xff)] }],
    ['a critical flag that says its default', { extensions: [extension('1.2.3', Buffer.alloc(0), 0)] }],
    ['an identifier that the library cannot write out', { extensions: [extension(`2.25.${2n ** 127n}`, NULL)] }],
    ['an identifier too large for a number', { extensions: [extension(`1.2.${2n ** 53n + 1n}`, NULL)] }],
    ['fractions of a second', { times: [generalized('20200101000000.5Z'), utc('491231235959Z')] }],
    ['a leap second', { times: [utc('161231235960Z'), utc('491231235959Z')] }],
    ['a time without seconds', { times: [utc('2001010000Z'), utc('491231235959Z')] }],
    ['a year before 100', { times: [generalized('00500101000000Z'), utc('491231235959Z')] }],
    ['more than 16 KiB', { extensions: [extension('1.2.3', Buffer.alloc(1 << 14))] }],
    ['five hundred extensions', { extensions: Array.from({ length: 500 }, (_, i) => extension(`1.2.${i}`, NULL)) }],
  ])('%s', (_, change) =>
    expect(parse(change)).toThrow(expect.objectContaining({ code: 'ERR_CERTIFICATE_MALFORMED' })),
  );

  test('an extension of any other kind goes by its own bytes', () => {
    // A subject alternative name that is none: for whoever understands that extension.
    const { extensions } = parse({ extensions: [extension('2.5.29.17', Buffer.from('rubbish'), 0xff)] })();
    expect(extensions.get('2.5.29.17')).toEqual({ critical: true, value: Buffer.from('rubbish') });
  });

  test('generalized time', () => {
    const times: [Buffer, Buffer] = [utc('991231235959Z'), generalized('20500101000000Z')];
    expect(parse({ times })()).toMatchObject({
      notBefore: new Date('1999-12-31T23:59:59Z'),
      notAfter: new Date('2050-01-01T00:00:00Z'),
    });
  });
});
