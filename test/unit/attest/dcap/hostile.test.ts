import { describe, expect, test } from 'vitest';
import { commonName, DerError } from '../../../../src/attest/dcap/der.ts';
import { importIntel } from '../../../../src/attest/dcap/import.ts';
import { readPckPlatform } from '../../../../src/attest/dcap/pck.ts';
import { readPemChain } from '../../../../src/attest/dcap/pem.ts';
import { parseQeIdentity } from '../../../../src/attest/dcap/qe-identity.ts';
import { parseQuote } from '../../../../src/attest/dcap/quote.ts';
import { parseTcbInfo } from '../../../../src/attest/dcap/tcb-info.ts';
import { AtomaError } from '../../../../src/core/errors.ts';
import { seeded } from '../nitro-fixture.ts';
import { distinguished, FakeIntel, PLATFORM, sgxExtensionValue } from './fake-intel.ts';
import { outcome } from './mutations.ts';
import { haveVectors, SGX, TDX } from './vectors.ts';

const intel = new FakeIntel();
const QUOTES = [
  intel.quote(),
  intel.quote({ version: 4, tee: 'tdx' }),
  intel.quote({ version: 5, tee: 'tdx', tdReportLength: 648 }),
];
const malformed = expect.objectContaining({ code: 'ERR_EVIDENCE_MALFORMED', exitCode: 2 });

describe('quotes', () => {
  test('cut short at every length they are malformed', () => {
    for (const quote of QUOTES) {
      for (let length = 0; length < quote.length; length++) {
        expect(() => parseQuote(quote.subarray(0, length))).toThrowError(malformed);
      }
    }
  });

  test.each([0xffffffff, 0xfffffffe, 0x80000000, 0x7fffffff, 0x10000])('every length field set to %d', (size) => {
    for (const quote of QUOTES) {
      const { version, body, certification } = parseQuote(quote);
      const fields = [
        version === 5 ? 50 : undefined,
        signedLength(version, body.report.bytes.length),
        version === 3 ? undefined : signedLength(version, body.report.bytes.length) + 4 + 128 + 2,
        quote.length - certification.data.length - 4,
      ].filter((field) => field !== undefined);
      for (const field of fields) {
        const bent = Buffer.from(quote);
        bent.writeUInt32LE(size, field);
        expect(() => parseQuote(bent)).toThrowError(malformed);
      }
    }
  });

  test.each<[string, number, number]>([
    ['version 2', 0, 2],
    ['version 6', 0, 6],
    ['a P-384 key', 2, 3],
    ['an EPID key', 2, 1],
    ['TDX in version 3', 4, 0x81],
    ['another TEE', 4, 0x82],
  ])('%s', (_name, offset, value) => {
    const bent = Buffer.from(QUOTES[0] as Buffer);
    bent.writeUInt16LE(value, offset);
    expect(() => parseQuote(bent)).toThrowError(malformed);
  });

  test('bytes inside the signature data that belong to nothing', () => {
    for (const quote of QUOTES) {
      const { version, body } = parseQuote(quote);
      const auth = signedLength(version, body.report.bytes.length);
      const longer = Buffer.concat([quote, Buffer.alloc(5)]);
      longer.writeUInt32LE(longer.readUInt32LE(auth) + 5, auth);
      expect(() => parseQuote(longer)).toThrowError(/5 bytes left over/);
      if (version === 3) continue;
      // And inside the certification data that versions 4 and 5 wrap the rest into.
      const wrapped = auth + 4 + 128 + 2;
      longer.writeUInt32LE(longer.readUInt32LE(wrapped) + 5, wrapped);
      expect(() => parseQuote(longer)).toThrowError(/5 bytes left over/);
    }
  });

  test('a quoting enclave of another vendor, a body type that does not go with the TEE, too much of it all', () => {
    const vendor = Buffer.from(QUOTES[0] as Buffer).fill(0, 12, 28);
    expect(() => parseQuote(vendor)).toThrowError(malformed);
    for (const type of [0, 1, 2, 4]) {
      const bent = Buffer.from(QUOTES[2] as Buffer);
      bent.writeUInt16LE(type, 48);
      expect(() => parseQuote(bent)).toThrowError(malformed);
    }
    expect(() => parseQuote(Buffer.alloc(1 << 17))).toThrowError(malformed);
    expect(() => parseQuote(Buffer.concat([QUOTES[0] as Buffer, Buffer.alloc(1 << 16)]))).toThrowError(malformed);
  });

  test.each([0, 6, 8, 0xffff])('certification data of type %d', (type) => {
    const quote = intel.quote({ certification: { type, data: intel.pem } });
    expect(() => parseQuote(quote)).toThrowError(malformed);
  });
});

