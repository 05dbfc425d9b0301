import { isZero } from '../core/bytes.ts';
import { align4, CPIO_HEADER, CPIO_TRAILER, PATH_MAX } from '../image/cpio-format.ts';
import { NODE_TYPES, type Node } from './nodes.ts';
import { slice, type View, windowed } from './view.ts';

/** What could be read of an archive, and where that ends. */
export interface ArchiveIndex {
  nodes: Node[];
  /** Bytes that were understood. */
  read: number;
  /** Why nothing behind that was. */
  problem?: string;
}

/** Honest images have thousands of entries; memory grows with them. */
const MAX_ENTRIES = 500_000;
const MAGICS = ['070701', '070702'];
const HEADER_FIELDS = 13;

/**
 * Lists a newc archive (Linux Documentation/driver-api/early-userspace/buffer-format.rst) by its headers alone; contents are
 * looked at when they are compared. It takes whatever the kernel would, of others' tools too: devices, entries without
 * their directories, one name twice, archives laid end to end. `CpioReader` refuses those, which is right for what is to be
 * started and wrong for what is to be explained. It never throws for what the bytes say.
 */
export function indexArchive(bytes: View): ArchiveIndex {
  const view = windowed(bytes);
  const nodes: Node[] = [];
  let at = 0;
  const stop = (problem: string): ArchiveIndex => ({ nodes: linked(nodes), read: at, problem });
  const header = Buffer.alloc(CPIO_HEADER);
  while (at < view.size) {
    if (view.size - at < CPIO_HEADER) {
      if (restIsZero(view, at)) break;
      return stop(`the archive ends inside an entry header, at byte ${at}`);
    }
    view.read(header, at);
    const magic = header.toString('latin1', 0, 6);
    if (!MAGICS.includes(magic)) {
      if (header[0] === 0 && nodes.length > 0) {
        const next = skipZeros(view, at);
        if (next === view.size) break;
        at = next;
        continue;
      }
      return stop(`expected an archive entry at byte ${at}, found ${header.toString('hex', 0, 6)}`);
    }
    const fields = parseHeader(header);
    if (fields === null) return stop(`expected hexadecimal digits in the entry header at byte ${at}`);
    const [ino, mode, uid, gid, nlink, mtime, size, , , , , nameSize, check] = fields as number[] & { length: 13 };
    if (!nameSize || nameSize > PATH_MAX) return stop(`an entry at byte ${at} has a name of ${nameSize} bytes`);
    const data = align4(at + CPIO_HEADER + nameSize);
    const end = align4(data + (size ?? 0));
    if (data + (size ?? 0) > view.size) return stop(`the entry at byte ${at} ends behind the end of the archive`);
    const name = Buffer.alloc(nameSize - 1);
    view.read(name, at + CPIO_HEADER);
    if (name.toString('latin1') !== CPIO_TRAILER) {
      if (nodes.length >= MAX_ENTRIES) return stop(`it has more than ${MAX_ENTRIES} entries`);
      const bits = mode ?? 0;
      const type = NODE_TYPES.get(bits & 0o170000) ?? 'unknown';
      const content = slice(view, data, size ?? 0);
      nodes.push({
        path: pathOf(name),
        type,
        mode: bits & 0o7777,
        uid: uid ?? 0,
        gid: gid ?? 0,
        mtime: mtime ?? 0,
        size: type === 'symlink' ? 0 : (size ?? 0),
        ...(type === 'symlink' ? { target: readTarget(content) } : { data: content }),
        ...(type === 'char' || type === 'block' ? { device: `${fields[9]}:${fields[10]}` } : {}),
        numbering: { inode: ino ?? 0, links: nlink ?? 0, device: `${fields[7]}:${fields[8]}` },
        raw: `${magic} ${check} ${name.toString('latin1')}`,
      });
    }
    at = Math.min(end, view.size);
  }
  return { nodes: linked(nodes), read: view.size };
}

function parseHeader(header: Buffer): number[] | null {
  const text = header.toString('latin1');
  if (!/^[0-9a-fA-F]+$/.test(text)) return null;
  return Array.from({ length: HEADER_FIELDS }, (_, i) => Number.parseInt(text.slice(6 + 8 * i, 14 + 8 * i), 16));
}

/** "./etc/passwd" and "/etc/passwd" are etc/passwd, as they are to the kernel that unpacks at the top. */
function pathOf(name: Buffer): string {
  const text = name.toString('utf8');
  const known = Buffer.from(text).equals(name) ? text : name.toString('latin1');
  return known.replace(/^(\.?\/+)+/, '').replace(/\/+$/, '') || '.';
}

function readTarget(content: View): string {
  const bytes = Buffer.alloc(Math.min(content.size, PATH_MAX));
  content.read(bytes, 0);
  return bytes.toString('utf8');
}

/** Names of one file: GNU cpio writes its content with the last, others with the first; all but that one are empty. */
function linked(nodes: Node[]): Node[] {
  const groups = Map.groupBy(
    nodes.filter(({ type, numbering }) => type === 'file' && (numbering?.links ?? 1) > 1),
    ({ numbering }) => `${numbering?.device} ${numbering?.inode}`,
  );
  for (const group of groups.values()) {
    // An empty file's content is with none of its names.
    const holder = group.find(({ size }) => size > 0) ?? group[0];
    for (const node of group) {
      if (holder === undefined || node === holder || node.size > 0) continue;
      node.type = 'link';
      node.target = holder.path;
      delete node.data;
    }
  }
  return nodes;
}

function skipZeros(view: View, from: number): number {
  const chunk = Buffer.alloc(4096);
  for (let at = from; at < view.size; at += chunk.length) {
    const piece = chunk.subarray(0, Math.min(chunk.length, view.size - at));
    view.read(piece, at);
    const found = piece.findIndex((byte) => byte !== 0);
    if (found !== -1) return at + found;
  }
  return view.size;
}

function restIsZero(view: View, at: number): boolean {
  const rest = Buffer.alloc(view.size - at);
  view.read(rest, at);
  return isZero(rest);
}
