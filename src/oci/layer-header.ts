/**
 * Headers of a layer's tar: POSIX ustar and pax (IEEE Std 1003.1, pax, "ustar Interchange Format" and "pax Extended Header"),
 * GNU's base-256 numbers and long names (tar manual, "Basic Tar Format"). Pure; hostile bytes.
 */
export const TAR_BLOCK = 512;

/** A header as it stands; names are bytes, for what is not UTF-8 must be seen and not repaired. */
export interface RawHeader {
  /** As a character; a NUL of old archives is '0'. */
  type: string;
  name: Buffer;
  linkname: Buffer;
  mode: number;
  uid: number;
  gid: number;
  size: number;
}

/** What pax records say about the next entry. */
export interface PaxFields {
  path?: Buffer;
  linkpath?: Buffer;
  size?: number;
  uid?: number;
  gid?: number;
  /** Extended attributes (SCHILY.xattr.*, LIBARCHIVE.xattr.*). */
  xattrs?: boolean;
  /** GNU's sparse formats 0.0 to 1.0 hide the true name and content behind such records. */
  sparse?: boolean;
}

/** Reads one block. A text says what is wrong with it. */
export function parseHeader(block: Buffer): RawHeader | string {
  const stated = tarNumber(block.subarray(148, 156));
  if (stated !== checksum(block)) return 'a header is damaged (its checksum is wrong)';
  const [mode, uid, gid, size] = [
    [100, 108],
    [108, 116],
    [116, 124],
    [124, 136],
  ].map(([from, to]) => tarNumber(block.subarray(from, to)));
  if (mode === undefined || uid === undefined || gid === undefined || size === undefined) return 'a header is cut';
  if (mode === null || uid === null || gid === null || size === null)
    return 'a header holds something else than numbers';
  const plain = cString(block.subarray(0, 100));
  // Only ustar has a prefix; in GNU's format other fields are there.
  const prefix =
    block.toString('latin1', 257, 263) === 'ustar\0' ? cString(block.subarray(345, 500)) : plain.subarray(0, 0);
  const name = prefix.length > 0 ? Buffer.concat([prefix, Buffer.from('/'), plain]) : Buffer.from(plain);
  const type = block[156] === 0 ? '0' : String.fromCharCode(block[156] ?? 0);
  return { type, name, linkname: Buffer.from(cString(block.subarray(157, 257))), mode, uid, gid, size };
}

/** Reads the records "LENGTH KEY=VALUE\n" of an extended header. A text says what is wrong with them. */
export function parsePax(bytes: Buffer): PaxFields | string {
  const fields: PaxFields = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space === -1 || space - at > 8 ? '' : bytes.toString('latin1', at, space);
    const length = /^[1-9][0-9]*$/.test(digits) ? Number(digits) : 0;
    // Without a length nothing would move on.
    if (length === 0) return 'an extended header is malformed';
    const record = bytes.subarray(space + 1, at + length - 1);
    const equals = record.indexOf(0x3d);
    if (at + length > bytes.length || space + 1 >= at + length || bytes[at + length - 1] !== 0x0a || equals < 1)
      return 'an extended header is malformed';
    const flaw = addRecord(fields, record.toString('latin1', 0, equals), record.subarray(equals + 1));
    if (flaw !== null) return flaw;
    at += length;
  }
  return fields;
}

function addRecord(fields: PaxFields, key: string, value: Buffer): string | null {
  if (key === 'path' || key === 'linkpath') {
    if (value.includes(0)) return `an extended header has a NUL in ${key}`;
    if (value.length > 0) fields[key] = Buffer.from(value);
  } else if (key === 'size' || key === 'uid' || key === 'gid') {
    const number = Number(value.toString('latin1'));
    if (!/^[0-9]{1,16}$/.test(value.toString('latin1')) || !Number.isSafeInteger(number))
      return `an extended header has a bad ${key}`;
    fields[key] = number;
  } else if (key.startsWith('SCHILY.xattr.') || key.startsWith('LIBARCHIVE.xattr.')) fields.xattrs = true;
  else if (key.startsWith('GNU.sparse.')) fields.sparse = true;
  return null;
}

/** Up to the first NUL. */
export function cString(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

/** Octal digits between spaces and NULs, or base-256 after a byte 0x80; null for anything else, negative numbers too. */
function tarNumber(field: Buffer): number | null {
  if (field[0] !== undefined && field[0] >= 0x80) {
    if (field[0] !== 0x80) return null;
    let value = 0;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
    return Number.isSafeInteger(value) ? value : null;
  }
  const digits = field.toString('latin1').replace(/^[ \0]+|[ \0]+$/g, '');
  if (digits === '') return 0;
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : null;
}

/** Sum of all bytes, those of the sum itself taken as spaces. */
function checksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < TAR_BLOCK; i++) if (i < 148 || i >= 156) sum += block[i] ?? 0;
  return sum;
}
