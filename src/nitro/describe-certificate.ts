import type { X509Certificate } from 'node:crypto';

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

/** Null for a certificate that is not the DER it should be. */
export function describeCertificate(certificate: X509Certificate): CliCertificate | null {
  const outer = algorithmAndSignature(certificate.raw);
  if (!outer) return null;
  return {
    IssuerName: issuerName(certificate),
    Algorithm: SIGNATURE_ALGORITHMS[outer.oid] ?? outer.oid,
    NotBefore: certificate.validFrom,
    NotAfter: certificate.validTo,
    Signature: [...outer.signature].map((byte) => byte.toString(16).toUpperCase().padStart(2, '0')).join(':'),
  };
}

function issuerName(certificate: X509Certificate): Record<string, string> {
  const issuer = (certificate.toLegacyObject().issuer ?? {}) as unknown as Record<string, string | string[]>;
  return Object.fromEntries(
    Object.entries(issuer).map(([name, value]) => [
      LONG_NAMES[name] ?? name,
      rustDebug(Array.isArray(value) ? (value.at(-1) ?? '') : value).replaceAll('"', ''),
    ]),
  );
}

/** Node has OpenSSL's short names of attributes; these are the long ones (its objects.txt), where they differ. */
const LONG_NAMES: Record<string, string> = {
  CN: 'commonName',
  SN: 'surname',
  C: 'countryName',
  L: 'localityName',
  ST: 'stateOrProvinceName',
  street: 'streetAddress',
  O: 'organizationName',
  OU: 'organizationalUnitName',
  GN: 'givenName',
  UID: 'userId',
  DC: 'domainComponent',
  jurisdictionL: 'jurisdictionLocalityName',
  jurisdictionST: 'jurisdictionStateOrProvinceName',
  jurisdictionC: 'jurisdictionCountryName',
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

/** The last two parts of Certificate (RFC 5280 section 4.1). */
function algorithmAndSignature(der: Uint8Array): { oid: string; signature: Uint8Array } | null {
  const certificate = element(der, 0x30);
  const tbs = certificate && element(certificate.content, 0x30);
  const algorithm = tbs && element(tbs.rest, 0x30);
  const oid = algorithm && element(algorithm.content, 0x06);
  const bits = algorithm && element(algorithm.rest, 0x03);
  return oid && bits ? { oid: dotted(oid.content), signature: bits.content.subarray(1) } : null;
}

/** The first element of DER bytes, if it has this tag. */
function element(der: Uint8Array, tag: number): { content: Uint8Array; rest: Uint8Array } | null {
  const [found, first = 0xff] = der;
  if (found !== tag) return null;
  const extra = first < 0x80 ? 0 : first & 0x7f;
  if (extra > 4) return null;
  const length = extra === 0 ? first : der.subarray(2, 2 + extra).reduce((sum, byte) => sum * 256 + byte, 0);
  const start = 2 + extra;
  if (start + length > der.length) return null;
  return { content: der.subarray(start, start + length), rest: der.subarray(start + length) };
}

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
