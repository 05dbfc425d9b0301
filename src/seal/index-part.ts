import { equalBytes } from '../core/bytes.ts';
import { encodeCbor } from '../core/cbor.ts';
import { negativeError } from '../core/errors.ts';
import { badPath, badPathSet, comparePaths } from '../model/paths.ts';
import { bytesOf, FieldError, listOf, tuple, uintOf } from './fields.ts';
import { floeLength } from './floe.ts';
import { arrayHead, FILES, ItemReader, MAP_OF_TWO, PARTS } from './index-items.ts';
import { MAX_INDEX, MAX_PART, type SealHeader } from './layout.ts';

// The index of a sealed model: which file lies where in which part, and the parts' keys. sealed-model.md, "Layout".

/** A run of a file inside a part. `part` counts from 0 here and from 1 in the file, as the layout does. */
export interface Extent {
  part: number;
  offset: number;
  length: number;
}

export interface IndexFile {
  path: string;
  size: number;
  /** Permission bits. */
  mode: number;
  sha256: Uint8Array;
  extents: Extent[];
}

export interface IndexPart {
  /** 16 bytes. */
  id: Uint8Array;
  /** 32 bytes, random, of this part only. */
  key: Uint8Array;
  /** Of the plaintext. */
  length: number;
}

/** An extent seen from the payload: `file` is a position in `files`. */
export interface Piece extends Extent {
  file: number;
  fileOffset: number;
}

export interface SealIndex {
  files: IndexFile[];
  parts: IndexPart[];
  /** Every extent in the order of the payload; each file is whole before the next begins. */
  pieces: Piece[];
}

/**
 * dCBOR of the index, in pieces that follow each other: as one value, the index of a hundred thousand files would take a hundred times the
 * memory of its bytes.
 */
export function* indexBytes({ files, parts }: Omit<SealIndex, 'pieces'>): Generator<Uint8Array> {
  yield Uint8Array.from([MAP_OF_TWO, FILES, ...arrayHead(files.length)]);
  for (const f of files)
    yield encodeCbor([f.path, f.size, f.mode, f.sha256, f.extents.map((e) => [e.part + 1, e.offset, e.length])]);
  yield Uint8Array.from([PARTS, ...arrayHead(parts.length)]);
  for (const p of parts) yield encodeCbor([p.id, p.key, p.length]);
}

export const encodeIndex = (index: Omit<SealIndex, 'pieces'>): Uint8Array => Buffer.concat([...indexBytes(index)]);

/**
 * Reads a decrypted index: safe paths in order, parts that are those of the header, extents that cover every part exactly and every file
 * once. Whoever holds the owner key could still have written nonsense. Throws `ERR_SEAL_INDEX` (exit 3).
 */
export function decodeIndex(bytes: Uint8Array, header: Pick<SealHeader, 'parts'>): SealIndex {
  try {
    if (bytes.length > MAX_INDEX) throw new FieldError(`it has more than ${MAX_INDEX} bytes`);
    const reader = new ItemReader(bytes);
    reader.expect(MAP_OF_TWO, FILES);
    const files = reader.list(readFile, 'list of files');
    reader.expect(PARTS);
    const parts = reader.list(readPart, 'list of parts');
    reader.end();
    checkParts(parts, header);
    checkPaths(files);
    return { files, parts, pieces: layOut(files, parts) };
  } catch (error) {
    throw negativeError('ERR_SEAL_INDEX', `the index of the sealed model is malformed: ${(error as Error).message}`);
  }
}

function readPart(value: unknown): IndexPart {
  const [id, key, length] = tuple(value, 3, 'part');
  return {
    id: bytesOf(id, 'part id', 16),
    key: bytesOf(key, 'part key', 32),
    length: uintOf(length, 'part length', 1, MAX_PART),
  };
}

function readFile(value: unknown): IndexFile {
  const [path, size, mode, sha256, extents] = tuple(value, 5, 'file');
  if (typeof path !== 'string') throw new FieldError('its path is not text');
  return {
    path,
    size: uintOf(size, 'file size', 0, Number.MAX_SAFE_INTEGER),
    mode: uintOf(mode, 'file mode', 0, 0o777),
    // A copy lies in Node's pool with others; as decoded it has an ArrayBuffer of its own, which takes ten times its bytes.
    sha256: Buffer.from(bytesOf(sha256, 'file digest', 32)),
    extents: listOf(extents, 'list of extents').map(readExtent),
  };
}

function readExtent(value: unknown): Extent {
  const [part, offset, length] = tuple(value, 3, 'extent');
  return {
    part: uintOf(part, 'part number', 1, 0xffff_ffff) - 1,
    offset: uintOf(offset, 'extent offset', 0, MAX_PART),
    length: uintOf(length, 'extent length', 1, MAX_PART),
  };
}

function checkParts(parts: IndexPart[], header: Pick<SealHeader, 'parts'>): void {
  const same = header.parts.every((outer, i) => {
    const inner = parts[i];
    return inner !== undefined && equalBytes(inner.id, outer.id) && floeLength(inner.length) === outer.length;
  });
  if (!same || parts.length !== header.parts.length) throw new FieldError('its parts are not those of the header');
}

function checkPaths(files: IndexFile[]): void {
  for (const [i, { path }] of files.entries()) {
    const problem = badPath(path);
    if (problem) throw new FieldError(`the path ${JSON.stringify(path)} ${problem}`);
    const before = files[i - 1];
    if (before && comparePaths(before.path, path) >= 0) throw new FieldError('its paths are not in order');
  }
  const problem = badPathSet(files.map((file) => file.path));
  if (problem) throw new FieldError(problem);
}

/** The pieces in payload order, or a FieldError unless they are exactly the parts and exactly the files. */
function layOut(files: IndexFile[], parts: IndexPart[]): Piece[] {
  const pieces: Piece[] = [];
  for (const [file, { size, extents }] of files.entries()) {
    let fileOffset = 0;
    for (const extent of extents) {
      pieces.push({ ...extent, file, fileOffset });
      fileOffset += extent.length;
    }
    if (fileOffset !== size) throw new FieldError('the extents of a file are not its size');
  }
  pieces.sort((a, b) => a.part - b.part || a.offset - b.offset);
  let part = 0;
  let offset = 0;
  let open: { file: number; next: number } | null = null;
  for (const piece of pieces) {
    if (offset === parts[part]?.length) [part, offset] = [part + 1, 0];
    if (piece.part !== part || piece.offset !== offset) throw new FieldError('its extents overlap or leave a gap');
    if (open ? piece.file !== open.file || piece.fileOffset !== open.next : piece.fileOffset !== 0) {
      throw new FieldError('a file is not in one run');
    }
    offset += piece.length;
    if (offset > (parts[part]?.length ?? 0)) throw new FieldError('an extent is longer than its part');
    const next = piece.fileOffset + piece.length;
    open = next === files[piece.file]?.size ? null : { file: piece.file, next };
  }
  if (parts.length > 0 && (part !== parts.length - 1 || offset !== parts[part]?.length)) {
    throw new FieldError('a part is not covered by its extents');
  }
  return pieces;
}
