import type { PfSource, PfTarget, PfVersion } from '../../../src/gramine/pf/index.ts';
import { ProtectedFileWriter } from '../../../src/gramine/pf/index.ts';

export const wrapKey = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');

/** A file in memory. */
export class MemoryFile implements PfSource, PfTarget {
  bytes = Buffer.alloc(0);

  get size(): number {
    return this.bytes.length;
  }
  // One name for what a source and a target have: told apart by the first argument.
  read = ((into: number | Buffer, at: number, length?: number, position?: number) => {
    if (typeof into === 'number') return Promise.resolve(this.bytes.subarray(into, into + at));
    const bytesRead = this.bytes.copy(into, at, position, (position ?? 0) + (length ?? 0));
    return Promise.resolve({ bytesRead, buffer: into });
  }) as PfSource['read'] & PfTarget['read'];
  write = ((from: Uint8Array, at: number, length: number, position: number) => {
    if (position + length > this.bytes.length) {
      this.bytes = Buffer.concat([this.bytes, Buffer.alloc(position + length - this.bytes.length)]);
    }
    this.bytes.set(from.subarray(at, at + length), position);
    return Promise.resolve({ bytesWritten: length, buffer: from });
  }) as PfTarget['write'];
}

export const source = (bytes: Uint8Array): PfSource => ({
  size: bytes.length,
  read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
});

/** The protected file with this data, as its writer makes it from pieces of `step` bytes. */
export async function protect(data: Uint8Array, version: PfVersion = 2, path = 'a/b', step = 100_000): Promise<Buffer> {
  const file = new MemoryFile();
  const writer = new ProtectedFileWriter(file, { wrapKey, path, size: data.length, version });
  for (let at = 0; at < data.length; at += step) await writer.write(data.subarray(at, at + step));
  await writer.finish();
  return file.bytes;
}

/** Bytes of which no two nodes are alike. */
export function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(at, at);
  return bytes;
}
