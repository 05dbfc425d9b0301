import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { Cache } from '../image/cache.ts';
import { openTarFiles } from './archive-tar.ts';
import { fileRange } from './blobs.ts';

/** A file of an archive. */
export interface ArchiveFile {
  size: number;
  bytes(): AsyncIterable<Uint8Array>;
}

/** Files by name, in a directory or in a tar. Names are relative, in their one form ("blobs/sha256/HEX"). */
export interface ArchiveFiles {
  find(name: string): Promise<ArchiveFile | null>;
  close(): Promise<void>;
}

export interface ArchiveOptions {
  cache: Cache;
  signal?: AbortSignal | undefined;
  /** Names in a directory must then be the caller's own, not an archive's: they are not checked. */
  directory: boolean;
}

/**
 * Opens a directory, a tar or a compressed tar. Nothing is unpacked, except that a compressed one is decompressed to a
 * temporary file in the cache, which closing removes.
 * Throws `ERR_FILE_*`, `ERR_OCI_MALFORMED`, `ERR_OCI_UNSUPPORTED`, `ERR_OCI_TOO_LARGE`.
 */
export async function openArchive(path: string, options: ArchiveOptions): Promise<ArchiveFiles> {
  const found = await stat(path).catch((error) => {
    throw ioError(error, `cannot read the container image ${path}`);
  });
  return found.isDirectory() && options.directory
    ? directoryFiles(path)
    : openTarFiles(await openRegular(path), path, options);
}

const directoryFiles = (dir: string): ArchiveFiles => ({
  async find(name) {
    const path = join(dir, name);
    const found = await stat(path).catch((error) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw ioError(error, `cannot read ${path}`);
    });
    if (found === null) return null;
    return {
      size: found.size,
      async *bytes() {
        const handle = await openRegular(path);
        try {
          // As large as it was found: who trusts a size that changes meanwhile trusts nothing.
          yield* fileRange(handle, 0, found.size);
        } finally {
          await handle.close();
        }
      },
    };
  },
  close: async () => {},
});

/** Never waits for whoever might write to a FIFO. */
async function openRegular(path: string): Promise<FileHandle> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error) => {
    throw ioError(error, `cannot read the container image ${path}`);
  });
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw usageError('ERR_FILE_KIND', `${path} is not a regular file`);
}
