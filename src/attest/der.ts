import { usageError } from '../core/errors.ts';

/**
 * The part of DER (X.690) that certificates need, strictly: definite lengths in their shortest form, one-byte tags. Ours
 * because the verifier has to see raw names and critical flags, which node:crypto does not show, and because the ASN.1
 * library at hand cuts identifiers of the UUID arc (2.25) down to "2.25".
 */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  sequence: 0x30,
  set: 0x31,
  utcTime: 0x17,
  generalizedTime: 0x18,
} as const;

export interface DerItem {
  tag: number;
  content: Uint8Array;
  /** Tag and length included. */
  bytes: Uint8Array;
}

/** Reads consecutive items. Throws `ERR_CERTIFICATE_MALFORMED` (exit 2) on anything that is not DER. */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #offset = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  /** The tag of the next item, or undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#offset];
  }

  next(tag: number): DerItem {
    const start = this.#offset;
    const found = this.#byte();
    if (found !== tag) throw this.fail(`expected DER tag ${tag.toString(16)}, found ${found.toString(16)}`);
    let length = this.#byte();
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 3) throw this.fail('a DER length is indefinite or too long');
      length = 0;
      for (let i = 0; i < count; i++) length = length * 256 + this.#byte();
      if (length < 0x80 || length < 2 ** (8 * (count - 1))) throw this.fail('a DER length is not in its shortest form');
    }
    const begin = this.#offset;
    if (length > this.#bytes.length - begin) throw this.fail('truncated DER');
    this.#offset = begin + length;
    return {
      tag,
      content: this.#bytes.subarray(begin, this.#offset),
      bytes: this.#bytes.subarray(start, this.#offset),
    };
  }

  /** The next item's inside. */
  enter(tag: number): DerReader {
    return new DerReader(this.next(tag).content, this.#what);
  }

  /** Refuses anything left over. */
  end(): void {
    if (this.#offset !== this.#bytes.length) throw this.fail('bytes left over in DER');
  }

  fail(why: string): Error {
    return usageError('ERR_CERTIFICATE_MALFORMED', `${this.#what}: ${why}`);
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset++];
    if (byte === undefined) throw this.fail('truncated DER');
    return byte;
  }
}

/** Encodes one item. */
export function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  if (length > 0xffff) throw new RangeError('too long for one DER item here');
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

/** An object identifier's content from its dotted form; arcs may be as large as a UUID (X.667). */
export function encodeOid(dotted: string): Buffer {
  const [first = 0n, second = 0n, ...rest] = dotted.split('.').map(BigInt);
  return Buffer.from(
    [first * 40n + second, ...rest].flatMap((arc) => {
      const digits = [Number(arc & 0x7fn)];
      for (let left = arc >> 7n; left > 0n; left >>= 7n) digits.unshift(Number(left & 0x7fn) | 0x80);
      return digits;
    }),
  );
}

/** The dotted form of an object identifier's content. Not injective for malformed content, so compare what `encodeOid` gives back. */
export function decodeOid(content: Uint8Array): string {
  const arcs: bigint[] = [];
  let arc = 0n;
  for (const byte of content) {
    arc = (arc << 7n) | BigInt(byte & 0x7f);
    if (byte < 0x80) {
      arcs.push(arc);
      arc = 0n;
    }
  }
  const [head = 0n, ...rest] = arcs;
  const first = head < 80n ? head / 40n : 2n;
  return [first, head - first * 40n, ...rest].join('.');
}