const signedLength = (version: number, report: number): number => 48 + (version === 5 ? 6 : 0) + report;

describe('PEM in quotes has one reading', () => {
  const good = intel.pem.toString('latin1');
  test('the genuine form, without the NUL, with CRLF', () => {
    for (const text of [good, good.replace(/\0$/, ''), good.replaceAll('\n', '\r\n')]) {
      expect(readPemChain(text)).toHaveLength(3);
    }
  });
  test.each<[string, string]>([
    ['nothing', ''],
    ['text before', `hello\n${good}`],
    ['text after', `${good}hello`],
    ['two NULs', `${good}\0`],
    ['another label', good.replaceAll('CERTIFICATE', 'X509 CRL')],
    ['a blank in a line', good.replace('\nMII', '\nM II')],
    ['base64 that says less than it has', '-----BEGIN CERTIFICATE-----\nAAB=\n-----END CERTIFICATE-----\n'],
    ['an end without a beginning', good.replace('-----BEGIN CERTIFICATE-----\n', '')],
    ['a beginning without an end', good.replace(/-----END CERTIFICATE-----\n\0$/, '')],
    ['a block with nothing in it', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n'],
    ['more than eight', good.replace(/\0$/, '').repeat(3)],
  ])('%s', (_name, text) => expect(readPemChain(text)).toBeNull());
});

describe('SGX extensions of PCK certificates', () => {
  const good = sgxExtensionValue(PLATFORM);
  test('are read', () => {
    expect(readPckPlatform(good)).toMatchObject({
      fmspc: '00a067110000',
      pceId: '0000',
      components: PLATFORM.components,
      pceSvn: 11,
      sgxType: 'standard',
    });
  });
  test('cut short at every length, with a byte more', () => {
    for (let length = 0; length < good.length; length++) {
      expect(() => readPckPlatform(good.subarray(0, length))).toThrowError(DerError);
    }
    expect(() => readPckPlatform(Buffer.concat([good, Buffer.alloc(1)]))).toThrowError(DerError);
  });
  test.each<[string, Partial<typeof PLATFORM>]>([
    ['a short PPID', { ppid: Buffer.alloc(15) }],
    ['a long FMSPC', { fmspc: Buffer.alloc(7) }],
    ['17 components, the last in place of the PCE SVN', { components: Array(17).fill(1) }],
    ['a component above 255', { components: Array(16).fill(300) }],
    ['a PCE SVN above 65535', { pceSvn: 0x10000 }],
  ])('%s', (_name, change) => {
    expect(() => readPckPlatform(sgxExtensionValue({ ...PLATFORM, ...change }))).toThrowError();
  });
});

test('names with two common names, or none, have none', () => {
  const name = distinguished('Intel SGX Root CA');
  expect(commonName(name)).toBe('Intel SGX Root CA');
  const twice = Buffer.concat([Buffer.from([0x30, 2 * (name.length - 2)]), name.subarray(2), name.subarray(2)]);
  expect(commonName(twice)).toBeUndefined();
  expect(commonName(Buffer.from([0x30, 0]))).toBeUndefined();
});

/** Parsers, something good to start from, and whether what they throw is what their callers handle. */
const PARSERS: [string, (bytes: Buffer) => unknown, Buffer[]][] = [
  ['quotes', parseQuote, QUOTES],
  ['SGX extensions', readPckPlatform, [sgxExtensionValue(PLATFORM)]],
  ['names', commonName, [distinguished('Intel SGX Root CA')]],
  ['PEM', (bytes) => readPemChain(bytes.toString('latin1')), [intel.pem]],
  ['TCB info', parseTcbInfo, [intel.tcbInfo().body, intel.tdxInfo().body].map((body) => Buffer.from(body))],
  ['QE identity', parseQeIdentity, [Buffer.from(intel.qeIdentity().body)]],
  [
    'collateral',
    importIntel,
    [Buffer.from('{"tcbInfo":{"a":[1,"}"]},"signature":"00"}'), Buffer.from('HTTP/1.1 200 OK\r\n\r\n[]')],
  ],
];

describe.each(PARSERS)('fuzz: %s', (name, parse, seeds) => {
  test('thousands of bent inputs: a result, or an error of ours', () => {
    const random = seeded(`dcap ${name}`);
    for (let round = 0; round < 3000; round++) {
      const bytes = bent(seeds[round % seeds.length] as Buffer, random);
      try {
        parse(bytes);
      } catch (error) {
        if (!(error instanceof AtomaError && error.exitCode === 2) && !(error instanceof DerError)) throw error;
      }
    }
  });
});

describe.skipIf(!haveVectors)('fuzz: whole verification (reference vectors needed)', () => {
  test.each([
    ['SGX', SGX],
    ['TDX', TDX],
  ])('bent %s quotes are never accepted', (name, given) => {
    const random = seeded(`dcap quote ${name}`);
    for (let round = 0; round < 300; round++) {
      const quote = bent(given.quote, random);
      // What comes after a quote is nobody's.
      if (quote.subarray(0, given.quote.length).equals(given.quote)) continue;
      expect(outcome({ ...given, quote })).not.toBe('accepted');
    }
  });

  test('bent collateral is never accepted', () => {
    const random = seeded('dcap collateral');
    const { tcbInfos, qeIdentities, crls } = SGX.endorsements;
    const [info] = tcbInfos;
    const [identity] = qeIdentities;
    const [rootCrl, pckCrl] = crls;
    if (!info || !identity || !rootCrl || !pckCrl) throw new Error('the vector has changed');
    const bend = (bytes: Uint8Array) => bent(Buffer.from(bytes), random);
    for (let round = 0; round < 100; round++) {
      const changes = [
        { tcbInfos: [{ ...info, body: bend(info.body) }] },
        { tcbInfos: [{ ...info, signature: bend(info.signature) }] },
        { qeIdentities: [{ ...identity, body: bend(identity.body) }] },
        { crls: [bend(rootCrl), pckCrl] },
        { crls: [rootCrl, bend(pckCrl)] },
      ];
      for (const change of changes) {
        expect(outcome({ ...SGX, endorsements: { ...SGX.endorsements, ...change } })).not.toBe('accepted');
      }
    }
  });
});

/** A copy with one to four changes: bits, bytes, numbers at their limits, pieces cut, doubled or moved. Never the same bytes. */
function bent(from: Buffer, random: (below: number) => number): Buffer {
  let bytes = Buffer.from(from);
  for (let changes = 1 + random(4); changes > 0 || bytes.equals(from); changes--) {
    const at = random(bytes.length || 1);
    const length = 1 + random(16);
    const kind = random(7);
    if (bytes.length === 0 || kind === 0) bytes = Buffer.concat([bytes, Buffer.alloc(length, random(256))]);
    else if (kind === 1) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
    else if (kind === 2) bytes[at] = random(256);
    else if (kind === 3)
      bytes.fill([0, 0xff, 0x7f, 0x80][random(4)] ?? 0, at, Math.min(bytes.length, at + (random(2) === 0 ? 2 : 4)));
    else if (kind === 4) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    else if (kind === 5) bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    else bytes.copy(bytes, at, random(bytes.length), random(bytes.length));
  }
  return bytes;
}
