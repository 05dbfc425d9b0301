import { linkFlaw } from '../image/cpio-format.ts';
import { badEntry, badLayer, tooMuch } from './layer-errors.ts';
import { cString, type PaxFields, parseHeader, parsePax, type RawHeader, TAR_BLOCK } from './layer-header.ts';
import { layerPath, layerText } from './layer-names.ts';

export type LayerType = 'file' | 'dir' | 'symlink' | 'link' | 'device';

/** An entry of a layer as its tar states it, its name in the form of `layerPath`. */
export interface LayerEntry {
  path: string;
  /** A 'device' is a device node or a FIFO. */
  type: LayerType;
  /** Permission bits, set-id and sticky bits included. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of content; 0 for anything but a file. */
  size: number;
  /** Where the content starts, in bytes from the start of the tar. */
  offset: number;
  /** Of a symlink, verbatim; of a link, the path of the file in the form of `layerPath`. */
  target?: string;
  xattrs: boolean;
}

export interface LayerHandler {
  entry(entry: LayerEntry): void;
  /** A piece of the content of the file announced last; only good until it returns. */
  data(chunk: Uint8Array): void;
  /** The entry is complete. */
  done(): void;
}

const TYPES: Record<string, LayerType> = {
  '0': 'file',
  // "Contiguous file": a file, to everybody.
  '7': 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'device',
  '4': 'device',
  '5': 'dir',
  '6': 'device',
};
/** A long name or the pax records of one entry; Go's archive/tar has the same bound. */
const MAX_EXTRA = 1 << 20;
/** 2^32 - 1 means "as it is" to chown(2). */
const MAX_ID = 0xfffffffe;
const EMPTY = Buffer.alloc(0);

/**
 * Reads a layer's uncompressed tar from hostile bytes, as they come; memory is bounded by one extended header. It refuses
 * what two readers could take for different trees: global pax headers that change entries (GNU tar heeds them, Go does
 * not), directories and links with content, sparse files, unknown types, content behind the end.
 * Throws `ERR_LAYER_MALFORMED`, `ERR_LAYER_ENTRY`, `ERR_LAYER_ESCAPE`, `ERR_LAYER_TOO_LARGE` (exit 2).
 */
export class LayerTar {
  readonly #handler: LayerHandler;
  readonly #what: string;
  #state: 'header' | 'extra' | 'data' | 'padding' | 'end' = 'header';
  /** Gathers a header or the content of an extended header; `#need` is its length. */
  #gathered: Buffer = EMPTY;
  #need = TAR_BLOCK;
  /** Of content or padding. */
  #left = 0;
  #position = 0;
  #size = 0;
  #extraType = '';
  #pax: PaxFields | undefined;
  #long: { path?: Buffer; linkpath?: Buffer } = {};

  constructor(handler: LayerHandler, what: string) {
    this.#handler = handler;
    this.#what = what;
  }

