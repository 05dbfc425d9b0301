import { closeSync, constants, fstatSync, openSync, readSync, writeSync, writevSync } from 'node:fs';
import { fileIdentity } from '../model/identity.ts';
import { sourceChanged } from './errors.ts';
import { type FileTable, fileAt, type PieceTable, pieceAt, pieceCount } from './tables.ts';

// Synchronous positional I/O of the threads that seal and unseal.

export { fileIdentity } from '../model/identity.ts';

/** A file on disk: where sealing reads or unsealing writes. `identity` is what it was when it was listed. */
export interface JobFile {
  path: string;
  size: number;
  identity?: string;
}

/** The plain files, read or written at positions; one is open at a time, as segments come roughly in order. */
export class Disk {
  readonly #files: FileTable;
  readonly #reading: boolean;
  #open: { file: number; fd: number } | null = null;

  constructor(files: FileTable, reading: boolean) {
    this.#files = files;
    this.#reading = reading;
  }

  /** Reads into, or writes from, `bytes`: the payload of `part` at `offset`. */
  transfer(pieces: PieceTable, part: number, offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length;
    for (let i = firstPiece(pieces, part, offset); ; i++) {
      const piece = pieceAt(pieces, i);
      if (!piece || piece.part !== part || piece.offset >= end) return;
      const from = Math.max(offset, piece.offset);
      const to = Math.min(end, piece.offset + piece.length);
      const run = bytes.subarray(from - offset, to - offset);
      const at = piece.fileOffset + from - piece.offset;
      const fd = this.#fd(piece.file);
      if (this.#reading) readAll(fd, run, at, () => sourceChanged(fileAt(this.#files, piece.file).path));
      else writeAll(fd, [run], at);
    }
  }

  close(): void {
    if (this.#open) closeSync(this.#open.fd);
    this.#open = null;
  }

  #fd(file: number): number {
    if (this.#open?.file === file) return this.#open.fd;
    this.close();
    const { path, identity } = fileAt(this.#files, file);
    const flags = this.#reading ? constants.O_RDONLY : constants.O_WRONLY | constants.O_CREAT;
    const fd = this.#openFile(path, flags | constants.O_NOFOLLOW);
    this.#open = { file, fd };
    if (identity !== '' && fileIdentity(fstatSync(fd, { bigint: true })) !== identity) throw sourceChanged(path);
    return fd;
  }

  #openFile(path: string, flags: number): number {
    try {
      return openSync(path, flags, 0o600);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // It was there when it was listed, and no link.
      throw this.#reading && (code === 'ENOENT' || code === 'ELOOP') ? sourceChanged(path) : error;
    }
  }
}

/** The piece of `part` that holds byte `offset`. */
function firstPiece(pieces: PieceTable, part: number, offset: number): number {
  let low = 0;
  for (let high = pieceCount(pieces); low < high; ) {
    const middle = (low + high) >> 1;
    const piece = pieceAt(pieces, middle);
    const before = piece && (piece.part < part || (piece.part === part && piece.offset + piece.length <= offset));
    if (before) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Fills `into` from `position`; throws `short()` at the end of the file. */
export function readAll(fd: number, into: Uint8Array, position: number, short: () => Error): void {
  for (let done = 0; done < into.length; ) {
    const count = readSync(fd, into, done, into.length - done, position + done);
    if (count === 0) throw short();
    done += count;
  }
}

/** Writes all pieces one after the other from `position`. */
export function writeAll(fd: number, pieces: Uint8Array[], position: number): void {
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  let done = pieces.length === 1 ? 0 : writevSync(fd, pieces, position);
  if (done === total) return;
  const bytes = pieces.length === 1 ? (pieces[0] ?? Buffer.alloc(0)) : Buffer.concat(pieces);
  while (done < total) done += writeSync(fd, bytes, done, total - done, position + done);
}
