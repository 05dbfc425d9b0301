import {
  align4,
  badArchive as bad,
  CPIO_HEADER,
  CPIO_TRAILER,
  type CpioFields,
  type CpioType,
  linkFlaw,
  nameFlaw,
  outside,
  PATH_MAX,
  parentOf,
  parseFields,
  TYPE_BITS,
} from './cpio-format.ts';

/** An entry as an archive states it. */
export interface CpioEntry {
  path: string;
  type: CpioType;
  /** Permission bits, set-id and sticky bits included. */
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since the epoch. */
  mtime: number;
  /** Bytes of content; 0 for anything but a file. */
  size: number;
  /** Of a symlink; of a link, the path of the earlier file whose name it is too. */
  target?: string;
}

/** What a reader tells while the bytes go by. A chunk is only good until `data` returns. */
export interface CpioHandler {
  entry(entry: CpioEntry): void;
  /** A piece of the content of the entry announced last. */
  data(chunk: Uint8Array): void;
  /** The entry is complete. */
  done(): void;
}

export interface CpioReadOptions {
  /** Refuse any entry that is not in this top directory (`requireUnder`). */
  under?: string;
}

/** Honest images have thousands of entries; memory grows with them. */
const MAX_ENTRIES = 500_000;
const TYPE_MASK = 0o170000;
const TYPES = new Map<number, CpioType>((['file', 'dir', 'symlink'] as const).map((type) => [TYPE_BITS[type], type]));
const EMPTY = Buffer.alloc(0);

/**
 * Reads an uncompressed newc archive from hostile bytes, as they come, with memory bounded by one name plus the set of
 * paths. It accepts less than the kernel does: what two readers could take for different trees is refused.
 *
 * Throws, all exit 2: `ERR_CPIO_MAGIC`, `ERR_CPIO_MALFORMED`, `ERR_CPIO_TRUNCATED`, `ERR_CPIO_TRAILING` (anything but
 * zeros behind the trailer, so no second archive), `ERR_CPIO_NAME`, `ERR_CPIO_ESCAPE` (absolute, '..', or through a
 * symlink), `ERR_CPIO_PARENT` (no earlier entry for the parent), `ERR_CPIO_DUPLICATE`, `ERR_CPIO_HARDLINK` (one
 * file's names that disagree about it, or whose content is not with the first: GNU cpio and the kernel differ there;
 * a symlink with several names), `ERR_CPIO_SPECIAL` (devices, pipes, sockets), `ERR_CPIO_OUTSIDE`, `ERR_CPIO_TOO_MANY`.
 */
export class CpioReader {
  readonly #handler: CpioHandler;
  readonly #under: string | undefined;
  readonly #types = new Map<string, CpioType>();
  /** Files that say they have more names, by inode. */
  readonly #linked = new Map<string, { path: string; fields: CpioFields }>();
  /** Gathers the bytes of the current fixed-size piece; `#need` is that piece's length. */
  #gathered: Buffer = EMPTY;
  #need = CPIO_HEADER;
  #state: 'header' | 'name' | 'target' | 'data' | 'padding' | 'end' = 'header';
  #fields: CpioFields | undefined;
  #entry: CpioEntry | undefined;
  #left = 0;
  #total = 0;

  constructor(handler: CpioHandler, options: CpioReadOptions = {}) {
    this.#handler = handler;
    this.#under = options.under;
  }

  /** The next bytes of the archive. */
  write(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.#total += bytes.length;
    for (let at = 0; at < bytes.length; ) {
      if (this.#state === 'end') {
        if (bytes.subarray(at).some((byte) => byte !== 0))
          throw bad('TRAILING', 'expected nothing but zeros behind the end of the archive');
        return;
      }
      at += this.#state === 'data' ? this.#data(bytes.subarray(at)) : this.#gather(bytes.subarray(at));
    }
  }

