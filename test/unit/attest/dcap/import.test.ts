import { describe, expect, test } from 'vitest';
import { importIntel } from '../../../../src/attest/dcap/import.ts';
import { memberSpans } from '../../../../src/attest/dcap/json-spans.ts';
import { verifyDcap } from '../../../../src/attest/dcap/verify.ts';
import type { Endorsements, SignedJson } from '../../../../src/attest/types.ts';
import { allPass } from '../../../../src/core/check.ts';
import { AT, FakeIntel } from './fake-intel.ts';
import { dcapFile, haveVectors, TDX } from './vectors.ts';

const intel = new FakeIntel();
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const pemOf = (der: Buffer) => `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`;
const { signer, root, authority, pck } = intel.certificates;
const answer = (name: string, { body, signature }: SignedJson) =>
  `{"${name}":${Buffer.from(body).toString()},"signature":"${hex(signature)}"}`;
/** As `curl -i` prints it. */
const http = (headers: Record<string, string>, body: string | Buffer) =>
  Buffer.concat([
    Buffer.from(
      `HTTP/1.1 200 OK\r\n${Object.entries(headers)
        .map(([name, value]) => `${name}: ${value}\r\n`)
        .join('')}\r\n`,
    ),
    Buffer.from(body),
  ]);
const chain = (...ders: Buffer[]) => encodeURIComponent(ders.map(pemOf).join(''));
const merge = (list: (Endorsements | null)[]): Endorsements => ({
  certificates: list.flatMap((one) => one?.certificates ?? []),
  crls: list.flatMap((one) => one?.crls ?? []),
  tcbInfos: list.flatMap((one) => one?.tcbInfos ?? []),
  qeIdentities: list.flatMap((one) => one?.qeIdentities ?? []),
});
const holds = (endorsements: Endorsements, quote = intel.quote()) =>
  allPass(verifyDcap(quote, { allowSimulated: [], now: AT, roots: [root], endorsements }).checks);
const TWO_CRLS = pemOf(intel.crl('root')).replaceAll('CERTIFICATE', 'X509 CRL').repeat(2);
const malformed = expect.objectContaining({ code: 'ERR_COLLATERAL_MALFORMED', exitCode: 2 });

