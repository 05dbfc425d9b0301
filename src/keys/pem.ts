import { fromBase64 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';

/** One RFC 7468 block: its label ("PUBLIC KEY") and DER. */
export interface PemBlock {
  label: string;
  der: Buffer;
}

const BLOCK = /^\s*-----BEGIN ([A-Z0-9 ]{1,64})-----\r?\n([A-Za-z0-9+/=\s]+)-----END \1-----\s*$/;

/**
 * Reads exactly one PEM block with nothing around it but white space. `what` is for people: "owner key".
 * Throws `ERR_KEY_MALFORMED` (exit 2).
 */
export function parsePem(pem: Uint8Array | string, what: string): PemBlock {
  const text = typeof pem === 'string' ? pem : Buffer.from(pem).toString('latin1');
  const match = text.length <= 65_536 ? BLOCK.exec(text) : null;
  const der = fromBase64((match?.[2] ?? '').replace(/\s/g, ''));
  if (!match?.[1] || !der || der.length === 0) {
    throw usageError('ERR_KEY_MALFORMED', `the ${what} is not a key file: expected one PEM block`, {
      hint: 'make keys with: atoma-tee keygen --type TYPE --out FILE',
    });
  }
  return { label: match[1], der };
}

/** Encodes one PEM block, 64 characters to the line. */
export function encodePem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
