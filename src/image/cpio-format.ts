/**
 * The archive format of a ramdisk: SVR4 "newc" cpio, uncompressed (Linux Documentation/driver-api/early-userspace/
 * buffer-format.rst; read by init/initramfs.c). `cpio.ts` writes it, `cpio-read.ts` reads it.
 */
import { type AtomaError, usageError } from '../core/errors.ts';

export const CPIO_MAGIC = '070701';
export const CPIO_HEADER = 110;
export const CPIO_TRAILER = 'TRAILER!!!';
/** Whole archives are padded to this, so that ramdisks can be laid end to end. */
export const CPIO_BLOCK = 512;
/** PATH_MAX with its NUL; init/initramfs.c silently skips an entry whose name or link target is longer. */
export const PATH_MAX = 4096;
/** NAME_MAX of Linux file systems. */
export const NAME_MAX = 255;
/** A 'link' is one more name of an earlier file: the format knows it by the inode, not by the type. */
export const TYPE_BITS = { file: 0o100000, dir: 0o040000, symlink: 0o120000, link: 0o100000 } as const;
export type CpioType = keyof typeof TYPE_BITS;

/** The fields of an entry's header that mean something; the others are zero. */
export interface CpioFields {
  inode: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  mtime: number;
  size: number;
  /** Major and minor number of the device that the inode is on, "0:0" in what we write. */
  device: string;
  /** With the NUL. */
  nameSize: number;
}

/** Header, NUL-terminated name and padding. Fields in the order of `struct cpio_newc_header`, eight hex digits each. */
export function encodeEntry(path: string, fields: Omit<CpioFields, 'nameSize' | 'device'>): Buffer {
  const { inode, mode, uid, gid, nlink, mtime, size } = fields;
  const name = Buffer.from(path);
  const bytes = Buffer.alloc(align4(CPIO_HEADER + name.length + 1));
  // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
  const all = [inode, mode, uid, gid, nlink, mtime, size, 0, 0, 0, 0, name.length + 1, 0];
  bytes.write(CPIO_MAGIC + all.map((f) => f.toString(16).padStart(8, '0')).join(''), 'latin1');
  name.copy(bytes, CPIO_HEADER);
  return bytes;
}

/** `struct cpio_newc_header`: the magic and thirteen fields of eight hex digits. */
export function parseFields(bytes: Buffer): CpioFields {
  const text = bytes.toString('latin1');
  if (!text.startsWith(CPIO_MAGIC)) {
    throw badArchive(
      'MAGIC',
      `expected an entry to start with ${CPIO_MAGIC}, found ${bytes.subarray(0, 6).toString('hex')}`,
    );
  }
  if (!/^[0-9a-fA-F]+$/.test(text)) throw badArchive('MALFORMED', 'expected hexadecimal digits in an entry header');
  const field = (i: number) => Number.parseInt(text.slice(6 + 8 * i, 14 + 8 * i), 16);
  const nameSize = field(11);
  if (nameSize < 1 || nameSize > PATH_MAX) {
    throw badArchive('NAME', `expected a name of 1 to ${PATH_MAX} bytes, found ${nameSize}`);
  }
  return {
    inode: field(0),
    mode: field(1),
    uid: field(2),
    gid: field(3),
    nlink: field(4),
    mtime: field(5),
    size: field(6),
    device: `${field(7)}:${field(8)}`,
    nameSize,
  };
}

/** Why a name cannot be an entry's, or null. Shared with the reader. */
export function nameFlaw(name: Buffer): string | null {
  if (name.length === 0) return 'the name is empty';
  if (name.length >= PATH_MAX) return `the name has ${name.length} bytes, expected fewer than ${PATH_MAX}`;
  if (name.includes(0)) return 'the name holds a NUL';
  const text = name.toString('latin1');
  if (text === CPIO_TRAILER) return 'the name is the one that ends an archive';
  for (const part of text.split('/')) {
    if (part === '' || part === '.' || part === '..') return `expected no empty, '.' or '..' component`;
    if (part.length > NAME_MAX) return `a component has ${part.length} bytes, expected at most ${NAME_MAX}`;
  }
  return null;
}

/** Why bytes cannot be a link's target, or null. Where it points is not judged: nothing here follows links. */
export function linkFlaw(target: Buffer): string | null {
  if (target.length === 0) return 'it is empty';
  if (target.length >= PATH_MAX) return `it has ${target.length} bytes, expected fewer than ${PATH_MAX}`;
  if (target.includes(0)) return 'it holds a NUL';
  return null;
}

/** The path of the directory that holds `path`, or null at the top. */
export function parentOf(path: string): string | null {
  const slash = path.lastIndexOf('/');
  return slash === -1 ? null : path.slice(0, slash);
}

export const align4 = (n: number): number => Math.ceil(n / 4) * 4;

/** The error of `requireUnder`, for readers that check while they stream. */
export const outside = (path: string, top: string) =>
  usageError('ERR_CPIO_OUTSIDE', `expected every entry to lie in the directory ${top}/, found ${path}`);

export const badArchive = (what: string, message: string): AtomaError =>
  usageError(`ERR_CPIO_${what}`, `archive: ${message}`);
