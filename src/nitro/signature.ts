import type { X509Certificate } from 'node:crypto';
import { sha384 } from '../core/bytes.ts';
import { decodeCbor, encodeCbor } from '../core/cbor.ts';
import { ALG, parseSign1, verifySign1 } from '../core/cose.ts';
import { AtomaError, negativeError, usageError } from '../core/errors.ts';
import { register } from './digests.ts';
import { firstCertificate, NotACertificate } from './pem-certificate.ts';

/** The signature section, taken apart but not verified. */
export interface EifSignature {
  /** The first certificate of the section's PEM text: the one that PCR8 measures. */
  certificate: X509Certificate;
  /** The section's PEM text, verbatim. */
  pem: Buffer;
  /** Encoded COSE_Sign1 over PCR0. */
  sign1: Buffer;
  /** Hex. */
  pcr8: string;
}

/**
 * Reads the signature section: a CBOR array of one map {"signing_certificate": PEM text, "signature": COSE_Sign1}, both
 * as arrays of small integers, which is how serde writes Vec<u8>. PCR8 measures the DER of the certificate.
 * Throws `ERR_EIF_SIGNATURE` (exit 2).
 */
export function parseSignatureSection(bytes: Uint8Array): EifSignature {
  const list = decode(bytes);
  if (!Array.isArray(list) || list.length !== 1) throw bad('expected an array of one signature');
  const entry: unknown = list[0];
  if (!(entry instanceof Map) || entry.size !== 2) throw bad('expected a map of signing_certificate and signature');
  const pem = byteArray(entry.get('signing_certificate'), 'signing_certificate');
  const certificate = parseCertificate(pem);
  return {
    certificate,
    pem,
    sign1: byteArray(entry.get('signature'), 'signature'),
    pcr8: certificateRegister(certificate),
  };
}

/** The bytes of a signature section, in the order and the forms of serde_cbor: the reverse of `parseSignatureSection`. */
export function encodeSignatureSection(pem: Uint8Array, sign1: Uint8Array): Buffer {
  // An array of one and a map of two, whose keys are not in the deterministic order.
  const parts = ['signing_certificate', [...pem], 'signature', [...sign1]].map(encodeCbor);
  return Buffer.concat([Buffer.from([0x81, 0xa2]), ...parts]);
}

/** PCR8 of images signed with this certificate, hex. */
export const certificateRegister = (certificate: X509Certificate): string => register(sha384(certificate.raw));

/** What is signed: {"register_index": 0, "register_value": PCR0 as integers}. `pcr0` is hex. */
export const pcr0Payload = (pcr0: string): Uint8Array =>
  encodeCbor({ register_index: 0, register_value: [...Buffer.from(pcr0, 'hex')] });

/** The COSE algorithm of each curve that images are signed on, by OpenSSL's name of the curve. */
export const ALGORITHMS: Record<string, number> = { prime256v1: ALG.ES256, secp384r1: ALG.ES384, secp521r1: ALG.ES512 };
const CRITICAL = 2;

export interface SignatureCheck {
  /** True if the certificate's key signed exactly this PCR0. Whether to trust the certificate is another question. */
  valid: boolean;
  /** Why not. */
  reason?: string;
}

/**
 * Checks the signature over `pcr0` (hex): COSE_Sign1 with the algorithm of the key's curve, payload `pcr0Payload`. Never
 * throws for what the section holds. The certificate's validity is not looked at: see `validityProblem`.
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
    if (message.protectedHeader.has(CRITICAL)) return no('it has header parameters that are critical and unknown');
    if (!verifySign1(message, alg, key)) return no("the signature is not the certificate's");
    if (Buffer.from(pcr0Payload(pcr0)).equals(message.payload)) return { valid: true };
    const payload = decodeCbor(message.payload, { what: 'signed payload', maxBytes: 4096, form });
    if (!(payload instanceof Map) || payload.get('register_index') !== 0) return no('what is signed is not PCR0');
    const signed = byteArray(payload.get('register_value'), 'register_value').toString('hex');
    return no(
      signed === pcr0 ? 'PCR0 is signed in another form than readers compare with' : `the signed PCR0 is ${signed}`,
    );
  } catch (error) {
    return no(error instanceof AtomaError ? error.message : 'the signature cannot be checked');
  }
}

/** Throws `ERR_EIF_UNVERIFIED` (exit 3) where a signature is not the certificate's over this PCR0. */
export function requireSignature(signature: EifSignature, pcr0: string): void {
  const { valid, reason } = checkSignature(signature, pcr0);
  if (!valid) throw negativeError('ERR_EIF_UNVERIFIED', `the image's signature does not hold: ${reason}`);
}

function decode(bytes: Uint8Array): unknown {
  try {
    return decodeCbor(bytes, { what: 'signature section', maxBytes: bytes.length, form: 'any' });
  } catch (cause) {
    if (!(cause instanceof AtomaError)) throw cause;
    throw usageError('ERR_EIF_SIGNATURE', cause.message, { cause });
  }
}

function parseCertificate(pem: Buffer): X509Certificate {
  try {
    return firstCertificate(pem);
  } catch (error) {
    if (!(error instanceof NotACertificate)) throw error;
    throw bad(`signing_certificate is not a certificate in PEM: ${error.message}`);
  }
}

function byteArray(value: unknown, key: string): Buffer {
  const isByte = (n: unknown) => typeof n === 'number' && Number.isInteger(n) && n >= 0 && n <= 255;
  if (!Array.isArray(value) || !value.every(isByte)) throw bad(`expected ${key} to be an array of bytes`);
  return Buffer.from(value as number[]);
}

const bad = (why: string) => usageError('ERR_EIF_SIGNATURE', `malformed signature section: ${why}`);
