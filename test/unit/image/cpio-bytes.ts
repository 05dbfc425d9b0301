/** Hand-made archives: the writer under test refuses to make most of what the readers must refuse. */
export interface RawEntry {
  name: string | Buffer;
  mode?: number;
  body?: string | Buffer;
  nlink?: number;
  uid?: number;
  gid?: number;
  /** By default 1. */
  inode?: number;
  /** Instead of the true lengths. */
  size?: number;
  nameSize?: number;
}

export const DIR = 0o040755;
export const FILE = 0o100644;
export const LINK = 0o120777;

const pad4 = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);

export function rawEntry({
  name,
  mode = FILE,
  body = '',
  nlink = 1,
  uid = 0,
  gid = 0,
  inode = 1,
  size,
  nameSize,
}: RawEntry): Buffer {
  const nameBytes = Buffer.concat([Buffer.from(name as string), Buffer.alloc(1)]);
  const content = Buffer.from(body as string);
  const fields = [inode, mode, uid, gid, nlink, 0, size ?? content.length, 0, 0, 0, 0, nameSize ?? nameBytes.length, 0];
  const header = Buffer.from(`070701${fields.map((f) => f.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([pad4(Buffer.concat([header, nameBytes])), pad4(content)]);
}

export const rawArchive = (...entries: RawEntry[]): Buffer =>
  Buffer.concat([...entries.map(rawEntry), rawEntry({ name: 'TRAILER!!!', mode: 0 })]);

/** Pieces of `size` bytes in memory that is overwritten after use, as streams do. */
export function* pieces(bytes: Buffer, size: number): Generator<Uint8Array> {
  const memory = Buffer.alloc(size);
  for (let at = 0; at < bytes.length; at += size) {
    const length = bytes.copy(memory, 0, at, Math.min(at + size, bytes.length));
    yield memory.subarray(0, length);
    memory.fill(0xee);
  }
}

export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(Buffer.from(chunk));
  return Buffer.concat(all);
}
