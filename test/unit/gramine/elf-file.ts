/** A segment for `elfFile`; bigint where a test wants more than a number holds. */
export interface TestSegment {
  type?: number;
  flags?: number;
  offset: number | bigint;
  address: number | bigint;
  fileSize: number | bigint;
  memorySize: number | bigint;
}

/** An ELF64 file whose bytes after the headers are a pattern, so that no two pages are equal. */
export function elfFile(segments: TestSegment[], options: { size?: number; entry?: number | bigint } = {}): Buffer {
  const file = Buffer.alloc(options.size ?? 0x3000);
  for (let at = 0; at < file.length; at += 4) file.writeUInt32LE((at * 2654435761) >>> 0, at);
  file.fill(0, 0, 64);
  file.write('7f454c46020101', 'hex');
  file.writeUInt16LE(3, 16);
  file.writeUInt16LE(62, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(options.entry ?? 0x100), 24);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(segments.length, 56);
  for (const [index, { type = 1, flags = 4, offset, address, fileSize, memorySize }] of segments.entries()) {
    const at = 64 + index * 56;
    file.writeUInt32LE(type, at);
    file.writeUInt32LE(flags, at + 4);
    const fields = [offset, address, address, fileSize, memorySize, 0x1000];
    for (const [field, value] of fields.entries()) file.writeBigUInt64LE(BigInt(value), at + 8 + field * 8);
  }
  return file;
}

/** One page of code, two of data; can lie anywhere. */
export const smallPal = (): Buffer =>
  elfFile([
    { flags: 5, offset: 0, address: 0, fileSize: 0x1000, memorySize: 0x1000 },
    { flags: 6, offset: 0x1010, address: 0x1010, fileSize: 0x20, memorySize: 0x1010 },
  ]);
