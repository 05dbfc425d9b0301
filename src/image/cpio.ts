/**
 * The deterministic cpio writer: the same entries and mtime give the same bytes (build-manifest.md, "Reproducible
 * means").
 */
import { usageError } from '../core/errors.ts';
import {
  align4,
  CPIO_BLOCK,
  CPIO_HEADER,
  CPIO_TRAILER,
  type CpioType,
  encodeEntry,
  linkFlaw,
  nameFlaw,
  outside,
  parentOf,
  TYPE_BITS,
} from './cpio-format.ts';

const U32_MAX = 0xffffffff;

/** One entry of a file tree on its way into an archive. */
export interface TreeEntry {
  /** '/'-separated, relative, no '.', '..' or empty component. */
  path: string;
  type: CpioType;
  /** Permission bits, at most 0o7777; ignored for symlinks (always 0o777) and links (those of the file). */
  mode: number;
  /** Owner, by default 0; of a link the file's. At most 2^32 - 2: -1 means "as it is" to chown(2). */
  uid?: number;
  gid?: number;
  /** Of a symlink; of a link, the path of the file entry whose name it is too, which must sort before it. */
  target?: string;
  /** Bytes of content; 0 for anything but a file. */
  size: number;
  /** A file's content: exactly `size` bytes. May be left out where `size` is 0. */
  open?(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** Hex, where it is known; not looked at here. */
  sha256?: string;
}

/** Bytes of known length that can be produced when they are needed. */
export interface CpioArchive {
  size: number;
  chunks(): AsyncGenerator<Uint8Array>;
}

export interface CpioOptions {
  /** Seconds since the epoch, for every entry: SOURCE_DATE_EPOCH. */
  mtime: number;
}

/**
 * Plans an archive: sorts entries bytewise by path, numbers inodes from 1, and checks everything that can be checked
 * without the contents, so that `size` is known before a byte is written. Device 0, nlink 2 for directories, the number
 * of names for files, 1 for symlinks; padded to 512.
 *
 * The content of a file with several names goes with the first, as init/initramfs.c wants it (`maybe_link`: what comes
 * later with the same inode and nlink > 1 is linked to the first, and written only where it has content itself).
 *
 * Throws `ERR_CPIO_NAME`, `ERR_CPIO_DUPLICATE`, `ERR_CPIO_PARENT` (every parent must be an entry, and a directory),
 * `ERR_CPIO_HARDLINK` (a link to anything but an earlier file), `ERR_CPIO_TOO_LARGE` (fields are 32 bits), `ERR_CPIO_MALFORMED`; while streaming, `ERR_CPIO_CONTENT` if a file's
 * content is not `size` bytes long. All exit 2.
 */
export function cpioArchive(entries: Iterable<TreeEntry>, { mtime }: CpioOptions): CpioArchive {
  checkField(mtime, 'mtime', 'the archive');
  const sorted = [...entries]
    .map((entry) => ({ entry, name: Buffer.from(entry.path) }))
    .sort((a, b) => Buffer.compare(a.name, b.name));
  const types = new Map<string, CpioType>();
  /** Of files with more than one name: how many. */
  const names = new Map<string, number>();
  let size = 0;
  for (const { entry, name } of sorted) {
    checkEntry(entry, types);
    types.set(entry.path, entry.type);
    if (entry.type === 'link') names.set(entry.target ?? '', (names.get(entry.target ?? '') ?? 1) + 1);
    size += align4(CPIO_HEADER + name.length + 1) + align4(bodySize(entry));
  }
  size += align4(CPIO_HEADER + CPIO_TRAILER.length + 1);
  const padded = Math.ceil(size / CPIO_BLOCK) * CPIO_BLOCK;
  const ordered = sorted.map(({ entry }) => entry);
  return { size: padded, chunks: () => stream(ordered, names, mtime, padded - size) };
}

async function* stream(
  entries: TreeEntry[],
  names: Map<string, number>,
  mtime: number,
  padding: number,
): AsyncGenerator<Uint8Array> {
  const shared = new Map<string, ReturnType<typeof inodeFields>>();
  let number = 0;
  for (const entry of entries) {
    number++;
    const size = bodySize(entry);
    const known = entry.type === 'link' ? shared.get(entry.target ?? '') : undefined;
    const fields = known ?? inodeFields(entry, number, names.get(entry.path));
    if (names.has(entry.path)) shared.set(entry.path, fields);
    yield encodeEntry(entry.path, { ...fields, mtime, size });
    if (entry.type === 'symlink') yield Buffer.from(entry.target ?? '');
    else if (size > 0) yield* content(entry);
    if (size % 4 !== 0) yield Buffer.alloc(4 - (size % 4));
  }
  yield encodeEntry(CPIO_TRAILER, { inode: 0, mode: 0, uid: 0, gid: 0, nlink: 1, mtime: 0, size: 0 });
  if (padding > 0) yield Buffer.alloc(padding);
}

/** What every name of one inode has in common. */
function inodeFields({ type, mode, uid = 0, gid = 0 }: TreeEntry, inode: number, names = 1) {
  const bits = TYPE_BITS[type] | (type === 'symlink' ? 0o777 : mode);
  return { inode, mode: bits, uid, gid, nlink: type === 'dir' ? 2 : names };
}

async function* content(entry: TreeEntry): AsyncGenerator<Uint8Array> {
  let found = 0;
  for await (const chunk of entry.open?.() ?? []) {
    found += chunk.length;
    if (found > entry.size) break;
    yield chunk;
  }
  if (found !== entry.size) {
    const more = found > entry.size ? 'more' : `${found}`;
    throw usageError(
      'ERR_CPIO_CONTENT',
      `${entry.path}: expected ${entry.size} bytes of content, found ${more}; it changed while it was being read`,
    );
  }
}

function checkEntry(entry: TreeEntry, types: Map<string, CpioType>): void {
  const { path } = entry;
  const flaw = nameFlaw(Buffer.from(path)) ?? (path.isWellFormed() ? null : 'it is not well-formed Unicode');
  if (flaw !== null) throw usageError('ERR_CPIO_NAME', `cannot archive ${JSON.stringify(path)}: ${flaw}`);
  if (types.has(path)) throw usageError('ERR_CPIO_DUPLICATE', `two entries are called ${path}`);
  const parent = parentOf(path);
  if (parent !== null && types.get(parent) !== 'dir') {
    const found = types.get(parent) ?? 'nothing';
    throw usageError('ERR_CPIO_PARENT', `${path}: expected its parent ${parent} to be a directory, found ${found}`);
  }
  checkField(entry.size, 'size', path);
  checkField(entry.uid ?? 0, 'uid', path, U32_MAX - 1);
  checkField(entry.gid ?? 0, 'gid', path, U32_MAX - 1);
  if (!Number.isInteger(entry.mode) || entry.mode < 0 || entry.mode > 0o7777)
    throw usageError('ERR_CPIO_MALFORMED', `${path}: expected permission bits of at most 0o7777, found ${entry.mode}`);
  if (entry.type === 'symlink') {
    const targetFlaw = linkFlaw(Buffer.from(entry.target ?? ''));
    if (targetFlaw !== null) throw usageError('ERR_CPIO_NAME', `${path}: bad link target: ${targetFlaw}`);
  } else if (entry.type === 'link') {
    const found = types.get(entry.target ?? '');
    if (found !== 'file') {
      const what = `${path}: expected a hard link to an earlier file, found ${entry.target}, which is`;
      throw usageError('ERR_CPIO_HARDLINK', `${what} ${found === undefined ? 'none' : `a ${found}`}`);
    }
  } else if (entry.target !== undefined) {
    throw usageError('ERR_CPIO_MALFORMED', `${path}: only a link has a target`);
  }
  if (entry.type !== 'file' && entry.size !== 0 && entry.size !== bodySize(entry))
    throw usageError('ERR_CPIO_MALFORMED', `${path}: only a file has content`);
}

function checkField(value: number, field: string, what: string, max = U32_MAX): void {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw usageError('ERR_CPIO_TOO_LARGE', `${what}: expected a ${field} of 0 to ${max}, found ${value}`);
}

const bodySize = (entry: TreeEntry): number =>
  entry.type === 'symlink' ? Buffer.byteLength(entry.target ?? '') : entry.type === 'file' ? entry.size : 0;

/**
 * Refuses a tree that reaches beyond one top directory: the ramdisks of an image unpack into one tree, so an
 * application that could place `init` at the top would replace ours. Throws `ERR_CPIO_OUTSIDE` (exit 2).
 */
export function requireUnder(entries: Iterable<{ path: string; type: CpioType }>, top: string): void {
  for (const { path, type } of entries) {
    if (path.startsWith(`${top}/`) || (path === top && type === 'dir')) continue;
    throw outside(path, top);
  }
}
