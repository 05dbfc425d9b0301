import { constants, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { der, encodeOid, TAG } from './der.ts';

/** Extensions as raw DER, so that tests can write what no honest library would. */
export interface RawCertificate {
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  extensions: Buffer[];
  times?: [Buffer, Buffer];
  version?: Buffer;
  /** Content of the INTEGER. */
  serial?: Buffer;
}

const oid = (dotted: string) => der(TAG.oid, encodeOid(dotted));
const ECDSA_SHA384 = der(TAG.sequence, oid('1.2.840.10045.4.3.3'));
const SHA384 = der(TAG.sequence, oid('2.16.840.1.101.3.4.2.2'), Buffer.from([5, 0]));
/** RSASSA-PSS (RFC 4055) with SHA-384, MGF1 of the same, 48 bytes of salt: as AMD signs. */
const PSS_SHA384 = der(
  TAG.sequence,
  oid('1.2.840.113549.1.1.10'),
  der(
    TAG.sequence,
    der(0xa0, SHA384),
    der(0xa1, der(TAG.sequence, oid('1.2.840.113549.1.1.8'), SHA384)),
    der(0xa2, der(TAG.integer, Buffer.from([48]))),
  ),
);
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

export const newKey = (namedCurve = 'P-384') => generateKeyPairSync('ec', { namedCurve });

/** Signs DER as certificates and revocation lists are signed. */
export function signTbs(tbs: Buffer, issuerKey: KeyObject): Buffer {
  const rsa = issuerKey.asymmetricKeyType === 'rsa';
  const options = rsa ? { key: issuerKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 } : issuerKey;
  const algorithm = rsa ? PSS_SHA384 : ECDSA_SHA384;
  return der(TAG.sequence, tbs, algorithm, der(TAG.bitString, Buffer.from([0]), sign('sha384', tbs, options)));
}

/** Signs whatever it is given. */
export function rawCertificate(certificate: RawCertificate, issuerKey: KeyObject): Buffer {
  const [begin, end] = certificate.times ?? [utc('200101000000Z'), utc('491231235959Z')];
  const tbs = der(
    TAG.sequence,
    certificate.version ?? der(0xa0, der(TAG.integer, Buffer.from([2]))),
    der(TAG.integer, certificate.serial ?? Buffer.from([1])),
    issuerKey.asymmetricKeyType === 'rsa' ? PSS_SHA384 : ECDSA_SHA384,
    name(certificate.issuer),
    der(TAG.sequence, begin, end),
    name(certificate.subject),
    certificate.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, der(TAG.sequence, ...certificate.extensions)),
  );
  return signTbs(tbs, issuerKey);
}

export interface RawCrl {
  issuer: string;
  revoked?: Buffer[];
  times?: Buffer[];
  extensions?: Buffer[];
  version?: Buffer;
}

/** A revocation list, likewise. */
export function rawCrl(crl: RawCrl, issuerKey: KeyObject): Buffer {
  const revoked = crl.revoked?.map((serial) => der(TAG.sequence, der(TAG.integer, serial), utc('250101000000Z')));
  const tbs = der(
    TAG.sequence,
    crl.version ?? der(TAG.integer, Buffer.from([1])),
    issuerKey.asymmetricKeyType === 'rsa' ? PSS_SHA384 : ECDSA_SHA384,
    name(crl.issuer),
    ...(crl.times ?? [utc('260101000000Z'), utc('270101000000Z')]),
    ...(revoked ? [der(TAG.sequence, ...revoked)] : []),
    ...(crl.extensions ? [der(0xa0, der(TAG.sequence, ...crl.extensions))] : []),
  );
  return signTbs(tbs, issuerKey);
}
