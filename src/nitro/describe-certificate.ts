import type { X509Certificate } from 'node:crypto';
import { certificateFields, type Element, elements } from './der.ts';

/** A signing certificate as nitro-cli describes it: SignCertificateInfo of src/utils/eif_reader.rs. */
export interface CliCertificate {
  /** By OpenSSL's long names, in the order of their bytes; of several values of a name the last. */
  IssuerName: Record<string, string>;
  Algorithm: string;
  /** "Nov 21 22:58:54 2026 GMT" */
  NotBefore: string;
  NotAfter: string;
  /** "30:64:..." */
  Signature: string;
}

/**
 * Reads the DER by itself: Node's `toLegacyObject`, which has the names too, ends the process at some damaged certificates.
 * Null for a certificate that is not the DER it should be.
 */
export function describeCertificate(certificate: X509Certificate): CliCertificate | null {
  const parts = certificateFields(certificate.raw);
  if (!parts) return null;
  const [algorithm] = elements(parts.algorithm);
  const oid = algorithm ? dotted(algorithm.content) : '';
  return {
    IssuerName: readName(parts.issuer),
    Algorithm: SIGNATURE_ALGORITHMS[oid] ?? oid,
    NotBefore: certificate.validFrom,
    NotAfter: certificate.validTo,
    Signature: [...parts.signature].map((byte) => byte.toString(16).toUpperCase().padStart(2, '0')).join(':'),
  };
}

/** Name (RFC 5280 section 4.1.2.4): a sequence of sets of pairs. */
function readName(name: Uint8Array): Record<string, string> {
  const pairs = elements(name).flatMap(({ content }) => elements(content));
  return Object.fromEntries(
    pairs.map(({ content }) => {
      const [type, value] = elements(content);
      const oid = type ? dotted(type.content) : '';
      const text = value ? readString(value) : null;
      return [NAMES[oid] ?? oid, text === null ? 'error' : rustDebug(text).replaceAll('"', '')];
    }),
  );
}

/** Of the string types that OpenSSL turns into UTF-8; up to a NUL, as its C string ends there. */
function readString({ tag, content }: Element): string | null {
  try {
    const text = STRINGS[tag]?.(Buffer.from(content));
    return text === undefined ? null : (text.split('\0')[0] ?? '');
  } catch {
    return null;
  }
}

const latin1 = (bytes: Buffer) => bytes.toString('latin1');
const utf16 = (bytes: Buffer) => Buffer.from(bytes).swap16().toString('utf16le');
/** By tag: UTF8String, NumericString, PrintableString, T61String, IA5String, VisibleString, BMPString. */
const STRINGS: Record<number, (bytes: Buffer) => string> = {
  12: (bytes) => new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes),
  18: latin1,
  19: latin1,
  20: latin1,
  22: latin1,
  26: latin1,
  30: utf16,
};

/** OpenSSL's long names of attributes; any other is shown as its number. */
const NAMES: Record<string, string> = {
  '2.5.4.3': 'commonName',
  '2.5.4.4': 'surname',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'countryName',
  '2.5.4.7': 'localityName',
  '2.5.4.8': 'stateOrProvinceName',
  '2.5.4.9': 'streetAddress',
  '2.5.4.10': 'organizationName',
  '2.5.4.11': 'organizationalUnitName',
  '2.5.4.12': 'title',
  '2.5.4.13': 'description',
  '2.5.4.15': 'businessCategory',
  '2.5.4.17': 'postalCode',
  '2.5.4.41': 'name',
  '2.5.4.42': 'givenName',
  '2.5.4.43': 'initials',
  '2.5.4.44': 'generationQualifier',
  '2.5.4.46': 'dnQualifier',
  '2.5.4.65': 'pseudonym',
  '2.5.4.97': 'organizationIdentifier',
  '0.9.2342.19200300.100.1.1': 'userId',
  '0.9.2342.19200300.100.1.25': 'domainComponent',
  '1.2.840.113549.1.9.1': 'emailAddress',
  '1.3.6.1.4.1.311.60.2.1.1': 'jurisdictionLocalityName',
  '1.3.6.1.4.1.311.60.2.1.2': 'jurisdictionStateOrProvinceName',
  '1.3.6.1.4.1.311.60.2.1.3': 'jurisdictionCountryName',
};

/** OpenSSL's long names of signature algorithms; any other is shown as its number. */
const SIGNATURE_ALGORITHMS: Record<string, string> = {
  '1.2.840.10045.4.1': 'ecdsa-with-SHA1',
  '1.2.840.10045.4.3.1': 'ecdsa-with-SHA224',
  '1.2.840.10045.4.3.2': 'ecdsa-with-SHA256',
  '1.2.840.10045.4.3.3': 'ecdsa-with-SHA384',
  '1.2.840.10045.4.3.4': 'ecdsa-with-SHA512',
  '1.2.840.113549.1.1.5': 'sha1WithRSAEncryption',
  '1.2.840.113549.1.1.10': 'rsassaPss',
  '1.2.840.113549.1.1.11': 'sha256WithRSAEncryption',
  '1.2.840.113549.1.1.12': 'sha384WithRSAEncryption',
  '1.2.840.113549.1.1.13': 'sha512WithRSAEncryption',
  '1.3.101.112': 'ED25519',
  '1.3.101.113': 'ED448',
};

/** What Rust's `{:?}` makes of a string, without the quotes around it. */
const rustDebug = (text: string): string =>
  text.replace(/["\\]|(?! )[\p{C}\p{Z}]|\p{Grapheme_Extend}/gu, (sign) => {
    const short = RUST_ESCAPES[sign];
    return short ?? `\\u{${sign.codePointAt(0)?.toString(16)}}`;
  });
const RUST_ESCAPES: Record<string, string> = {
  '"': '\\"',
  '\\': '\\\\',
  '\0': '\\0',
  '\t': '\\t',
  '\r': '\\r',
  '\n': '\\n',
};

function dotted(bytes: Uint8Array): string {
  const arcs: bigint[] = [];
  let arc = 0n;
  for (const byte of bytes) {
    arc = (arc << 7n) | BigInt(byte & 0x7f);
    if (byte & 0x80) continue;
    arcs.push(arc);
    arc = 0n;
  }
  const [first = 0n, ...rest] = arcs;
  const top = first < 80n ? first / 40n : 2n;
  return [top, first - 40n * top, ...rest].join('.');
}
