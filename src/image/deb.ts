import type { FileHandle } from 'node:fs/promises';
import { usageError } from '../core/errors.ts';

const MAGIC = '!<arch>\n';
const HEADER = 60;
/** debian-binary, control.tar, data.tar, and room for what deb(5) lets come between. */
const MAX_MEMBERS = 16;

export type Compression = 'none' | 'gz' | 'xz' | 'zst';

/** Where the file tree of a package lies in its archive. */
export interface DataMember {
  compression: Compression;
  offset: number;
  size: number;
}

/**
 * Finds data.tar in a Debian binary package (deb(5), format 2.0; the container is ar(5)).
 * Throws `ERR_DEB_MALFORMED` (exit 2).
 */
export async function findDataMember(handle: FileHandle, what: string): Promise<DataMember> {
  const fail = (why: string) => usageError('ERR_DEB_MALFORMED', `${what} is not a Debian package: ${why}`);
  const { size: total } = await handle.stat();
  const read = async (offset: number, length: number): Promise<string> => {
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await handle.read(buffer, 0, length, offset);
    if (bytesRead !== length) throw fail(`it ends at ${total} bytes`);
    return buffer.toString('latin1');
  };

  if ((await read(0, MAGIC.length)) !== MAGIC) throw fail('no ar magic');
  let offset = MAGIC.length;
  for (let index = 0; index < MAX_MEMBERS && offset < total; index++) {
    const header = await read(offset, HEADER);
    const name = header.slice(0, 16).trimEnd().replace(/\/$/, '');
    const digits = header.slice(48, 58).trimEnd();
    if (header.slice(58) !== '`\n' || !/^[0-9]{1,10}$/.test(digits)) throw fail(`bad member header at ${offset}`);
    const size = Number(digits);
    const start = offset + HEADER;
    if (start + size > total) throw fail(`member "${printable(name)}" goes beyond its end`);
    if (index === 0) {
      if (name !== 'debian-binary' || size > 64) throw fail('its first member is not debian-binary');
      const version = await read(start, size);
      if (!version.startsWith('2.')) throw fail('expected format version 2.x');
    }
    const compression = COMPRESSION[name];
    if (compression !== undefined) return { compression, offset: start, size };
    if (name.startsWith('data.tar')) throw fail(`cannot decompress ${printable(name)}`);
    offset = start + size + (size % 2);
  }
  throw fail('it has no data.tar');
}

const COMPRESSION: Record<string, Compression> = {
  'data.tar': 'none',
  'data.tar.gz': 'gz',
  'data.tar.xz': 'xz',
  'data.tar.zst': 'zst',
};

const printable = (name: string): string => JSON.stringify(name).slice(1, -1);