  /** There are no more bytes. */
  end(): void {
    if (this.#state !== 'end') throw bad('TRUNCATED', `the archive ends early, after ${this.#total} bytes`);
    if (this.#total % 4 !== 0) {
      throw bad('MALFORMED', `expected a length that is a multiple of 4, found ${this.#total} bytes`);
    }
  }

  #data(bytes: Buffer): number {
    const piece = bytes.subarray(0, this.#left);
    this.#handler.data(piece);
    this.#left -= piece.length;
    if (this.#left === 0) this.#finishEntry();
    return piece.length;
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
    if (this.#state === 'header') this.#onHeader(whole);
    else if (this.#state === 'name') this.#onName(whole);
    else if (this.#state === 'target') this.#onTarget(whole);
    else this.#onPadding(whole);
    return piece.length;
  }

  #expect(state: 'header' | 'name' | 'target' | 'padding', length: number): void {
    this.#state = state;
    this.#need = length;
  }

  #onHeader(bytes: Buffer): void {
    this.#fields = parseFields(bytes);
    this.#expect('name', align4(CPIO_HEADER + this.#fields.nameSize) - CPIO_HEADER);
  }

  #onName(bytes: Buffer): void {
    const fields = this.#fields as CpioFields;
    const name = bytes.subarray(0, fields.nameSize - 1);
    if (bytes[name.length] !== 0) throw bad('NAME', 'expected a name that ends with a NUL');
    requireZero(bytes.subarray(fields.nameSize));
    if (name.toString('latin1') === CPIO_TRAILER) {
      if (fields.size !== 0) throw bad('MALFORMED', 'the entry that ends the archive has content');
      this.#state = 'end';
      return;
    }
    const entry = this.#admit(name, fields);
    this.#entry = entry;
    if (entry.type === 'symlink') {
      if (fields.size >= PATH_MAX) throw bad('NAME', `${entry.path}: the link target has ${fields.size} bytes`);
      if (fields.size === 0) throw bad('NAME', `${entry.path}: the link target is empty`);
      this.#expect('target', fields.size);
      return;
    }
    this.#handler.entry(entry);
    this.#left = entry.size;
    if (this.#left > 0) this.#state = 'data';
    else this.#finishEntry();
  }

  #onTarget(bytes: Buffer): void {
    const entry = this.#entry as CpioEntry;
    const target = decode(bytes);
    const flaw = linkFlaw(bytes) ?? (target === null ? 'it is not UTF-8' : null);
    if (flaw !== null) throw bad('NAME', `${entry.path}: bad link target: ${flaw}`);
    this.#handler.entry({ ...entry, target: target ?? '' });
    this.#finishEntry();
  }

  #onPadding(bytes: Buffer): void {
    requireZero(bytes);
    this.#expect('header', CPIO_HEADER);
  }

  #finishEntry(): void {
    this.#handler.done();
    const size = this.#fields?.size ?? 0;
    const padding = align4(size) - size;
    if (padding > 0) this.#expect('padding', padding);
    else this.#expect('header', CPIO_HEADER);
  }

  /** The rules for entries: each is where it seems to be, once. */
  #admit(name: Buffer, fields: CpioFields): CpioEntry {
    const path = decode(name);
    const shown = JSON.stringify(path ?? name.toString('latin1'));
    if (name[0] === 0x2f || (path ?? '').split('/').includes('..')) {
      throw bad('ESCAPE', `expected a relative path without '..', found ${shown}`);
    }
    const flaw = nameFlaw(name) ?? (path === null ? 'it is not UTF-8' : null);
    if (flaw !== null || path === null) throw bad('NAME', `bad entry name ${shown}: ${flaw}`);
    if (this.#under !== undefined && path !== this.#under && !path.startsWith(`${this.#under}/`)) {
      throw outside(path, this.#under);
    }
    const type = this.#type(path, fields);
    if (type === undefined || fields.mode > 0o177777) {
      throw bad('SPECIAL', `${path}: expected a file, directory or symlink, found mode 0o${fields.mode.toString(8)}`);
    }
    if (path === this.#under && type !== 'dir') throw outside(path, this.#under);
    if (type === 'symlink' && fields.nlink > 1) {
      throw bad('HARDLINK', `${path}: expected one name for a symlink, found ${fields.nlink}`);
    }
    if (type === 'dir' && fields.size !== 0) throw bad('MALFORMED', `${path}: a directory with content`);
    const parent = parentOf(path);
    const parentType = parent === null ? 'dir' : this.#types.get(parent);
    if (parentType === 'symlink') throw bad('ESCAPE', `${path}: its parent is a symlink`);
    if (parentType !== 'dir') {
      throw bad('PARENT', `${path}: expected an earlier directory ${parent}, found ${parentType ?? 'nothing'}`);
    }
    if (this.#types.has(path)) throw bad('DUPLICATE', `two entries are called ${path}`);
    if (this.#types.size >= MAX_ENTRIES) throw bad('TOO_MANY', `expected at most ${MAX_ENTRIES} entries`);
    this.#types.set(path, type);
    const { uid, gid, mtime } = fields;
    const entry = { path, type, mode: fields.mode & 0o7777, uid, gid, mtime, size: type === 'file' ? fields.size : 0 };
    return type === 'link' ? { ...entry, target: this.#linked.get(inodeOf(fields))?.path ?? '' } : entry;
  }

  /** A file with an inode that was there before, where both say that there are more names, is that file (`maybe_link`). */
  #type(path: string, fields: CpioFields): CpioType | undefined {
    const type = TYPES.get(fields.mode & TYPE_MASK);
    if (type !== 'file' || fields.nlink < 2) return type;
    const first = this.#linked.get(inodeOf(fields));
    if (first === undefined) {
      this.#linked.set(inodeOf(fields), { path, fields });
      return type;
    }
    const same = (['mode', 'uid', 'gid', 'nlink', 'mtime'] as const).every((key) => fields[key] === first.fields[key]);
    if (!same) throw bad('HARDLINK', `${path} and ${first.path} are one file, but differ in owner, mode or time`);
    if (fields.size !== 0) throw bad('HARDLINK', `${path}: expected the content with the first name, ${first.path}`);
    return 'link';
  }
}

const inodeOf = ({ device, inode }: CpioFields): string => `${device}:${inode}`;

function requireZero(bytes: Buffer): void {
  if (bytes.some((byte) => byte !== 0)) throw bad('MALFORMED', 'expected zeros as padding');
}

function decode(bytes: Buffer): string | null {
  const text = bytes.toString('utf8');
  return Buffer.from(text).equals(bytes) ? text : null;
}
