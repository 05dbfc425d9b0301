import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';

// The ASN.1 library takes long to load: import this module, and those that build on it, with `await import()` where
// evidence is at hand.

/** Object identifiers of RFC 5280 extensions that the verifier understands. */
export const OID = { basicConstraints: '2.5.29.19', keyUsage: '2.5.29.15' } as const;

/** Bits of KeyUsage (RFC 5280 section 4.2.1.3). */
export const KEY_USAGE = {
  digitalSignature: x509.KeyUsageFlags.digitalSignature,
  keyCertSign: x509.KeyUsageFlags.keyCertSign,
  cRLSign: x509.KeyUsageFlags.cRLSign,
} as const;

export interface Extension {
  critical: boolean;
  value: Uint8Array;
}

/** An X.509 certificate (RFC 5280), parsed but not verified. */
export interface Certificate {
  der: Buffer;
  /** "sha256:" and the hex SHA-256 of the DER. */
  fingerprint: string;
  /** DER of the names: chains compare these bytes and never a name's text. */
  issuer: Uint8Array;
  subject: Uint8Array;
  /** Content of the INTEGER, hex: what CRLs name. Never negative. */
  serial: string;
  notBefore: Date;
  notAfter: Date;
  extensions: Map<string, Extension>;
  ca: boolean;
  pathLength: number | undefined;
  /** Undefined where the extension is absent. */
  keyUsage: number | undefined;
  /** Curve or size of the public key. */
  key: KeyKind;
  x509: X509Certificate;
}

/** The kinds of key that vendors' chains have; anything else is "other". */
export type KeyKind = 'P-256' | 'P-384' | 'RSA-4096' | 'other';

export const fingerprint = (certificate: Uint8Array): string => `sha256:${hex(sha256(certificate))}`;

const MOST_BYTES = 1 << 14;
const LIMITS = { berOptions: { maxDepth: 16, maxNodes: 1000, maxContentLength: MOST_BYTES } };
/** All nine bits that RFC 5280 names. */
const ALL_USAGES = 0x1ff;
/** RFC 5280 section 4.1.2.2: at most 20 octets; one more for the sign. */
const SERIAL_BYTES = 21;

/**
 * Parses one DER certificate; PEM text, BER and trailing bytes are refused. `what` names it in errors.
 * Throws `ERR_CERTIFICATE_MALFORMED` (exit 2).
 */
export function parseCertificate(bytes: Uint8Array, what: string): Certificate {
  const der = Buffer.from(bytes);
  const name = fingerprint(der);
  const known = remembered.get(name);
  if (known !== undefined) return known;
  try {
    return remember(name, read(der));
  } catch (cause) {
    const why = cause instanceof Malformed ? cause.message : 'not an X.509 certificate in DER';
    throw usageError('ERR_CERTIFICATE_MALFORMED', `${what}: ${why}`, { cause });
  }
}

/** Becomes `ERR_CERTIFICATE_MALFORMED` in parseCertificate; CRLs share it. */
export class Malformed extends Error {}

/**
 * The library takes longer to read a certificate than OpenSSL to check its signature, and issuers come again and again. The
 * same bytes give the same certificate, so whoever fills this up gains nothing; nobody may change what comes out of it.
 */
const remembered = new Map<string, Certificate>();
const MOST_REMEMBERED = 256;

function remember(name: string, certificate: Certificate): Certificate {
  const [oldest] = remembered.keys();
  if (remembered.size >= MOST_REMEMBERED && oldest !== undefined) remembered.delete(oldest);
  remembered.set(name, certificate);
  return certificate;
}

const signers = new WeakMap<Certificate, WeakMap<Certificate, boolean>>();

/**
 * True where `issuer`'s key signed `certificate`. The same two certificates give the same answer for ever, so it is found out
 * once for each pair: every chain of a vendor's has the same authorities in it.
 */
export function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  const known = signers.get(certificate) ?? new WeakMap<Certificate, boolean>();
  signers.set(certificate, known);
  const result = known.get(issuer) ?? certificate.x509.verify(issuer.x509.publicKey);
  known.set(issuer, result);
  return result;
}

/** The library's certificate, opened: its own view does not show the version, and parses extensions that are not for us. */
class Parsed extends x509.X509Certificate {
  get fields() {
    return this.asn.tbsCertificate;
  }

  /** What was understood, as DER. */
  encode(): Buffer {
    return Buffer.from(new x509.X509Certificate(this.asn).rawData);
  }
}

