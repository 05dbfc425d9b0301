import { badName, badSize } from './errors.ts';

// Where what is in a protected file of Gramine (encrypted mounts): common/src/protected_files/protected_files_format.h of its v1.9.
// A file is nodes of 4096 bytes: metadata, then groups of one Merkle tree node (MHT) and its 96 data nodes. MHT m has the
// children 32m+1 ... 32m+32, which lie after it: a tree numbered breadth first.

export const NODE = 4096;
/** Data bytes that are inside of the metadata node; more go to data nodes. */
export const INLINE = 3072;
export const DATA_PER_MHT = 96;
export const CHILDREN_PER_MHT = 32;
/** Key and tag of a node, in its parent. */
export const ENTRY = 32;
export const KEY = 16;
/** Physical nodes of a group: an MHT and its data nodes. */
export const GROUP = 1 + DATA_PER_MHT;
/** Of data in one file; ours, so that every offset is a safe integer and memory stays small. */
export const MAX_SIZE = 2 ** 40;
/** With its final zero (PATH_MAX_SIZE). */
export const PATH_FIELD = 772;

export interface Tree {
  /** Data nodes. */
  data: number;
  /** MHT nodes: one for every 96 data nodes begun. */
  mhts: number;
  /** MHTs 0 ... interior-1 have children. */
  interior: number;
  /** Bytes of the protected file. */
  fileSize: number;
}

/** The shape of a file with `size` bytes of data. Throws `ERR_PF_SIZE` (exit 2) above MAX_SIZE. */
export function treeOf(size: number): Tree {
  if (size > MAX_SIZE) throw badSize(`expected at most ${MAX_SIZE} bytes in a protected file, found ${size}`);
  const data = size > INLINE ? Math.ceil((size - INLINE) / NODE) : 0;
  const mhts = Math.ceil(data / DATA_PER_MHT);
  const interior = mhts > 1 ? Math.ceil((mhts - 1) / CHILDREN_PER_MHT) : 0;
  return { data, mhts, interior, fileSize: (1 + mhts + data) * NODE };
}

/** Byte offset of an MHT node in the file; its data nodes follow it. */
export const mhtOffset = (mht: number): number => (1 + mht * GROUP) * NODE;

/** Byte offset of a data node in the file. */
export const dataOffset = (node: number): number =>
  mhtOffset(Math.floor(node / DATA_PER_MHT)) + (1 + (node % DATA_PER_MHT)) * NODE;

/** The MHT (not 0) that holds another's key and tag, and where in it. */
export const parentOf = (mht: number): { parent: number; at: number } => ({
  parent: Math.floor((mht - 1) / CHILDREN_PER_MHT),
  at: (DATA_PER_MHT + ((mht - 1) % CHILDREN_PER_MHT)) * ENTRY,
});

/** How many children an MHT has in a tree of `mhts`. */
export const childrenOf = (mht: number, mhts: number): number =>
  Math.max(0, Math.min(CHILDREN_PER_MHT, mhts - 1 - mht * CHILDREN_PER_MHT));

/**
 * The path that Gramine compares with the one in the file: of the URI, without "file:", "." and double slashes gone, ".." resolved by
 * name; a relative path stays relative and may begin with ".." (get_norm_path in common/src/path_utils.c).
 */
export function normalisePath(path: string): string {
  const absolute = path.startsWith('/');
  const kept: string[] = [];
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue;
    if (name !== '..') kept.push(name);
    else if (kept.length > 0 && kept.at(-1) !== '..') kept.pop();
    else if (!absolute) kept.push(name);
  }
  return (absolute ? '/' : '') + kept.join('/');
}

/** A path as bytes for the metadata node. Throws `ERR_PF_NAME` (exit 2) if it does not fit. */
export function pathBytes(path: string): Buffer {
  const bytes = Buffer.from(path, 'utf8');
  if (path === '' || bytes.includes(0)) throw badName('expected a path for the protected file, found none or a NUL');
  if (bytes.length >= PATH_FIELD) {
    throw badName(`expected a path of at most ${PATH_FIELD - 1} bytes, found ${bytes.length}: ${path.slice(0, 60)}...`);
  }
  return bytes;
}
