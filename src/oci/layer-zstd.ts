import { badLayer } from './layer-errors.ts';

const FRAME = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
/** Sizes of the fields of a frame's header, by the bits of its descriptor (RFC 8878, 3.1.1.1.1). */
const DICTIONARY_ID = [0, 1, 2, 4];
const CONTENT_SIZE = [0, 2, 4, 8];
const RLE = 1;
const RESERVED = 3;
/** Written to the decompressor at once; each write is a trip to another thread. */
const PIECE = 1 << 18;

/**
 * Splits a zstd stream so that no chunk holds more than one frame, and drops skippable frames (RFC 8878, 3.1): Node's
 * decompressor (24) ignores what follows a frame in the same write, and refuses skippable frames. `zstd:chunked` layers have
 * both. Throws `ERR_LAYER_MALFORMED` (exit 2) where the structure is not zstd's or ends early; blocks are not looked into.
 */
export async function* zstdFrames(source: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Buffer> {
  const input = new Input(source, what);
  while (await input.more()) {
    const magic = await input.exactly(4);
    if ((magic.readUInt32LE() & 0xfffffff0) >>> 0 === SKIPPABLE) {
      for await (const _ of input.pieces((await input.exactly(4)).readUInt32LE()));
      continue;
    }
    if (magic.readUInt32LE() !== FRAME) throw badLayer(what, 'there is something else in it than zstd frames');
    let gathered: Buffer[] = [magic];
    let size = 0;
    for await (const piece of frameRest(input, what)) {
      gathered.push(piece);
      size += piece.length;
      if (size < PIECE) continue;
      yield Buffer.concat(gathered);
      gathered = [];
      size = 0;
    }
    if (gathered.length > 0) yield Buffer.concat(gathered);
  }
}

/** A frame behind its magic number. */
async function* frameRest(input: Input, what: string): AsyncGenerator<Buffer> {
  const descriptor = await input.exactly(1);
  yield descriptor;
  const bits = descriptor[0] ?? 0;
  const singleSegment = (bits & 0x20) !== 0;
  const contentSize = CONTENT_SIZE[bits >> 6] || (singleSegment ? 1 : 0);
  const fields = (singleSegment ? 0 : 1) + (DICTIONARY_ID[bits & 3] ?? 0) + contentSize;
  yield await input.exactly(fields);
  for (let last = false; !last; ) {
    const header = await input.exactly(3);
    yield header;
    const block = header.readUIntLE(0, 3);
    last = (block & 1) === 1;
    const type = (block >> 1) & 3;
    if (type === RESERVED) throw badLayer(what, 'a zstd block has a type that does not exist');
    yield* input.pieces(type === RLE ? 1 : block >> 3);
  }
  if ((bits & 4) !== 0) yield await input.exactly(4);
}

class Input {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #what: string;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Uint8Array>, what: string) {
    this.#source = source[Symbol.asyncIterator]();
    this.#what = what;
  }

  /** False at the end. */
  async more(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#source.next();
      if (done) return false;
      this.#rest = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    }
    return true;
  }

  async exactly(size: number): Promise<Buffer> {
    if (this.#rest.length >= size) return this.#shift(size);
    const pieces: Buffer[] = [];
    for await (const piece of this.pieces(size)) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async *pieces(size: number): AsyncGenerator<Buffer> {
    for (let left = size; left > 0; ) {
      if (!(await this.more())) throw badLayer(this.#what, 'its zstd compression ends early');
      const piece = this.#shift(left);
      left -= piece.length;
      yield piece;
    }
  }

  #shift(size: number): Buffer {
    const piece = this.#rest.subarray(0, size);
    this.#rest = this.#rest.subarray(piece.length);
    return piece;
  }
}