  write(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let at = 0; at < bytes.length; ) {
      const rest = bytes.subarray(at);
      const used = this.#state === 'header' || this.#state === 'extra' ? this.#gather(rest) : this.#pass(rest);
      at += used;
      this.#position += used;
    }
  }

  /**
   * There are no more bytes. The blocks of zeros at the end, and the padding behind the last content, may be missing, as they
   * are in what some tools make (umoci insert): the diff id says that the layer is whole.
   */
  end(): void {
    const between = this.#state === 'padding' || (this.#state === 'header' && this.#gathered.length === 0);
    if (this.#state !== 'end' && (!between || this.#pax !== undefined || this.#long.path || this.#long.linkpath))
      throw badLayer(this.#what, `its archive ends early, after ${this.#position} bytes`);
  }

  #gather(bytes: Buffer): number {
    const piece = bytes.subarray(0, this.#need - this.#gathered.length);
    this.#gathered = this.#gathered.length === 0 ? piece : Buffer.concat([this.#gathered, piece]);
    if (this.#gathered.length < this.#need) {
      // The caller may reuse its memory.
      this.#gathered = Buffer.from(this.#gathered);
      return piece.length;
    }
    const whole = this.#gathered;
    this.#gathered = EMPTY;
    if (this.#state === 'header') this.#onHeader(whole, this.#position + piece.length);
    else this.#onExtra(whole);
    return piece.length;
  }

  #pass(bytes: Buffer): number {
    if (this.#state === 'end') {
      if (bytes.some((byte) => byte !== 0))
        throw badLayer(this.#what, 'there is something behind the end of its archive');
      return bytes.length;
    }
    const piece = bytes.subarray(0, this.#left);
    this.#left -= piece.length;
    if (this.#state === 'data') this.#handler.data(piece);
    if (this.#left === 0) this.#next();
    return piece.length;
  }

  /** Behind content comes padding, behind padding a header. */
  #next(): void {
    if (this.#state === 'data') this.#handler.done();
    const padding = this.#state === 'padding' ? 0 : (TAR_BLOCK - (this.#size % TAR_BLOCK)) % TAR_BLOCK;
    this.#left = padding;
    this.#state = padding > 0 ? 'padding' : 'header';
    this.#need = TAR_BLOCK;
  }

  #onHeader(block: Buffer, offset: number): void {
    if (block.every((byte) => byte === 0)) {
      this.#state = 'end';
      return;
    }
    const header = parseHeader(block);
    if (typeof header === 'string') throw badLayer(this.#what, header);
    if ('xgLK'.includes(header.type)) this.#expectExtra(header);
    else this.#onEntry(header, offset);
  }

  #expectExtra({ type, size }: RawHeader): void {
    if (size > MAX_EXTRA)
      throw tooMuch(this.#what, `has an extended header of ${size} bytes; expected at most ${MAX_EXTRA}`);
    this.#extraType = type;
    this.#size = size;
    this.#state = 'extra';
    this.#need = size;
    if (size === 0) this.#onExtra(EMPTY);
  }

  #onExtra(bytes: Buffer): void {
    const type = this.#extraType;
    const repeated =
      type === 'x' ? this.#pax : type === 'L' ? this.#long.path : type === 'K' ? this.#long.linkpath : undefined;
    if (repeated !== undefined) throw badLayer(this.#what, 'an entry has two extended headers of one kind');
    if (type === 'L') this.#long.path = Buffer.from(cString(bytes));
    else if (type === 'K') this.#long.linkpath = Buffer.from(cString(bytes));
    else {
      const fields = parsePax(bytes);
      if (typeof fields === 'string') throw badLayer(this.#what, fields);
      if (type === 'x') this.#pax = fields;
      else if (Object.keys(fields).length > 0)
        throw badLayer(this.#what, 'a global header changes its entries, which not every reader heeds');
    }
    this.#next();
  }

  #onEntry(header: RawHeader, offset: number): void {
    const entry = this.#entryOf(header, offset);
    this.#pax = undefined;
    this.#long = {};
    this.#handler.entry(entry);
    this.#size = this.#left = entry.size;
    if (entry.size > 0) this.#state = 'data';
    else this.#handler.done();
  }

  #entryOf(header: RawHeader, offset: number): LayerEntry {
    const what = this.#what;
    const pax = this.#pax ?? {};
    if ((pax.path && this.#long.path) || (pax.linkpath && this.#long.linkpath))
      throw badLayer(what, 'an entry has two long names');
    const name = pax.path ?? this.#long.path ?? header.name;
    const path = layerPath(name, what);
    // As in archives from before there were types.
    const type = header.type === '0' && name.at(-1) === 0x2f ? 'dir' : TYPES[header.type];
    if (header.type === 'S' || pax.sparse)
      throw badEntry(what, path, 'is a sparse file; make the layer without --sparse');
    if (type === undefined)
      throw badEntry(what, path, `is of a type that is not known, ${JSON.stringify(header.type)}`);
    if (path === '' && type !== 'dir') throw badEntry(what, path, 'is a name for the root, but no directory');
    const size = pax.size ?? header.size;
    if (type !== 'file' && size !== 0) throw badEntry(what, path, `is a ${type} with content`);
    const [uid, gid] = [pax.uid ?? header.uid, pax.gid ?? header.gid];
    if (uid > MAX_ID || gid > MAX_ID)
      throw badEntry(what, path, `has the owner ${uid}:${gid}, expected at most ${MAX_ID}`);
    const entry = { path, type, mode: header.mode & 0o7777, uid, gid, size, offset, xattrs: pax.xattrs ?? false };
    if (type !== 'symlink' && type !== 'link') return entry;
    const target = pax.linkpath ?? this.#long.linkpath ?? header.linkname;
    const flaw = linkFlaw(target);
    if (flaw !== null) throw badEntry(what, path, `has a bad link target: ${flaw}`);
    return {
      ...entry,
      target: type === 'link' ? layerPath(target, what) : layerText(target, what, 'the target of a link'),
    };
  }
}
