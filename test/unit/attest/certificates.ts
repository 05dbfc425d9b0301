import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { der, encodeOid, TAG } from './der.ts';

/** Extensions as raw DER, so that tests can write what no honest library would. */
export interface RawCertificate {
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  extensions: Buffer[];
  times?: [Buffer, Buffer];
  version?: Buffer;
}

const ECDSA_SHA384 = der(TAG.sequence, der(TAG.oid, encodeOid('1.2.840.10045.4.3.3')));
const name = (text: string) =>
  der(
    TAG.sequence,
    der(TAG.set, der(TAG.sequence, der(TAG.oid, encodeOid('2.5.4.3')), der(TAG.utf8, Buffer.from(text)))),
  );
export const utc = (text: string) => der(TAG.utcTime, Buffer.from(text));

/** One extension; `critical` is the raw content of its BOOLEAN, or none. */
export const extension = (oid: string | Buffer, value: Buffer, critical?: number): Buffer =>
  der(
    TAG.sequence,
    der(TAG.oid, typeof oid === 'string' ? encodeOid(oid) : oid),
    ...(critical === undefined ? [] : [der(TAG.boolean, Buffer.from([critical]))]),
    der(TAG.octetString, value),
  );

export const basicConstraints = (ca: boolean, pathLength?: number): Buffer =>
  extension(
    '2.5.29.19',
    der(
      TAG.sequence,
      ...(ca ? [der(TAG.boolean, Buffer.from([0xff]))] : []),
      ...(pathLength === undefined ? [] : [der(TAG.integer, Buffer.from([pathLength]))]),
    ),
    0xff,
  );

/** `bits` is the bit string's content: unused bits, then the bits. */
export const keyUsage = (...bits: number[]): Buffer =>
  extension('2.5.29.15', der(TAG.bitString, Buffer.from(bits)), 0xff);
export const SIGN_CERTIFICATES = keyUsage(2, 0x04);
export const SIGN_DATA = keyUsage(7, 0x80);

export const newKey = () => generateKeyPairSync('ec', { namedCurve: 'P-384' });

/** Signs whatever it is given. */
export function rawCertificate(certificate: RawCertificate, issuerKey: KeyObject): Buffer {
  const [begin, end] = certificate.times ?? [utc('200101000000Z'), utc('491231235959Z')];
  const tbs = der(
    TAG.sequence,
    certificate.version ?? der(0xa0, der(TAG.integer, Buffer.from([2]))),
    der(TAG.integer, Buffer.from([1])),
    ECDSA_SHA384,
    name(certificate.issuer),
    der(TAG.sequence, begin, end),
    name(certificate.subject),
    certificate.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, der(TAG.sequence, ...certificate.extensions)),
  );
  return der(TAG.sequence, tbs, ECDSA_SHA384, der(TAG.bitString, Buffer.from([0]), sign('sha384', tbs, issuerKey)));
}
