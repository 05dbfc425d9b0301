import { fromBase64 } from '../../core/bytes.ts';

/** Three certificates of a PCK chain take 3.7 KB. */
const MOST_CHARACTERS = 1 << 15;
const MOST_BLOCKS = 8;
const BEGIN = '-----BEGIN CERTIFICATE-----';
const END = '-----END CERTIFICATE-----';

/**
 * The DER inside a chain of PEM certificates (RFC 7468) and nothing else: lines of base64 between the two marks, blank
 * lines between blocks, one NUL at the end as quotes have it. Returns null for anything else: what lies in a quote is not
 * signed as text, so only one reading of it is let in.
 */
export function readPemChain(text: string): Buffer[] | null {
  if (text.length > MOST_CHARACTERS) return null;
  const lines = text.replace(/\0$/, '').split(/\r?\n/);
  const blocks: Buffer[] = [];
  let base64: string[] | null = null;
  for (const line of lines) {
    if (base64 === null) {
      if (line === BEGIN) base64 = [];
      else if (line !== '') return null;
    } else if (line === END) {
      const der = fromBase64(base64.join(''));
      if (der === null || der.length === 0 || blocks.length === MOST_BLOCKS) return null;
      blocks.push(der);
      base64 = null;
    } else {
      base64.push(line);
    }
  }
  return base64 === null && blocks.length > 0 ? blocks : null;
}
