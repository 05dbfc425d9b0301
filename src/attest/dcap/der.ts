/**
 * A strict reader of DER (ITU-T X.690) for the SGX extension of PCK certificates and the names in Intel's certificates:
 * definite lengths in their shortest form, low tag numbers, nothing left over. It copies nothing.
 */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  octetString: 0x04,
  oid: 0x06,
  enumerated: 0x0a,
  utf8: 0x0c,
  printable: 0x13,
  sequence: 0x30,
  set: 0x31,
} as const;

/** What is wrong with the bytes; callers turn it into an error that says with which. */
export class DerError extends Error {}

export interface DerItem {
  tag: number;
  content: Buffer;
  /** Tag and length included. */
  raw: Buffer;
}

/** Walks the items of one constructed value. */
export class DerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** The tag of the next item, or undefined at the end. */
  get tag(): number | undefined {
    return this.#bytes[this.#at];
  }

  next(tag: number): DerItem {
    if (this.tag !== tag) {
      throw new DerError(`expected DER tag 0x${tag.toString(16)}, found ${this.tag?.toString(16) ?? 'the end'}`);
    }
    return this.any();
  }

  optional(tag: number): DerItem | undefined {
    return this.tag === tag ? this.any() : undefined;
  }

  /** The next item opened: it has to be constructed. */
  enter(tag: number): DerReader {
    return new DerReader(this.next(tag).content);
  }

  any(): DerItem {
    const start = this.#at;
    const tag = this.#byte();
    if ((tag & 0x1f) === 0x1f) throw new DerError('a tag number above 30');
    const length = this.#length();
    const begin = this.#at;
    if (length > this.#bytes.length - begin) throw new DerError('an item is longer than what holds it');
    this.#at = begin + length;
    return { tag, content: this.#bytes.subarray(begin, this.#at), raw: this.#bytes.subarray(start, this.#at) };
  }

  end(): void {
    if (!this.done) throw new DerError('bytes left over');
  }

  #byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new DerError('cut short');
    this.#at += 1;
    return byte;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const count = first & 0x7f;
    if (count === 0 || count > 3) throw new DerError('an indefinite or oversized length');
    let length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + this.#byte();
    if (length < 0x80 || length < 256 ** (count - 1)) throw new DerError('a length not in its shortest form');
    return length;
  }
}

/** An INTEGER or ENUMERATED from 0 to `most`. */
export function readUnsigned({ content }: DerItem, most: number): number {
  checkInteger(content);
  const value = content.length > 6 ? Number.POSITIVE_INFINITY : content.readUIntBE(0, content.length);
  if (value > most) throw new DerError(`an integer above ${most}`);
  return value;
}

function checkInteger(content: Buffer): void {
  const [first, second = 0x80] = content;
  if (first === undefined) throw new DerError('an empty integer');
  if (first >= 0x80) throw new DerError('a negative integer');
  if (first === 0 && content.length > 1 && second < 0x80) throw new DerError('an integer not in its shortest form');
}

export function readBoolean({ content }: DerItem): boolean {
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new DerError('not a DER boolean');
  return content[0] === 0xff;
}

/** An object identifier in dots. */
export function readOid({ content }: DerItem): string {
  const arcs: number[] = [];
  let arc = 0;
  let begun = false;
  for (const byte of content) {
    if (!begun && byte === 0x80) throw new DerError('an object identifier not in its shortest form');
    arc = arc * 128 + (byte & 0x7f);
    if (arc > Number.MAX_SAFE_INTEGER) throw new DerError('an object identifier that is too large');
    begun = byte >= 0x80;
    if (begun) continue;
    if (arcs.length === 0) {
      const top = Math.min(2, Math.floor(arc / 40));
      arcs.push(top, arc - 40 * top);
    } else {
      arcs.push(arc);
    }
    arc = 0;
  }
  if (begun || arcs.length === 0) throw new DerError('an object identifier that is cut short');
  return arcs.join('.');
}

/** The common name (2.5.4.3) in the DER of a Name, or undefined where it has none or several. */
export function commonName(name: Uint8Array): string | undefined {
  const found: string[] = [];
  const outer = new DerReader(Buffer.from(name));
  const sets = outer.enter(TAG.sequence);
  outer.end();
  while (!sets.done) {
    const set = sets.enter(TAG.set);
    while (!set.done) {
      const attribute = set.enter(TAG.sequence);
      const id = readOid(attribute.next(TAG.oid));
      const value = attribute.any();
      attribute.end();
      if (id !== '2.5.4.3') continue;
      if (value.tag !== TAG.utf8 && value.tag !== TAG.printable) return undefined;
      found.push(value.content.toString('utf8'));
    }
  }
  return found.length === 1 ? found[0] : undefined;
}
