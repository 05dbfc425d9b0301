import { type FileHandle, open } from 'node:fs/promises';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { truncated } from './errors.ts';

/** Random access to a sealed model, wherever it is. */
export interface ByteSource {
  size: number;
  /** Exactly `length` bytes from `offset`, or `ERR_SEAL_TRUNCATED`. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A sealed model in a file. `fd` is for positional reads on other threads. */
export interface FileSource extends ByteSource {
  fd: number;
}

/** Throws `ERR_FILE_NOT_FOUND`, `ERR_FILE_KIND` (exit 2). */
export async function fileSource(path: string): Promise<FileSource> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    throw ioError(error, `cannot read the sealed model ${path}`);
  }
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw usageError('ERR_FILE_KIND', `the sealed model ${path} is not a regular file`);
  }
  return {
    fd: handle.fd,
    size: stat.size,
    async read(offset, length) {
      const buffer = Buffer.allocUnsafe(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await handle.read(buffer, done, length - done, offset + done);
        if (bytesRead === 0) throw truncated(`expected ${length} bytes at ${offset}, found ${done}`);
        done += bytesRead;
      }
      return buffer;
    },
    close: () => handle.close(),
  };
}
