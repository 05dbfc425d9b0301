import { X509Certificate } from 'node:crypto';
import { sha384 } from '../core/bytes.ts';
import { decodeCbor } from '../core/cbor.ts';
import { ALG, parseSign1, verifySign1 } from '../core/cose.ts';
import { AtomaError, usageError } from '../core/errors.ts';
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

export interface SignatureCheck {
  /** True if the certificate's key signed exactly this PCR0. Whether to trust the certificate is another question. */
  valid: boolean;
  /** Why not. */
  reason?: string;
}

/**
 * Checks the signature over `pcr0` (hex): COSE_Sign1 with the algorithm of the key's curve, payload
 * {"register_index": 0, "register_value": [48 integers]}. Never throws for what the section holds.
 */
export function checkSignature({ certificate, sign1 }: EifSignature, pcr0: string): SignatureCheck {
  const no = (reason: string): SignatureCheck => ({ valid: false, reason });
  try {
    const form = 'any';
    const message = parseSign1(sign1, { what: 'image signature', maxBytes: sign1.length, tag: 'optional', form });
    const key = certificate.publicKey;
    const alg = ALGORITHMS[key.asymmetricKeyDetails?.namedCurve ?? ''];
    if (alg === undefined) return no('the certificate has no key on P-256, P-384 or P-521');
    if (message.protectedHeader.get(1) !== alg) return no("the algorithm is not the one of the key's curve");
    if (!verifySign1(message, alg, key)) return no("the signature is not the certificate's");
    const payload = decodeCbor(message.payload, { what: 'signed payload', maxBytes: 4096, form });
    if (!(payload instanceof Map) || payload.get('register_index') !== 0) return no('what is signed is not PCR0');
    const signed = byteArray(payload.get('register_value'), 'register_value').toString('hex');
    return signed === pcr0 ? { valid: true } : no(`the signed PCR0 is ${signed}`);
  } catch (error) {
    return no(error instanceof AtomaError ? error.message : 'the signature cannot be checked');
  }
}

/** COSE algorithm by OpenSSL's name of the curve. */
const ALGORITHMS: Record<string, number> = { prime256v1: ALG.ES256, secp384r1: ALG.ES384, secp521r1: ALG.ES512 };

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
