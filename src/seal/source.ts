import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { truncated } from './errors.ts';

/** Random access to a sealed model, wherever it is. */
export interface ByteSource {
  size: number;
  /** Exactly `length` bytes from `offset`, or `ERR_SEAL_TRUNCATED`. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Fills `into` from `offset`, or `ERR_SEAL_TRUNCATED`; for those that can do that without a copy. */
  readInto?(offset: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Fills `into` from `offset`. */
export async function readInto(source: ByteSource, offset: number, into: Uint8Array): Promise<void> {
  if (source.readInto) return source.readInto(offset, into);
  into.set(await source.read(offset, into.length));
}

/** A sealed model in a file. `fd` is for positional reads on other threads. */
export interface FileSource extends ByteSource {
  fd: number;
}

/** Throws `ERR_FILE_NOT_FOUND`, `ERR_FILE_KIND` (exit 2). */
export async function fileSource(path: string): Promise<FileSource> {
  let handle: FileHandle;
  try {
    // A pipe that nobody writes to would hold the command for ever.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw ioError(error, `cannot read the sealed model ${path}`);
  }
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw usageError('ERR_FILE_KIND', `the sealed model ${path} is not a regular file`);
  }
  const fill = async (offset: number, into: Uint8Array): Promise<void> => {
    const { length } = into;
    for (let done = 0; done < length; ) {
      const { bytesRead } = await handle.read(into, done, length - done, offset + done);
      if (bytesRead === 0) throw truncated(`expected ${length} bytes at ${offset}, found ${done}`);
      done += bytesRead;
    }
  };
  return {
    fd: handle.fd,
    size: stat.size,
    readInto: fill,
    async read(offset, length) {
      const buffer = Buffer.allocUnsafe(length);
      await fill(offset, buffer);
      return buffer;
    },
    close: () => handle.close(),
  };
}
