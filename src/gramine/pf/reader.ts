import { badSize, otherPath, tampered } from './errors.ts';
import { DATA_PER_MHT, dataOffset, ENTRY, INLINE, KEY, mhtOffset, NODE, parentOf, treeOf } from './layout.ts';
import { type Metadata, openMetadata, type PfVersion, parseHeader } from './metadata.ts';
import { decryptNode } from './node.ts';

/** Random access to a protected file, wherever it is. `read` gives fewer bytes than asked for only at the end. */
export interface PfSource {
  size: number;
  read(offset: number, length: number): Promise<Uint8Array>;
}

export interface ProtectedFile {
  version: PfVersion;
  /** Where Gramine opens it. */
  path: string;
  /** Of the data. */
  size: number;
  /** Authenticated data; fewer bytes than `length` only at the end. Throws `ERR_PF_TAMPERED` (exit 3), `ERR_PF_SIZE` (exit 2). */
  read(offset: number, length: number): Promise<Buffer>;
  /** All of it in order, in chunks of at most 393,216 bytes. Only a whole run has seen every node. */
  chunks(): AsyncGenerator<Buffer>;
}

/**
 * Opens a protected file of version 1 or 2 with its wrap key (16 bytes); memory does not grow with the file. With `path`, one that was
 * made for another path is refused, as Gramine would. Stricter than Gramine: the file has exactly the nodes that its size
 * needs. Throws as parseHeader and openMetadata; `ERR_PF_SIZE` (exit 2), `ERR_PF_PATH`, `ERR_PF_TAMPERED` (exit 3).
 */
export async function openProtectedFile(
  source: PfSource,
  wrapKey: Uint8Array,
  options: { path?: string | undefined } = {},
): Promise<ProtectedFile> {
  const header = parseHeader(await source.read(0, Math.min(NODE, source.size)));
  if (source.size % NODE !== 0) {
    throw badSize(`expected a protected file of whole nodes of ${NODE} bytes, found ${source.size} bytes`);
  }
  const metadata = openMetadata(header, wrapKey);
  if (options.path !== undefined && options.path !== metadata.path) throw otherPath(options.path, metadata.path);
  const { fileSize } = treeOf(metadata.size);
  if (source.size !== fileSize) {
    const found = source.size < fileSize ? 'it is cut off' : 'nothing vouches for what is after that';
    throw badSize(`expected ${fileSize} bytes in a protected file of ${metadata.size}, found ${source.size}: ${found}`);
  }
  return new Reader(source, header.version, metadata);
}

class Reader implements ProtectedFile {
  readonly version: PfVersion;
  readonly path: string;
  readonly size: number;
  readonly #source: PfSource;
  readonly #metadata: Metadata;
  /** The MHT that was last used on each level. */
  readonly #mhts: ({ mht: number; plain: Buffer } | undefined)[] = [];

  constructor(source: PfSource, version: PfVersion, metadata: Metadata) {
    this.version = version;
    this.path = metadata.path;
    this.size = metadata.size;
    this.#source = source;
    this.#metadata = metadata;
  }

  async *chunks(): AsyncGenerator<Buffer> {
    const first = Math.min(this.size, INLINE);
    if (first > 0) yield Buffer.from(this.#metadata.inline.subarray(0, first));
    for (let at = first; at < this.size; at += DATA_PER_MHT * NODE) yield this.read(at, DATA_PER_MHT * NODE);
  }

  async read(offset: number, length: number): Promise<Buffer> {
    if (!(Number.isSafeInteger(offset) && offset >= 0 && length >= 0)) throw new RangeError('no such range');
    const end = Math.min(this.size, offset + length);
    const out = Buffer.alloc(Math.max(0, end - offset));
    let at = offset;
    if (at < end && at < INLINE) at += this.#metadata.inline.copy(out, 0, at, Math.min(end, INLINE));
    while (at < end) {
      const node = Math.floor((at - INLINE) / NODE);
      const last = Math.floor((end - 1 - INLINE) / NODE);
      const inGroup = Math.min(last - node + 1, DATA_PER_MHT - (node % DATA_PER_MHT));
      const bytes = await this.#bytes(dataOffset(node), inGroup * NODE);
      const mht = await this.#mht(Math.floor(node / DATA_PER_MHT));
      for (let i = 0; i < inGroup; i++) {
        const plain = this.#decrypt(mht, ((node + i) % DATA_PER_MHT) * ENTRY, bytes.subarray(i * NODE, (i + 1) * NODE));
        if (!plain) throw tampered(`data node ${node + i}`);
        const skip = (at - INLINE) % NODE;
        at += plain.copy(out, at - offset, skip, Math.min(NODE, skip + end - at));
      }
    }
    return out;
  }

  /** The plaintext of an MHT, through those above it. */
  async #mht(mht: number): Promise<Buffer> {
    const level = levelOf(mht);
    const held = this.#mhts[level];
    if (held?.mht === mht) return held.plain;
    const { parent, at } = mht === 0 ? { parent: -1, at: 0 } : parentOf(mht);
    const above = parent < 0 ? this.#metadata.root : await this.#mht(parent);
    const plain = this.#decrypt(above, at, await this.#bytes(mhtOffset(mht), NODE));
    if (!plain) throw tampered(`tree node ${mht}`);
    this.#mhts[level]?.plain.fill(0);
    this.#mhts[level] = { mht, plain };
    return plain;
  }

  #decrypt(entries: Buffer, at: number, bytes: Uint8Array): Buffer | null {
    return decryptNode(entries.subarray(at, at + KEY), entries.subarray(at + KEY, at + ENTRY), bytes);
  }

  async #bytes(offset: number, length: number): Promise<Uint8Array> {
    const bytes = await this.#source.read(offset, length);
    if (bytes.length !== length)
      throw badSize(`expected ${length} bytes at ${offset}, found ${bytes.length}: it was cut off`);
    return bytes;
  }
}

function levelOf(mht: number): number {
  let level = 0;
  for (let m = mht; m > 0; m = parentOf(m).parent) level++;
  return level;
}
