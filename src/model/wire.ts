import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { ioError } from '../core/files.ts';

/** Thrown for bytes that are no Protocol Buffers message; the message says why. */
export class WireError extends Error {}

/** One field of a message: its number, and its value (varint) or where its bytes lie (length-delimited). */
export interface Field {
  id: number;
  /** 0 varint, 1 64 bits, 2 length-delimited, 5 32 bits. */
  wire: number;
  /** Of a varint; larger ones than 2^53, negative ones among them, are Infinity. */
  value: number;
  start: number;
  end: number;
}

const WINDOW = 1 << 16;
/** Fields of one file: large graphs have some millions. */
const MAX_FIELDS = 20_000_000;

/**
 * Reads the fields of a Protocol Buffers file (protobuf.dev/programming-guides/encoding) where somebody asks for them; what is
 * skipped, the weights of a model, is never read. Synchronous: a read of the page cache is less than a turn of the event loop,
 * and there is one for every field.
 */
export class WireFile {
  readonly size: number;
  readonly #fd: number;
  readonly #window = Buffer.alloc(WINDOW);
  #from = 0;
  #filled = 0;
  #fields = 0;

  /** Throws `ERR_FILE_NOT_FOUND` and what else `ioError` makes. */
  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'r');
    } catch (error) {
      throw ioError(error, `cannot read ${path}`);
    }
    this.size = fstatSync(this.#fd).size;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** The fields of the message between two places. Throws WireError. */
  *fields(start: number, end: number): Generator<Field> {
    let at = start;
    while (at < end) {
      if (++this.#fields > MAX_FIELDS) throw new WireError(`it has more than ${MAX_FIELDS} fields`);
      const tag = this.varint(at, end);
      const [id, wire] = [Math.floor(tag.value / 8), tag.value % 8];
      if (id === 0 || id >= 2 ** 29) throw new WireError(`there is no field at byte ${at}`);
      let [from, to, value] = [tag.next, tag.next, 0];
      if (wire === 0) ({ value, next: to } = this.varint(from, end));
      else if (wire === 1) to = from + 8;
      else if (wire === 5) to = from + 4;
      else if (wire === 2) {
        const length = this.varint(from, end);
        from = length.next;
        to = from + length.value;
      } else throw new WireError(`the field at byte ${at} has an unknown type`);
      if (to > end) throw new WireError(`the field at byte ${at} is longer than what it is in`);
      yield { id, wire, value, start: from, end: to };
      at = to;
    }
  }

  /** Little-endian base 128. Throws WireError. */
  varint(at: number, end: number): { value: number; next: number } {
    let [value, scale] = [0, 1];
    for (let i = 0; i < 10 && at + i < end; i++, scale *= 128) {
      const byte = this.#byte(at + i);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80)
        return { value: Number.isSafeInteger(value) ? value : Number.POSITIVE_INFINITY, next: at + i + 1 };
    }
    throw new WireError(`the number at byte ${at} does not end`);
  }

  /** Text of a field; undefined for one of more than `most` bytes. */
  text({ start, end }: Field, most: number): string | undefined {
    if (end - start > most) return undefined;
    const bytes = Buffer.alloc(end - start);
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.#byte(start + i);
    return bytes.toString('utf8');
  }

  #byte(at: number): number {
    if (at < this.#from || at >= this.#from + this.#filled) {
      this.#from = at;
      this.#filled = readSync(this.#fd, this.#window, 0, WINDOW, at);
      if (this.#filled === 0) throw new WireError(`it ends at byte ${at}`);
    }
    return this.#window[at - this.#from] as number;
  }
}
