import { usageError } from '../core/errors.ts';
import type { WeightsFacts } from './safetensors.ts';

/** What is read of a file at most: the vocabularies of the largest models take a few tens of megabytes. */
export const GGUF_HEADER_LIMIT = 64 << 20;

/** Bytes of a value by its type (ggml, docs/gguf.md, gguf_metadata_value_type); 8 is a string, 9 an array. */
const SIZES: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
const STRING = 8;
const ARRAY = 9;
const MAX_DEPTH = 4;
/** GGML_MAX_DIMS. */
const MAX_DIMENSIONS = 4;
const MAX_NAME = 65_535;

/**
 * Reads the header of a GGUF file, version 2 or 3, little-endian (ggml, docs/gguf.md). `bytes` begins the file, up to
 * `GGUF_HEADER_LIMIT`; null where the header is longer than that. Pure. Throws `ERR_MODEL_HEADER` (exit 2).
 */
export function readGguf(bytes: Uint8Array, size: number): WeightsFacts | null {
  try {
    return read(new Cursor(bytes));
  } catch (error) {
    if (!(error instanceof CutOff)) throw error;
    if (bytes.length < size) return null;
    throw malformed('it is cut off');
  }
}

function read(cursor: Cursor): WeightsFacts {
  if (cursor.take(4).toString('latin1') !== 'GGUF') throw malformed('it does not begin with GGUF');
  const version = cursor.u32();
  if (version !== 2 && version !== 3)
    throw malformed(`expected version 2 or 3 in little-endian order, found ${version}`);
  const tensors = cursor.count('tensors');
  const pairs = cursor.count('keys');
  let architecture: string | undefined;
  for (let i = 0; i < pairs; i++) {
    const key = cursor.string().toString('latin1');
    const type = cursor.u32();
    if (key === 'general.architecture' && type === STRING) architecture = cursor.string().toString('utf8').slice(0, 64);
    else skip(cursor, type, 0);
  }
  let parameters = 0;
  for (let i = 0; i < tensors; i++) {
    if (cursor.string().length > MAX_NAME) throw malformed(`the name of tensor ${i + 1} is too long`);
    const dimensions = cursor.u32();
    if (dimensions > MAX_DIMENSIONS) throw malformed(`tensor ${i + 1} has ${dimensions} dimensions`);
    let elements = 1;
    for (let d = 0; d < dimensions; d++) elements *= cursor.count('elements');
    parameters += elements;
    if (!Number.isSafeInteger(parameters)) throw malformed(`tensor ${i + 1} has more elements than any file`);
    cursor.take(4 + 8); // type and offset
  }
  return { tensors, parameters, ...(architecture === undefined ? {} : { architecture }) };
}

function skip(cursor: Cursor, type: number, depth: number): void {
  const size = SIZES[type];
  if (size !== undefined) cursor.take(size);
  else if (type === STRING) cursor.string();
  else if (type === ARRAY && depth < MAX_DEPTH) {
    const of = cursor.u32();
    const count = cursor.count('items');
    const each = SIZES[of];
    if (each !== undefined) cursor.take(count * each);
    // Every item takes bytes, so the end of what was read ends this, too.
    else for (let i = 0; i < count; i++) skip(cursor, of, depth + 1);
  } else throw malformed(`expected a type of value, found ${type}`);
}

/** What was read of the file ends before the header does. */
class CutOff extends Error {}

class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new CutOff();
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  u32 = (): number => this.take(4).readUInt32LE();

  count(what: string): number {
    const value = Number(this.take(8).readBigUInt64LE());
    if (!Number.isSafeInteger(value)) throw malformed(`expected a number of ${what}, found ${value}`);
    return value;
  }

  string = (): Buffer => this.take(this.count('bytes of a string'));
}

const malformed = (why: string) => usageError('ERR_MODEL_HEADER', `expected a GGUF file: ${why}`);
