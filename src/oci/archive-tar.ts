import { type FileHandle, open, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { ioError } from '../core/files.ts';
import { temporary } from '../core/temporary.ts';
import type { ArchiveFile, ArchiveFiles, ArchiveOptions } from './archive-files.ts';
import { indexTar, type TarFile } from './archive-index.ts';
import { fileRange, layerCompression, tooLarge } from './blobs.ts';
import { malformed } from './json.ts';

/** A compressed archive has no declared size: this one no disk of a build machine needs to hold. */
const MAX_UNPACKED = 64 * 2 ** 30;
/** Links between layers of `docker save` are one step. */
const MAX_LINKS = 8;

/** Takes over the handle. See openArchive. */
export async function openTarFiles(given: FileHandle, path: string, options: ArchiveOptions): Promise<ArchiveFiles> {
  let handle = given;
  let remove = async () => {};
  const close = async () => {
    await handle.close();
    await remove();
  };
  try {
    const start = Buffer.alloc(8);
    await given.read(start, 0, start.length, 0);
    const compression = layerCompression(start, path);
    if (compression !== 'none') {
      const plain = await decompress(given, compression, path, options);
      await given.close();
      ({ handle, remove } = plain);
    }
    const index = await indexTar(handle, path);
    return { find: async (name) => locate(index, name, handle, path), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Follows links, which never leave the archive: what is not in the index is not there. */
function locate(index: Map<string, TarFile>, name: string, handle: FileHandle, path: string): ArchiveFile | null {
  let at = name;
  for (let step = 0; step < MAX_LINKS; step++) {
    const found = index.get(at);
    if (found === undefined) return null;
    if (found.kind === 'file') return { size: found.size, bytes: () => fileRange(handle, found.offset, found.size) };
    at = found.target;
  }
  throw malformed(path, `"${name}" is a link that leads nowhere`);
}

async function decompress(from: FileHandle, compression: 'gzip' | 'zstd', path: string, options: ArchiveOptions) {
  const place = options.cache.temporary();
  const keep = temporary(place);
  const remove = async () => {
    await rm(place, { force: true });
    keep();
  };
  const handle = await open(place, 'wx+', 0o600).catch((error) => {
    throw ioError(error, `cannot write to the cache ${options.cache.dir}`);
  });
  try {
    const { size } = await from.stat();
    await pipeline(
      Readable.from(fileRange(from, 0, size), { objectMode: false }),
      compression === 'gzip' ? createGunzip({ chunkSize: 1 << 18 }) : createZstdDecompress({ chunkSize: 1 << 18 }),
      async (plain: AsyncIterable<Uint8Array>) => {
        let written = 0;
        for await (const chunk of plain) {
          if (written + chunk.length > MAX_UNPACKED) throw tooLarge(path, MAX_UNPACKED);
          await handle.write(chunk, 0, chunk.length, written);
          written += chunk.length;
        }
      },
      options.signal ? { signal: options.signal } : {},
    );
    return { handle, remove };
  } catch (error) {
    await handle.close();
    await remove();
    if (options.signal?.aborted) throw error;
    if (!/^Z_|^ZSTD_/.test(String((error as NodeJS.ErrnoException).code)))
      throw ioError(error, `cannot write to the cache ${options.cache.dir}`);
    throw malformed(path, `its ${compression} compression is broken`, error);
  }
}
