import type { JobFile } from './disk.ts';
import type { Piece } from './index-part.ts';

// Lists of a hundred thousand files as threads share them: as objects, every thread would get a copy of all.

/** Texts one after the other, and where each ends. */
export interface TextTable {
  bytes: Uint8Array;
  ends: Float64Array;
}

/** By file: path, and identity or nothing. */
export type FileTable = TextTable;
/** Five numbers for each piece. */
export type PieceTable = Float64Array;

export function packFiles(files: JobFile[]): FileTable {
  const total = files.reduce(
    (sum, { path, identity = '' }) => sum + Buffer.byteLength(path) + Buffer.byteLength(identity),
    0,
  );
  const bytes = Buffer.from(new SharedArrayBuffer(total));
  const ends = new Float64Array(new SharedArrayBuffer(16 * files.length));
  let at = 0;
  for (const [i, { path, identity = '' }] of files.entries()) {
    at += bytes.write(path, at);
    ends[2 * i] = at;
    at += bytes.write(identity, at);
    ends[2 * i + 1] = at;
  }
  return { bytes, ends };
}

export function fileAt({ bytes, ends }: FileTable, file: number): { path: string; identity: string } {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const [from, middle, to] = [ends[2 * file - 1] ?? 0, ends[2 * file] ?? 0, ends[2 * file + 1] ?? 0];
  return { path: text.toString('utf8', from, middle), identity: text.toString('utf8', middle, to) };
}

const FIELDS = 5;

export function packPieces(pieces: Piece[]): PieceTable {
  const table = new Float64Array(new SharedArrayBuffer(8 * FIELDS * pieces.length));
  for (const [i, { part, offset, length, file, fileOffset }] of pieces.entries())
    table.set([part, offset, length, file, fileOffset], i * FIELDS);
  return table;
}

export const pieceCount = (table: PieceTable): number => table.length / FIELDS;

export function pieceAt(table: PieceTable, i: number): Piece | undefined {
  const [part, offset, length, file, fileOffset] = table.subarray(i * FIELDS, (i + 1) * FIELDS);
  if (
    part === undefined ||
    offset === undefined ||
    length === undefined ||
    file === undefined ||
    fileOffset === undefined
  )
    return undefined;
  return { part, offset, length, file, fileOffset };
}
