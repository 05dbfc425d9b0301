/** One element of DER. */
export interface Element {
  tag: number;
  content: Uint8Array;
}

/** The elements that lie end to end in DER bytes, up to one that does not fit. */
export function elements(der: Uint8Array): Element[] {
  const list: Element[] = [];
  for (let at = 0; at + 2 <= der.length; ) {
    const [tag = 0, first = 0] = der.subarray(at);
    const extra = first < 0x80 ? 0 : first & 0x7f;
    const long = der.subarray(at + 2, at + 2 + extra).reduce((sum, byte) => sum * 256 + byte, 0);
    const start = at + 2 + extra;
    const end = start + (extra === 0 ? first : long);
    if (extra > 4 || end > der.length) break;
    list.push({ tag, content: der.subarray(start, end) });
    at = end;
  }
  return list;
}

/** Parts of a certificate that Node shows only in ways that fail: see describe-certificate.ts and pem-certificate.ts. */
export interface CertificateFields {
  /** The content of the Name. */
  issuer: Uint8Array;
  /** Null for what is not a time in a form of RFC 5280. */
  notBefore: Date | null;
  notAfter: Date | null;
  /** The content of the AlgorithmIdentifier. */
  algorithm: Uint8Array;
  signature: Uint8Array;
}

const BIT_STRING = 0x03;
const VERSION = 0xa0;

/** Certificate of RFC 5280 section 4.1; null for what has not its shape. */
export function certificateFields(der: Uint8Array): CertificateFields | null {
  const [tbs, algorithm, bits] = elements(elements(der)[0]?.content ?? der);
  if (!tbs || !algorithm || bits?.tag !== BIT_STRING) return null;
  // The version comes first, unless it is 1.
  const [, , issuer, validity] = elements(tbs.content).filter(({ tag }) => tag !== VERSION);
  if (!issuer || !validity) return null;
  const [notBefore = null, notAfter = null] = elements(validity.content).map(readTime);
  return {
    issuer: issuer.content,
    notBefore,
    notAfter,
    algorithm: algorithm.content,
    signature: bits.content.subarray(1),
  };
}

const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;

/** "YYMMDDHHMMSSZ" or "YYYYMMDDHHMMSSZ" (RFC 5280 section 4.1.2.5). */
function readTime({ tag, content }: Element): Date | null {
  const text = Buffer.from(content).toString('latin1');
  const digits = tag === UTC_TIME ? 2 : tag === GENERALIZED_TIME ? 4 : 0;
  const match = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text);
  const [, year = '', month, day, hour, minute, second] = match ?? [];
  if (!match || year.length !== digits) return null;
  const full = digits === 4 ? year : `${Number(year) < 50 ? '20' : '19'}${year}`;
  const iso = `${full}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const date = new Date(iso);
  // Date takes 30 February for 2 March.
  return !Number.isNaN(date.getTime()) && date.toISOString() === iso ? date : null;
}
