import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { bundleFromJSON } from '@sigstore/bundle';
import { dsse } from '@sigstore/core';
import { toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';
import { describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/core/bytes.ts';
import { bundlePath, cosignHint, parseBundle, signBundle, signedPath } from '../../../src/manifest/bundle.ts';
import { IN_TOTO_TYPE, verifyEnvelope } from '../../../src/manifest/dsse.ts';

const pair = (namedCurve = 'P-256') => generateKeyPairSync('ec', { namedCurve });
const { privateKey, publicKey } = pair();
const payload = Buffer.from('{"_type":"https://in-toto.io/Statement/v1"}\n');
const bundle = (): any => JSON.parse(signBundle(payload, privateKey, cosignHint(publicKey)).toString());
const parse = (json: unknown) =>
  parseBundle(Buffer.from(typeof json === 'string' ? json : JSON.stringify(json)), 'signature');
const holds = (json: unknown, key: KeyObject = publicKey) => verifyEnvelope(parse(json).envelope, key);

/** The order of P-256 (FIPS 186-5). */
const ORDER = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');

describe('a bundle', () => {
  test('verifies with @sigstore/verify, which is not ours, under the right key alone', () => {
    const judge = (key: KeyObject) => {
      const trust = toTrustMaterial(
        { mediaType: '', tlogs: [], ctlogs: [], certificateAuthorities: [], timestampAuthorities: [] },
        () => ({ publicKey: key, validFor: () => true }),
      );
      const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
      return verifier.verify(toSignedEntity(bundleFromJSON(bundle())));
    };
    expect(judge(publicKey).key).toBe(publicKey);
    expect(() => judge(pair().publicKey)).toThrow('signature verification failed');
  });

  test('has the shape that cosign and model_signing write: v0.3, key method, one signature without keyid', () => {
    const hint = sha256(publicKey.export({ format: 'der', type: 'spki' })).toString('base64');
    expect(bundle()).toEqual({
      mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
      verificationMaterial: { publicKey: { hint }, tlogEntries: [] },
      dsseEnvelope: {
        payload: payload.toString('base64'),
        payloadType: 'application/vnd.in-toto+json',
        signatures: [{ sig: expect.stringMatching(/^ME[A-Za-z0-9+/]+=*$/), keyid: '' }],
      },
    });
  });

  test('is read as it was written', () => {
    expect(parse(bundle())).toMatchObject({
      method: 'key',
      logEntries: 0,
      envelope: { payload, payloadType: IN_TOTO_TYPE },
    });
    expect(holds(bundle())).toBe(true);
  });

  test('lies beside its manifest', () => {
    expect(bundlePath('dist/build.intoto.json')).toBe('dist/build.sigstore.json');
    expect(signedPath('dist/build.sigstore.json')).toBe('dist/build.intoto.json');
  });
});

describe('a signature does not hold', () => {
  test('under another key, or a key on another curve', () => {
    expect(holds(bundle(), pair().publicKey)).toBe(false);
    expect(holds(bundle(), pair('P-384').publicKey)).toBe(false);
  });

  test('for an altered payload, or a payload of another type', () => {
    const altered = bundle();
    altered.dsseEnvelope.payload = Buffer.concat([payload, Buffer.from(' ')]).toString('base64');
    expect(holds(altered)).toBe(false);
    const typed = bundle();
    typed.dsseEnvelope.payloadType = 'text/plain';
    expect(holds(typed)).toBe(false);
  });

  test('where it is over the payload alone, without the pre-authentication encoding', () => {
    const bare = bundle();
    bare.dsseEnvelope.signatures[0].sig = sign('sha256', payload, privateKey).toString('base64');
    expect(holds(bare)).toBe(false);
  });

  test('in another encoding: BER with a long length, a zero byte in front, IEEE P1363', () => {
    const der = Buffer.from(bundle().dsseEnvelope.signatures[0].sig, 'base64');
    const long = Buffer.concat([Buffer.from([0x30, 0x81, der.length - 2]), der.subarray(2)]);
    const padded = Buffer.concat([der, Buffer.from([0])]);
    const pae = dsse.preAuthEncoding(IN_TOTO_TYPE, payload);
    const raw = sign('sha256', pae, { key: privateKey, dsaEncoding: 'ieee-p1363' });
    for (const sig of [long, padded, raw]) {
      const other = bundle();
      other.dsseEnvelope.signatures[0].sig = sig.toString('base64');
      expect(holds(other)).toBe(false);
    }
  });

  test('but the second signature that anybody can make of a first (n - s) does: it is over the same bytes', () => {
    const pae = dsse.preAuthEncoding(IN_TOTO_TYPE, payload);
    const raw = sign('sha256', pae, { key: privateKey, dsaEncoding: 'ieee-p1363' });
    const s = ORDER - BigInt(`0x${raw.toString('hex', 32)}`);
    const integer = (hex: string) => {
      const bytes = Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex');
      const value = (bytes[0] as number) > 127 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes;
      return Buffer.concat([Buffer.from([2, value.length]), value]);
    };
    const r = BigInt(`0x${raw.toString('hex', 0, 32)}`);
    const body = Buffer.concat([integer(r.toString(16)), integer(s.toString(16))]);
    const twin = bundle();
    twin.dsseEnvelope.signatures[0].sig = Buffer.concat([Buffer.from([0x30, body.length]), body]).toString('base64');
    expect(holds(twin)).toBe(true);
  });
});

describe('a bundle is refused', () => {
  const changed = (change: (json: any) => void) => {
    const json = bundle();
    change(json);
    return json;
  };
  const second = (json: any) => json.dsseEnvelope.signatures.push(json.dsseEnvelope.signatures[0]);
  const url = (text: string) => text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
  test.each<[string, unknown]>([
    ['that is empty', ''],
    ['that is not JSON', '{'],
    ['that is a list', []],
    ['that is null', null],
    ['with two signatures', changed(second)],
    ['without a signature', changed((json) => json.dsseEnvelope.signatures.pop())],
    ['with an empty signature', changed((json) => (json.dsseEnvelope.signatures[0].sig = ''))],
    ['without an envelope', changed((json) => delete json.dsseEnvelope)],
    ['with a message signature besides', changed((json) => (json.messageSignature = {}))],
    ['with an unknown field', changed((json) => (json.extra = 1))],
    ['with an unknown field in the envelope', changed((json) => (json.dsseEnvelope.payload2 = 'AAAA'))],
    ['with an unknown field in a signature', changed((json) => (json.dsseEnvelope.signatures[0].cert = 'AAAA'))],
    ['of another version', changed((json) => (json.mediaType = 'application/vnd.dev.sigstore.bundle.v0.4+json'))],
    ['without verification material', changed((json) => delete json.verificationMaterial)],
    ['with no method in it', changed((json) => delete json.verificationMaterial.publicKey)],
    ['with two methods', changed((json) => (json.verificationMaterial.certificate = { rawBytes: 'AAAA' }))],
    ['with base64url', changed((json) => (json.dsseEnvelope.payload = url(Buffer.from('>>>???~').toString('base64'))))],
    ['with base64 without padding', changed((json) => (json.dsseEnvelope.payload = 'QQ'))],
    ['with base64 whose spare bits are not zero', changed((json) => (json.dsseEnvelope.payload = 'QR=='))],
    ['with white space in base64', changed((json) => (json.dsseEnvelope.payload = 'QUJD\nQUJD'))],
    ['with an empty payload', changed((json) => (json.dsseEnvelope.payload = ''))],
    ['with a mark of byte order', `\ufeff${JSON.stringify(bundle())}`],
    ['nested a million times', `${'['.repeat(1e6)}${']'.repeat(1e6)}`],
    ['nested deeply inside', `{"mediaType":${'{"a":'.repeat(1e5)}1${'}'.repeat(1e5)}}`],
  ])('%s', (_, json) => {
    expect(() => parse(json)).toThrow(expect.objectContaining({ code: 'ERR_BUNDLE_MALFORMED', exitCode: 2 }));
  });

  test('that is not UTF-8', () => {
    const bytes = Buffer.from(JSON.stringify(bundle()));
    bytes[bytes.indexOf('keyid') + 1] = 0xff;
    expect(() => parseBundle(bytes, 'signature')).toThrow('not JSON in UTF-8');
  });
});
