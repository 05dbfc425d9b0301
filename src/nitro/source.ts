import { open } from 'node:fs/promises';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';

/** Random access to the bytes of an EIF, wherever they lie. */
export interface EifSource {
  size: number;
  /** Fills `target` from `offset`, wholly. Throws `ERR_EIF_TRUNCATED` (exit 2) where the bytes end before that. */
  read(target: Uint8Array, offset: number): Promise<void>;
  close(): Promise<void>;
}

/** Opens a regular file. Throws `ERR_FILE_NOT_FOUND`, `ERR_FILE_KIND` (exit 2). */
export async function fileSource(path: string): Promise<EifSource> {
  const handle = await open(path, 'r').catch((error) => {
    throw ioError(error, `cannot read the image ${path}`);
  });
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw usageError('ERR_FILE_KIND', `the image ${path} is not a regular file`);
  }
  return {
    size: stat.size,
    async read(target, offset) {
      for (let done = 0; done < target.length; ) {
        const { bytesRead } = await handle.read(target, done, target.length - done, offset + done).catch((error) => {
          throw ioError(error, `cannot read the image ${path}`);
        });
        if (bytesRead === 0) throw truncated(offset + target.length, offset + done);
        done += bytesRead;
      }
    },
    close: () => handle.close(),
  };
}

/** An EIF in memory. */
export const bytesSource = (bytes: Uint8Array): EifSource => ({
  size: bytes.length,
  async read(target, offset) {
    if (offset + target.length > bytes.length) throw truncated(offset + target.length, bytes.length);
    target.set(bytes.subarray(offset, offset + target.length));
  },
  async close() {},
});

/** Runs `use` on a path's file, which is closed afterwards, or on a source that stays the caller's. */
export async function withSource<T>(image: string | EifSource, use: (source: EifSource) => Promise<T>): Promise<T> {
  if (typeof image !== 'string') return use(image);
  const source = await fileSource(image);
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}

export const truncated = (expected: number, found: number) =>
  usageError('ERR_EIF_TRUNCATED', `truncated image: expected at least ${expected} bytes, found ${found}`);