function read(der: Buffer): Certificate {
  if (der.length > MOST_BYTES) throw new Malformed(`expected at most ${MOST_BYTES} bytes, found ${der.length}`);
  const parsed = new Parsed(der, LIMITS);
  // The library reads BER and forgives much. What it understood, written as DER, has to be the very bytes that it was
  // given: then nothing was skipped, bent or left over, and each part below is a part of those bytes.
  if (!parsed.encode().equals(der)) throw new Malformed('not DER, or bytes left over');
  const { version, extensions: list = [] } = parsed.fields;
  if (version !== 2) throw new Malformed('expected a version 3 certificate');
  const extensions = new Map<string, Extension>();
  for (const { extnID, critical, extnValue } of list) {
    // Identifiers that the library cannot write out in dots have other signs in them.
    if (!/^\d+(\.\d+)+$/.test(extnID)) throw new Malformed('an object identifier is malformed or too large');
    if (extensions.has(extnID)) throw new Malformed(`extension ${extnID} appears twice`);
    extensions.set(extnID, { critical, value: Buffer.from(extnValue.buffer) });
  }
  return {
    der,
    fingerprint: fingerprint(der),
    issuer: Buffer.from(parsed.issuerName.toArrayBuffer()),
    subject: Buffer.from(parsed.subjectName.toArrayBuffer()),
    serial: readSerial(Buffer.from(parsed.fields.serialNumber)),
    notBefore: wholeSecond(parsed.notBefore),
    notAfter: wholeSecond(parsed.notAfter),
    extensions,
    ...readConstraints(extensions.get(OID.basicConstraints)),
    keyUsage: readKeyUsage(extensions.get(OID.keyUsage)),
    ...openX509(der),
  };
}

/** Also for the entries of CRLs: the two must agree on what a serial number is. */
export function readSerial(content: Buffer): string {
  const [first = 0x80, second = 0x80] = content;
  if (content.length === 0 || content.length > SERIAL_BYTES || first >= 0x80 || (first === 0 && second < 0x80)) {
    throw new Malformed('a serial number is negative, too long or not in its shortest form');
  }
  return hex(content);
}

const KEYS: Record<string, KeyKind> = { prime256v1: 'P-256', secp384r1: 'P-384', 4096: 'RSA-4096' };

function openX509(der: Buffer): { key: KeyKind; x509: X509Certificate } {
  const certificate = new X509Certificate(der);
  // Both parsers must have looked at the same bytes.
  if (!certificate.raw.equals(der)) throw new Malformed('OpenSSL reads something else');
  const { asymmetricKeyType: type, asymmetricKeyDetails: { namedCurve, modulusLength } = {} } = certificate.publicKey;
  const name = type === 'ec' ? namedCurve : type === 'rsa' ? modulusLength : undefined;
  return { key: KEYS[name ?? ''] ?? 'other', x509: certificate };
}

function wholeSecond(time: Date): Date {
  if (time.getTime() % 1000 !== 0) throw new Malformed('a time is not in the form of RFC 5280');
  return time;
}

function readConstraints(extension: Extension | undefined): { ca: boolean; pathLength: number | undefined } {
  if (extension === undefined) return { ca: false, pathLength: undefined };
  const raw = new x509.Extension(OID.basicConstraints, extension.critical, extension.value).rawData;
  const { ca, pathLength } = new x509.BasicConstraintsExtension(raw, LIMITS);
  const again = new x509.BasicConstraintsExtension(ca, pathLength, extension.critical);
  const { pathLength: limit = 0 } = again;
  if (!same(again, extension) || !(limit >= 0 && limit < 128)) throw new Malformed('bad basic constraints');
  return { ca, pathLength };
}

/** AMD's intermediates do not cut trailing zero bits as DER wants; nothing hangs on them, so only the unused ones must be 0. */
function readKeyUsage(extension: Extension | undefined): number | undefined {
  if (extension === undefined) return undefined;
  const raw = new x509.Extension(OID.keyUsage, extension.critical, extension.value).rawData;
  const { usages } = new x509.KeyUsagesExtension(raw, LIMITS);
  const [tag, length, unused = 8, first = 0, second = 0] = extension.value;
  const { length: size } = extension.value;
  const last = size === 5 ? second : first;
  const wellFormed = tag === 3 && length === size - 2 && (size === 4 || size === 5) && unused < 8;
  if (!wellFormed || (last & ((1 << unused) - 1)) !== 0 || !(usages > 0 && usages <= ALL_USAGES)) {
    throw new Malformed('bad key usage');
  }
  return usages;
}

const same = ({ value }: x509.Extension, extension: Extension): boolean => Buffer.from(value).equals(extension.value);
