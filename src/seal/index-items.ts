import { decodeCbor, decodeCborItem, encodeCbor } from '../core/cbor.ts';
import { FieldError } from './fields.ts';
import { MAX_INDEX } from './layout.ts';

// The index as a map of two long lists whose items are encoded and decoded one at a time.

/** CBOR (RFC 8949): the head of a map of two pairs, and the keys 1 and 2. */
export const MAP_OF_TWO = 0xa2;
export const FILES = 1;
export const PARTS = 2;

/** The head of an array, in its shortest form: major type 4. */
export function arrayHead(length: number): Uint8Array {
  const head = Uint8Array.from(encodeCbor(length));
  head[0] = (head[0] ?? 0) | 0x80;
  return head;
}

/** Reads what indexBytes wrote, item by item. Throws FieldError and decodeCbor's errors. */
export class ItemReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  expect(...heads: number[]): void {
    for (const head of heads) {
      if (this.#bytes[this.#at] !== head) throw new FieldError('it is not a map of files and parts');
      this.#at++;
    }
  }

  list<T>(read: (value: unknown) => T, what: string): T[] {
    const first = this.#bytes[this.#at] ?? 0;
    if (first >> 5 !== 4) throw new FieldError(`its ${what} is not a list`);
    // The same head as an integer is the list's length.
    const width = [1, 2, 4, 8][(first & 31) - 24] ?? 0;
    const head = Uint8Array.from(this.#bytes.subarray(this.#at, this.#at + 1 + width));
    head[0] = first & 31;
    const length = decodeCbor(head, { maxBytes: 9, what: 'index' });
    this.#at += head.length;
    // Every item has a byte at least.
    if (typeof length !== 'number' || length > this.#bytes.length - this.#at)
      throw new FieldError(`its ${what} is cut off`);
    return Array.from({ length }, () => {
      const { value, size } = decodeCborItem(this.#bytes.subarray(this.#at), { maxBytes: MAX_INDEX, what: 'index' });
      this.#at += size;
      return read(value);
    });
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw new FieldError('it has bytes after its end');
  }
}
