import { sha256 } from '@noble/hashes/sha2.js';
import { decode, encode, type Item, sameBytes, toHex, utf8 } from './cbor.ts';
import { floeLength } from './floe.ts';
import { bytes, type Header, list, tuple, uint } from './header.ts';
import { Refused } from './refused.ts';

// docs/sealed-model-format.md, "Index".

export interface IndexFile {
  path: string;
  size: number;
  mode: number;
  sha256: Uint8Array;
  extents: { part: number; offset: number; length: number }[];
}

export interface Index {
  files: IndexFile[];
  parts: { id: Uint8Array; key: Uint8Array; length: number }[];
}

export const encodeIndex = ({ files, parts }: Index): Uint8Array =>
  encode(
    new Map<number, Item>([
      [
        1,
        files.map(
          (f) => [f.path, f.size, f.mode, f.sha256, f.extents.map((e) => [e.part, e.offset, e.length])] as Item,
        ),
      ],
      [2, parts.map((p) => [p.id, p.key, p.length] as Item)],
    ]),
  );

/** Throws Refused with ERR_SEAL_INDEX. */
export function decodeIndex(plain: Uint8Array, header: Pick<Header, 'parts'>): Index {
  try {
    const value = decode(plain);
    if (!(value instanceof Map) || value.size !== 2) throw new Error('no map of two');
    const parts = list(value.get(2)).map((part) => {
      const [id, key, length] = tuple(part, 3);
      return { id: bytes(id, 16), key: bytes(key, 32), length: uint(length, 1, 2 ** 34) };
    });
    const same = (part: Header['parts'][number], i: number) => {
      const inner = parts[i];
      return inner && sameBytes(inner.id, part.id) && floeLength(inner.length) === part.length;
    };
    if (parts.length !== header.parts.length || !header.parts.every(same)) throw new Error('other parts');
    const files = list(value.get(1)).map((file) => {
      const [path, size, mode, digest, extents] = tuple(file, 5);
      if (typeof path !== 'string') throw new Error('a path that is no text');
      return {
        path,
        size: uint(size),
        mode: uint(mode, 0, 0o777),
        sha256: bytes(digest, 32),
        extents: list(extents).map((extent) => {
          const [part, offset, length] = tuple(extent, 3);
          return { part: uint(part, 1, parts.length), offset: uint(offset), length: uint(length, 1) };
        }),
      };
    });
    checkPaths(files.map(({ path }) => path));
    checkExtents(files, parts);
    return { files, parts };
  } catch (error) {
    throw new Refused('ERR_SEAL_INDEX', (error as Error).message);
  }
}

/** Walks the payload: each file with bytes must begin where the one before it ended. */
function checkExtents(files: IndexFile[], parts: Index['parts']): void {
  for (const { size, extents } of files)
    if (extents.reduce((sum, { length }) => sum + length, 0) !== size) throw new Error('extents and size differ');
  const filled = files.filter(({ size }) => size > 0);
  const first = ({ extents }: IndexFile) => extents[0] ?? { part: 0, offset: 0 };
  filled.sort((a, b) => first(a).part - first(b).part || first(a).offset - first(b).offset);
  let [part, offset] = [1, 0];
  for (const extent of filled.flatMap(({ extents }) => extents)) {
    if (offset === parts[part - 1]?.length) [part, offset] = [part + 1, 0];
    if (extent.part !== part || extent.offset !== offset) throw new Error('a gap, an overlap or a file in two runs');
    offset += extent.length;
    if (offset > (parts[part - 1]?.length ?? 0)) throw new Error('an extent beyond its part');
  }
  if (parts.length > 0 && (part !== parts.length || offset !== parts[part - 1]?.length))
    throw new Error('bytes of none');
}

function checkPaths(paths: string[]): void {
  const fold = (path: string) => path.toUpperCase().toLowerCase().normalize('NFC');
  const directories = (path: string) => [...path.matchAll(/\//g)].map(({ index }) => path.slice(0, index));
  for (const path of paths) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
    if (/[\u0000-\u001f\u007f-\u009f\\]/.test(path) || path.normalize('NFC') !== path) throw new Error('a bad path');
    if (utf8(path).length > 4096) throw new Error('a long path');
    for (const component of path.split('/'))
      if (['', '.', '..'].includes(component) || utf8(component).length > 255) throw new Error('a bad component');
  }
  // Hex of UTF-8 sorts as its bytes do.
  const encoded = paths.map((path) => toHex(utf8(path)));
  if (encoded.some((path, i) => i > 0 && (encoded[i - 1] ?? '') >= path)) throw new Error('paths out of order');
  const spelling = new Map<string, string>();
  for (const path of paths)
    for (const [name, kind] of [[path, 'file'], ...directories(path).map((d) => [d, 'directory'])] as const) {
      const known = spelling.get(fold(name ?? ''));
      if (known !== undefined && known !== `${kind} ${name}`) throw new Error('paths that collide');
      if (known !== undefined && kind === 'file') throw new Error('a path twice');
      spelling.set(fold(name ?? ''), `${kind} ${name}`);
    }
}

/** Hex. The names need no escaping beyond JSON's own, which for text without control characters is JCS's. */
export function modelDigest(files: { path: string; sha256: Uint8Array }[]): string {
  const list = files.map(
    ({ path, sha256: digest }) => `{"algorithm":"sha256","digest":"${toHex(digest)}","name":${JSON.stringify(path)}}`,
  );
  return toHex(sha256(utf8(`[${list.join(',')}]`)));
}
