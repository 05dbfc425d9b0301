import { X509Certificate } from 'node:crypto';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { DerReader, decodeOid, encodeOid, TAG } from './der.ts';

/** Object identifiers of RFC 5280 extensions that the verifier understands. */
export const OID = { basicConstraints: '2.5.29.19', keyUsage: '2.5.29.15' } as const;

/** Bits of KeyUsage (RFC 5280 section 4.2.1.3), as (first byte << 8 | second byte). */
export const KEY_USAGE = { digitalSignature: 0x8000, keyCertSign: 0x0400 } as const;

export interface Extension {
  critical: boolean;
  value: Uint8Array;
}

/** An X.509 certificate (RFC 5280), parsed but not verified. */
export interface Certificate {
  der: Buffer;
  /** "sha256:" and the hex SHA-256 of the DER. */
  fingerprint: string;
  /** DER of the names: chains compare these bytes and never rebuild a name. */
  issuer: Uint8Array;
  subject: Uint8Array;
  notBefore: Date;
  notAfter: Date;
  extensions: Map<string, Extension>;
  ca: boolean;
  pathLength: number | undefined;
  /** Undefined where the extension is absent. */
  keyUsage: number | undefined;
  x509: X509Certificate;
}

export const fingerprint = (certificate: Uint8Array): string => `sha256:${hex(sha256(certificate))}`;

/**
 * Parses one DER certificate; PEM text, BER and trailing bytes are refused. `what` names it in errors.
 * Throws `ERR_CERTIFICATE_MALFORMED` (exit 2).
 */
export function parseCertificate(bytes: Uint8Array, what: string): Certificate {
  const outer = new DerReader(bytes, what);
  const certificate = outer.enter(TAG.sequence);
  outer.end();
  const tbs = certificate.enter(TAG.sequence);
  certificate.next(TAG.sequence);
  certificate.next(TAG.bitString);
  certificate.end();

  if (tbs.peek() !== 0xa0) throw tbs.fail('expected a version 3 certificate');
  if (hex(tbs.next(0xa0).content) !== '020102') throw tbs.fail('expected a version 3 certificate');
  tbs.next(TAG.integer);
  tbs.next(TAG.sequence);
  const issuer = tbs.next(TAG.sequence).bytes;
  const validity = tbs.enter(TAG.sequence);
  const notBefore = readTime(validity);
  const notAfter = readTime(validity);
  validity.end();
  const subject = tbs.next(TAG.sequence).bytes;
  tbs.next(TAG.sequence);
  const extensions = tbs.peek() === 0xa3 ? readExtensions(tbs.enter(0xa3)) : new Map<string, Extension>();
  tbs.end();

  return {
    der: Buffer.from(bytes),
    fingerprint: fingerprint(bytes),
    issuer,
    subject,
    notBefore,
    notAfter,
    extensions,
    ...readConstraints(extensions.get(OID.basicConstraints), what),
    keyUsage: readKeyUsage(extensions.get(OID.keyUsage), what),
    x509: openX509(bytes, what),
  };
}

function openX509(bytes: Uint8Array, what: string): X509Certificate {
  try {
    const x509 = new X509Certificate(bytes);
    // Both parsers must have looked at the same bytes.
    if (x509.raw.equals(bytes) && x509.publicKey) return x509;
  } catch {}
  throw usageError('ERR_CERTIFICATE_MALFORMED', `${what}: not an X.509 certificate that OpenSSL reads`);
}

function readTime(reader: DerReader): Date {
  const short = reader.peek() === TAG.utcTime;
  const text = Buffer.from(reader.next(short ? TAG.utcTime : TAG.generalizedTime).content).toString('latin1');
  const parts = (short ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/).exec(
    text,
  );
  if (parts === null) throw reader.fail('a time is not in the form of RFC 5280');
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1).map(Number);
  const full = short ? year + (year < 50 ? 2000 : 1900) : year;
  const time = new Date(Date.UTC(full, month - 1, day, hour, minute, second));
  if (time.getUTCMonth() !== month - 1 || time.getUTCDate() !== day) throw reader.fail('a time is not a real one');
  return time;
}

function readExtensions(reader: DerReader): Map<string, Extension> {
  const list = reader.enter(TAG.sequence);
  reader.end();
  const extensions = new Map<string, Extension>();
  while (list.peek() !== undefined) {
    const item = list.enter(TAG.sequence);
    const id = item.next(TAG.oid).content;
    const oid = decodeOid(id);
    if (!encodeOid(oid).equals(id)) throw list.fail('an object identifier is malformed');
    if (extensions.has(oid)) throw list.fail(`extension ${oid} appears twice`);
    const critical = readBoolean(item);
    extensions.set(oid, { critical, value: item.next(TAG.octetString).content });
    item.end();
  }
  return extensions;
}

/** BOOLEAN DEFAULT FALSE. A true that is not 0xff is not DER, and another parser would call it true. */
function readBoolean(reader: DerReader): boolean {
  if (reader.peek() !== TAG.boolean) return false;
  const content = hex(reader.next(TAG.boolean).content);
  if (content !== 'ff' && content !== '00') throw reader.fail('a boolean is not DER');
  return content === 'ff';
}

function readConstraints(
  extension: Extension | undefined,
  what: string,
): { ca: boolean; pathLength: number | undefined } {
  if (extension === undefined) return { ca: false, pathLength: undefined };
  const outer = new DerReader(extension.value, `${what}: basic constraints`);
  const inner = outer.enter(TAG.sequence);
  outer.end();
  const ca = readBoolean(inner);
  const limit = inner.peek() === TAG.integer ? inner.next(TAG.integer).content : undefined;
  inner.end();
  if (limit !== undefined && (limit.length !== 1 || (limit[0] ?? 0) > 0x7f)) throw inner.fail('bad path length');
  return { ca, pathLength: limit?.[0] };
}

function readKeyUsage(extension: Extension | undefined, what: string): number | undefined {
  if (extension === undefined) return undefined;
  const outer = new DerReader(extension.value, `${what}: key usage`);
  const [unused = 0, first = 0, second = 0, ...rest] = outer.next(TAG.bitString).content;
  outer.end();
  if (unused > 7 || rest.length > 0) throw outer.fail('bad bit string');
  return (first << 8) | second;
}