describe('what Intel’s services return, recorded', () => {
  test('PCS, each answer with its head: together they verify a quote that carries no chain', () => {
    const info = http({ 'TCB-Info-Issuer-Chain': chain(signer, root) }, answer('tcbInfo', intel.tcbInfo()));
    const identity = http(
      { 'Content-Type': 'application/json', 'sgx-enclave-identity-issuer-chain': chain(signer, root) },
      answer('enclaveIdentity', intel.qeIdentity()),
    );
    const crl = http({ 'SGX-PCK-CRL-Issuer-Chain': chain(authority, root) }, intel.crl('authority'));
    const rootCrl = Buffer.from(`${hex(intel.crl('root'))}\n`);
    const certificates = http(
      { 'SGX-PCK-Certificate-Issuer-Chain': chain(authority, root) },
      JSON.stringify([
        { tcbm: '00', cert: chain(pck) },
        { tcbm: '01', cert: 'Not available' },
      ]),
    );
    const all = merge([info, identity, crl, rootCrl, certificates].map(importIntel));
    expect(all.certificates).toHaveLength(9);
    expect(holds(all, intel.quote({ certification: { type: 1, data: Buffer.alloc(36) } }))).toBe(true);
  });

  test('of several heads the last counts', () => {
    const first = 'HTTP/1.1 302 Found\r\nTCB-Info-Issuer-Chain: nonsense%\r\n\r\n';
    const last = http({ 'TCB-Info-Issuer-Chain': chain(signer, root) }, answer('tcbInfo', intel.tcbInfo()));
    expect(importIntel(Buffer.concat([Buffer.from(first), last]))?.certificates).toHaveLength(2);
  });

  test('a single PCK certificate; CRLs in hex and in PEM', () => {
    expect(importIntel(http({ 'SGX-FMSPC': '00A067110000' }, pemOf(pck)))?.certificates).toEqual([pck]);
    const crl = intel.crl('authority');
    expect(importIntel(http({}, hex(crl)))?.crls).toEqual([crl]);
    const pem = pemOf(crl).replaceAll('CERTIFICATE', 'X509 CRL');
    const answered = importIntel(http({ 'SGX-PCK-CRL-Issuer-Chain': chain(authority, root) }, pem));
    expect(answered).toMatchObject({ certificates: [authority, root], crls: [crl] });
    expect(importIntel(Buffer.from(JSON.stringify({ pck_crl: pem })))?.crls).toEqual([crl]);
  });

  test('the file that PCCS clients write', () => {
    const [info, identity] = [intel.tcbInfo(), intel.qeIdentity()];
    const file = {
      pck_crl_issuer_chain: pemOf(authority) + pemOf(root),
      tcb_info_issuer_chain: pemOf(signer) + pemOf(root),
      root_ca_crl: hex(intel.crl('root')),
      pck_crl: hex(intel.crl('authority')),
      tcb_info: Buffer.from(info.body).toString(),
      tcb_info_signature: hex(info.signature),
      qe_identity: Buffer.from(identity.body).toString(),
      qe_identity_signature: hex(identity.signature),
      pck_certificate_chain: null,
    };
    expect(holds(importIntel(Buffer.from(JSON.stringify(file))) as Endorsements)).toBe(true);
    // The file itself may be written again, what it holds may not.
    expect(holds(importIntel(Buffer.from(JSON.stringify(file, null, 2))) as Endorsements)).toBe(true);
    const again = { ...file, tcb_info: JSON.stringify(JSON.parse(file.tcb_info), null, 1) };
    expect(holds(importIntel(Buffer.from(JSON.stringify(again))) as Endorsements)).toBe(false);
  });

  test('the bytes that are signed stay as they are: blanks, order, escapes', () => {
    const odd = intel.signed(' {"b" : [ "}\\"]" ] , "a":"\\u0041" } '.trim());
    const text = `\n{ "signature" : "${hex(odd.signature)}" ,\t"tcbInfo" :  ${Buffer.from(odd.body)} }\n`;
    expect(importIntel(Buffer.from(text))?.tcbInfos).toEqual([{ body: odd.body, signature: odd.signature }]);
  });

  test.each<[string, string]>([
    ['a signature of another length', '{"tcbInfo":{},"signature":"00"}'],
    ['no signature', '{"tcbInfo":{}}'],
    ['two objects, one signature', `{"tcbInfo":{},"enclaveIdentity":{},"signature":"${'00'.repeat(64)}"}`],
    ['an object twice', `{"tcbInfo":{"a":1},"tcbInfo":{"a":2},"signature":"${'00'.repeat(64)}"}`],
    ['a CRL that is not hex', '{"pck_crl":"zz","tcb_info":"{}"}'],
    ['two CRLs for one', JSON.stringify({ pck_crl: TWO_CRLS })],
    ['a CRL in PEM that has no end', JSON.stringify({ pck_crl: TWO_CRLS.slice(0, 40) })],
    ['a chain that is not PEM', '{"tcb_info_issuer_chain":"hello","tcb_info":"{}"}'],
    ['a head without an end', 'HTTP/1.1 200 OK\r\n'],
    ['a chain that is not in percent encoding', 'HTTP/1.1 200 OK\r\nTCB-Info-Issuer-Chain: %%\r\n\r\n{"tcbInfo":{}}'],
    ['a number for a string', '{"tcb_info":1}'],
  ])('refused: %s', (_name, text) => expect(() => importIntel(Buffer.from(text))).toThrowError(malformed));

  test.each<[string, Buffer]>([
    ['nothing', Buffer.alloc(0)],
    ['other JSON', Buffer.from('{"kind":"atoma-tee-evidence"}')],
    ['a list of something else', Buffer.from('[1,2]')],
    ['text', Buffer.from('hello')],
    ['half a JSON', Buffer.from('{"tcbInfo":')],
    ['DER by itself', intel.crl('root')],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x7b])],
  ])('not Intel’s: %s', (_name, bytes) => expect(importIntel(bytes)).toBeNull());

  test.skipIf(!haveVectors)(
    'a recorded answer of PCS holds the same bytes as the collateral file (reference vectors needed)',
    () => {
      const recorded = importIntel(dcapFile('google-tdx-v5.tcbinfo_response'));
      expect(recorded?.tcbInfos.map(({ body }) => Buffer.from(body).toString())).toEqual(
        TDX.endorsements.tcbInfos.map(({ body }) => Buffer.from(body).toString()),
      );
      expect(recorded?.tcbInfos[0]?.signature).toEqual(TDX.endorsements.tcbInfos[0]?.signature);
    },
  );
});

describe('members as they stand in JSON', () => {
  test.each<[string, [string, string][]]>([
    ['{}', []],
    ['{"a":1}', [['a', '1']]],
    [
      ' { "a" : -1.5e3 , "b" : null } ',
      [
        ['a', '-1.5e3'],
        ['b', 'null'],
      ],
    ],
    ['{"a":"x,}\\"\\\\"}', [['a', '"x,}\\"\\\\"']]],
    [
      '{"a":{"b":[{},"]"]},"c":[]}',
      [
        ['a', '{"b":[{},"]"]}'],
        ['c', '[]'],
      ],
    ],
    ['{"\\u0061":true}', [['a', 'true']]],
  ])('%s', (text, expected) => {
    expect([...(memberSpans(text) ?? [])]).toEqual(expected);
    // What JSON.parse makes of the object is what it makes of the members.
    const parsed = Object.fromEntries([...(memberSpans(text) ?? [])].map(([key, value]) => [key, JSON.parse(value)]));
    expect(parsed).toEqual(JSON.parse(text));
  });
  test('a key that appears twice, however it is written', () => {
    expect(memberSpans('{"a":1,"\\u0061":2}')).toBeNull();
  });
});
