import { open } from 'node:fs/promises';
import { ioError } from './files.ts';

/** The first bytes of a file, at most `length`: enough to tell what it may be. Throws as `ioError`. */
export async function readHead(path: string, length: number): Promise<Buffer> {
  try {
    const handle = await open(path);
    try {
      const buffer = Buffer.alloc(length);
      const { bytesRead } = await handle.read(buffer, 0, length, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw ioError(error, `cannot read ${path}`);
  }
}
