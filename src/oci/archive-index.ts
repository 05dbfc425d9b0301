import type { FileHandle } from 'node:fs/promises';
import { posix } from 'node:path';
import { malformed, shown } from './json.ts';

/** A file's place in a tar, or what a link of it names (normalised, inside the archive). */
export type TarFile = { kind: 'file'; offset: number; size: number } | { kind: 'link'; target: string };

const BLOCK = 512;
const MAX_ENTRIES = 100_000;
/** A long name or a set of pax records. */
const MAX_EXTRA = 1 << 20;

/**
 * Lists the regular files and links of an uncompressed tar by their names, reading headers only. Formats: POSIX ustar
 * and pax (IEEE Std 1003.1, "pax Interchange Format") and GNU's long names and large sizes.
 * Refuses, with `ERR_OCI_MALFORMED` (exit 2): a file that is no tar or ends early, the same name twice, names and links
 * that leave the archive, too many entries.
 */
export async function indexTar(handle: FileHandle, path: string): Promise<Map<string, TarFile>> {
  const { size: end } = await handle.stat();
  const files = new Map<string, TarFile>();
  const header = Buffer.alloc(BLOCK);
  let next: Extra = {};
  for (let at = 0, count = 0; at < end; count++) {
    if (count >= MAX_ENTRIES) throw malformed(path, `it has more than ${MAX_ENTRIES} entries`);
    const { bytesRead } = await handle.read(header, 0, BLOCK, at);
    if (bytesRead < BLOCK) throw malformed(path, 'it ends inside a header');
    if (header.every((byte) => byte === 0)) break;
    if (checksum(header) !== number(header.subarray(148, 156)))
      throw malformed(path, count === 0 ? 'it is not a tar archive' : `the header at byte ${at} is damaged`);
    const type = String.fromCharCode(header[156] ?? 0);
    const isExtra = 'xgLK'.includes(type);
    const size = (isExtra ? undefined : next.size) ?? number(header.subarray(124, 136));
    const data = at + BLOCK;
    // Links and directories have no content, whatever their size field says.
    const length = '123456'.includes(type) ? 0 : size;
    if (length === null || data + length > end) throw malformed(path, 'it ends early, or an entry is larger than it');
    at = data + Math.ceil(length / BLOCK) * BLOCK;
    if (isExtra) {
      if (length > MAX_EXTRA) throw malformed(path, `an extended header has ${length} bytes`);
      const bytes = Buffer.alloc(length);
      await handle.read(bytes, 0, length, data);
      if (type === 'x') next = { ...next, ...pax(bytes, path) };
      else if (type !== 'g') next = { ...next, [type === 'L' ? 'path' : 'linkpath']: cString(bytes) };
      continue;
    }
    const name = inside(next.path ?? ustarName(header), '', path);
    const target = next.linkpath ?? cString(header.subarray(157, 257));
    next = {};
    const file = fileOf(type, name, target, data, length, path);
    if (file === null) continue;
    if (files.has(name)) throw malformed(path, `it has "${shown(name)}" twice`);
    files.set(name, file);
  }
  return files;
}

interface Extra {
  path?: string;
  linkpath?: string;
  size?: number;
}

function fileOf(
  type: string,
  name: string,
  target: string,
  offset: number,
  size: number,
  path: string,
): TarFile | null {
  if (type === '0' || type === '\0' || type === '7') return { kind: 'file', offset, size };
  // A hard link's target counts from the archive's root, a symbolic link's from where the link is.
  if (type === '1') return { kind: 'link', target: inside(target, '', path) };
  if (type === '2') return { kind: 'link', target: inside(target, posix.dirname(name), path) };
  return null;
}

function inside(name: string, dir: string, path: string): string {
  const joined = posix.join(dir, name).replace(/^\.\/|\/$/g, '');
  if (name.startsWith('/') || joined === '..' || joined.startsWith('../') || name.includes('\0'))
    throw malformed(path, `"${shown(name)}" leaves the archive`);
  return joined;
}

/** Records of the form "LENGTH KEY=VALUE\n", LENGTH counting itself. */
function pax(bytes: Buffer, path: string): Extra {
  const extra: Extra = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const length = Number(bytes.toString('latin1', at, Math.min(space, at + 10)));
    const stop = at + length;
    if (space === -1 || !Number.isInteger(length) || length < 5 || stop > bytes.length || bytes[stop - 1] !== 0x0a)
      throw malformed(path, 'an extended header is damaged');
    const record = bytes.toString('utf8', space + 1, stop - 1);
    const equals = record.indexOf('=');
    const [key, value] = [record.slice(0, equals), record.slice(equals + 1)];
    if (key === 'path' || key === 'linkpath') extra[key] = value;
    if (key === 'size') {
      if (!/^\d{1,15}$/.test(value)) throw malformed(path, 'an extended header has a size that is none');
      extra.size = Number(value);
    }
    at = stop;
  }
  return extra;
}

function ustarName(header: Buffer): string {
  const name = cString(header.subarray(0, 100));
  const prefix = header.toString('latin1', 257, 263) === 'ustar\0' ? cString(header.subarray(345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

const cString = (field: Buffer): string => {
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end === -1 ? field.length : end);
};

/** Octal digits, or GNU's big-endian binary with the top bit set. Null for anything else. */
function number(field: Buffer): number | null {
  if ((field[0] ?? 0) & 0x80) {
    let value = BigInt((field[0] ?? 0) & 0x7f);
    for (const byte of field.subarray(1)) value = (value << 8n) | BigInt(byte);
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : null;
  }
  const text = field
    .toString('latin1')
    .replace(/[\0 ]+$/, '')
    .trim();
  return /^[0-7]*$/.test(text) ? Number.parseInt(text || '0', 8) : null;
}

/** The sum of a header's bytes, its own field counted as spaces. */
function checksum(header: Buffer): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i] ?? 0;
  return sum;
}
