import { type KeyObject, randomBytes, sign } from 'node:crypto';
import { KEY_USAGE, OID } from './certificate.ts';
import { der, encodeOid, TAG } from './der.ts';

/**
 * The critical extension that every simulated leaf carries, under the arc for self-assigned UUIDs (ITU-T X.667: 2.25 and
 * the UUID as a number, here 6146eae3-f62e-4cf0-b2cc-fa592ab0b78f). Nothing that does not know it may accept the leaf.
 */
export const SIMULATED_OID = `2.25.${BigInt('0x6146eae3f62e4cf0b2ccfa592ab0b78f')}`;
/** Its value, a UTF8String that a person who dumps the certificate reads. */
export const SIMULATED_VALUE = der(TAG.utf8, Buffer.from('SIMULATED TEE: no hardware protects this enclave'));

const ECDSA_SHA384 = der(TAG.sequence, der(TAG.oid, encodeOid('1.2.840.10045.4.3.3')));

export interface CertificateRequest {
  /** Common names; the organisation always says what this is. */
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  notBefore: Date;
  notAfter: Date;
  ca: boolean;
  simulated: boolean;
}

/** Makes an ECDSA-with-SHA384 X.509 certificate (RFC 5280) for the simulated TEE. Returns DER. */
export function makeCertificate(request: CertificateRequest, issuerKey: KeyObject): Buffer {
  const usage = request.ca ? KEY_USAGE.keyCertSign : KEY_USAGE.digitalSignature;
  const extensions = [
    extension(OID.basicConstraints, der(TAG.sequence, ...(request.ca ? [der(TAG.boolean, Buffer.from([0xff]))] : []))),
    extension(OID.keyUsage, keyUsage(usage)),
    ...(request.simulated ? [extension(SIMULATED_OID, SIMULATED_VALUE)] : []),
  ];
  const tbs = der(
    TAG.sequence,
    der(0xa0, der(TAG.integer, Buffer.from([2]))),
    // 16 random bytes, positive and in shortest form.
    der(TAG.integer, Buffer.from([0x40]), randomBytes(15)),
    ECDSA_SHA384,
    name(request.issuer),
    der(TAG.sequence, time(request.notBefore), time(request.notAfter)),
    name(request.subject),
    request.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, der(TAG.sequence, ...extensions)),
  );
  const signature = sign('sha384', tbs, issuerKey);
  return der(TAG.sequence, tbs, ECDSA_SHA384, der(TAG.bitString, Buffer.from([0]), signature));
}

const extension = (oid: string, value: Buffer): Buffer =>
  der(TAG.sequence, der(TAG.oid, encodeOid(oid)), der(TAG.boolean, Buffer.from([0xff])), der(TAG.octetString, value));

/** One bit of the first byte: a named bit list ends with its last one (X.690 section 11.2.2). */
function keyUsage(bits: number): Buffer {
  const byte = bits >> 8;
  return der(TAG.bitString, Buffer.from([Math.log2(byte & -byte), byte]));
}

const name = (commonName: string): Buffer =>
  der(TAG.sequence, attribute('2.5.4.10', 'SIMULATED, atoma-tee'), attribute('2.5.4.3', commonName));

const attribute = (oid: string, value: string): Buffer =>
  der(TAG.set, der(TAG.sequence, der(TAG.oid, encodeOid(oid)), der(TAG.utf8, Buffer.from(value))));

/** RFC 5280 section 4.1.2.5: UTCTime through 2049. */
function time(date: Date): Buffer {
  const digits = date
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replace(/[-:T]/g, '');
  return date.getUTCFullYear() < 2050
    ? der(TAG.utcTime, Buffer.from(digits.slice(2)))
    : der(TAG.generalizedTime, Buffer.from(digits));
}
