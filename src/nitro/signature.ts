import { X509Certificate } from 'node:crypto';
import { sha384 } from '../core/bytes.ts';
import { decodeCbor } from '../core/cbor.ts';
import { usageError } from '../core/errors.ts';
import { register } from './digests.ts';

/** The signature section, taken apart but not verified. */
export interface EifSignature {
  /** The first certificate of the section's PEM text: the one that PCR8 measures. */
  certificate: X509Certificate;
  /** Encoded COSE_Sign1 over PCR0. */
  sign1: Buffer;
  /** Hex. */
  pcr8: string;
}

/**
 * Reads the signature section: a CBOR array of one map {"signing_certificate": PEM text, "signature": COSE_Sign1}, both
 * as arrays of small integers, which is how serde writes Vec<u8>. PCR8 measures the DER of the certificate.
 * Throws `ERR_EIF_SIGNATURE` or `ERR_CBOR_MALFORMED` (exit 2).
 */
export function parseSignatureSection(bytes: Uint8Array): EifSignature {
  const what = 'signature section';
  const list = decodeCbor(bytes, { what, maxBytes: bytes.length, form: 'any' });
  if (!Array.isArray(list) || list.length !== 1) throw bad('expected an array of one signature');
  const entry: unknown = list[0];
  if (!(entry instanceof Map) || entry.size !== 2) throw bad('expected a map of signing_certificate and signature');
  const pem = byteArray(entry.get('signing_certificate'), 'signing_certificate');
  const certificate = parseCertificate(pem);
  return {
    certificate,
    sign1: byteArray(entry.get('signature'), 'signature'),
    pcr8: register(sha384(certificate.raw)),
  };
}

function parseCertificate(pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw bad('signing_certificate is not a certificate in PEM');
  }
}

function byteArray(value: unknown, key: string): Buffer {
  const isByte = (n: unknown) => typeof n === 'number' && Number.isInteger(n) && n >= 0 && n <= 255;
  if (!Array.isArray(value) || !value.every(isByte)) throw bad(`expected ${key} to be an array of bytes`);
  return Buffer.from(value as number[]);
}

const bad = (why: string) => usageError('ERR_EIF_SIGNATURE', `malformed signature section: ${why}`);
