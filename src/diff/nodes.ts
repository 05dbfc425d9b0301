import { createHash } from 'node:crypto';
import type { MeasuredFile } from '../manifest/measurements.ts';
import type { View } from './view.ts';

export type NodeType = 'file' | 'dir' | 'symlink' | 'link' | 'char' | 'block' | 'fifo' | 'socket' | 'unknown';

/** By the type bits of st_mode. */
export const NODE_TYPES = new Map<number, NodeType>([
  [0o100000, 'file'],
  [0o040000, 'dir'],
  [0o120000, 'symlink'],
  [0o020000, 'char'],
  [0o060000, 'block'],
  [0o010000, 'fifo'],
  [0o140000, 'socket'],
]);

/** Something in a file tree, as an archive or a list of measured files tells of it. What is undefined is not known. */
export interface Node {
  path: string;
  type: NodeType;
  /** Permission bits. */
  mode?: number;
  uid?: number;
  gid?: number;
  /** Seconds since the epoch. */
  mtime?: number;
  size: number;
  /** Of a link, of either kind. */
  target?: string;
  /** Of a device node, "5:1". */
  device?: string;
  /** What an archive counts entries with; no file system that is unpacked from it shows it. */
  numbering?: { inode: number; links: number; device: string };
  /** Whatever else the entry's header says, for comparison alone. */
  raw?: string;
  data?: View;
  /** Hex. */
  sha256?: string;
}

/** Files as measurements.json lists them: no times, for the images of this toolkit all have one. */
export const measuredNodes = (files: MeasuredFile[]): Node[] =>
  files.map(({ path, type, mode, size = 0, sha256, target, uid = 0, gid = 0 }) => ({
    path,
    type,
    mode: Number.parseInt(mode, 8),
    uid,
    gid,
    size,
    ...(target === undefined ? {} : { target }),
    ...(sha256 === undefined ? {} : { sha256 }),
  }));

/** Hex; null where nobody knows. Kept, for a file is asked more than once. */
export function digestOf(node: Node): string | null {
  if (node.sha256 === undefined && node.data !== undefined) node.sha256 = sha256View(node.data);
  return node.sha256 ?? null;
}

const CHUNK = Buffer.alloc(1 << 20);

export function sha256View(view: View): string {
  const hash = createHash('sha256');
  for (let at = 0; at < view.size; at += CHUNK.length) {
    const piece = CHUNK.subarray(0, Math.min(CHUNK.length, view.size - at));
    view.read(piece, at);
    hash.update(piece);
  }
  return hash.digest('hex');
}
