import { createHash, hash as hashOf, randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { cacheDirectory } from '../core/cache-directory.ts';
import { ioError } from '../core/files.ts';
import type { Rule } from './lock-file.ts';
import { decodeTree, type TreeFile } from './tree.ts';

const CHUNK = 1 << 20;
/** Read at once and without the thread pool, whose round trips cost more; images have ten thousands of such files. */
const SMALL = 1 << 18;
const STALE_MS = 24 * 60 * 60 * 1000;

/** A digest as it names an archive: algorithm and lower-case hex. */
export interface Digest {
  algorithm: 'sha256' | 'sha512';
  hex: string;
}

/** A package, what is kept of it, and the digest of the list of kept files, as one entry of a lock pins them. */
export interface TreePin {
  archive: Digest;
  keep: Rule[];
  tree: string;
}

/** Thrown while reading; the entry is still there. Whoever catches it evicts and provides the inputs again. */
export class CacheCorruption extends Error {
  /** The damaged file of the cache. */
  readonly place: string;
  /** `what` is for people: the path of the file that was being read. */
  constructor(what: string, place: string) {
    super(`the cached copy of ${what} is not what its name says`);
    this.place = place;
  }
}

/** A file inside another one of the cache: an image's, in the tar of its layer. */
export interface CachePart {
  /** For people. */
  path: string;
  /** Bytes from the start of the file that holds it. */
  offset: number;
  size: number;
  /** Hex. */
  sha256: string;
}

/**
 * Packages and the files that were taken out of them, each named by its digest, under $XDG_CACHE_HOME/atoma-tee.
 * Nothing in it is believed: every reader compares what it read with the name. Entries appear by renaming, so any
 * number of processes can share a cache.
 *
 * archives/ALGORITHM-HEX  a package as fetched
 * trees/HEX               the list of kept files of a package (tree.ts), by the digest of all that it follows from
 * files/HEX               a kept file
 * licences/ALGORITHM-HEX  what states the licence of a package (licence.ts), by the package's digest
 * layers/sha256-HEX       a layer of a container image, uncompressed, by its diff id
 * images/HEX              the list of a container image's files (oci/flatten-listing.ts), by the digest of all that it follows from
 */
export class Cache {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async open(dir: string = cacheDirectory(process.env)): Promise<Cache> {
    const cache = new Cache(dir);
    try {
      for (const name of ['archives', 'trees', 'files', 'licences', 'layers', 'images', 'tmp'])
        await mkdir(join(dir, name), { recursive: true, mode: 0o700 });
    } catch (error) {
      throw ioError(error, `cannot use the cache ${dir}`);
    }
    await cache.#sweep();
    return cache;
  }

  /** A fresh path on the cache's own file system, to write to and rename from. */
  temporary(): string {
    return join(this.dir, 'tmp', `${process.pid}-${randomBytes(8).toString('hex')}`);
  }

  archivePath = ({ algorithm, hex }: Digest): string => join(this.dir, 'archives', `${algorithm}-${hex}`);
  licencePath = ({ algorithm, hex }: Digest): string => join(this.dir, 'licences', `${algorithm}-${hex}`);
  filePath = (digest: string): string => join(this.dir, 'files', digest);
  /** By the hex of the diff id. */
  layerPath = (digest: string): string => join(this.dir, 'layers', `sha256-${digest}`);
  imagePath = (name: string): string => join(this.dir, 'images', name);
  /** By the package too: a list that came out of another one, under a lock that names this one, is not believed. */
  #treePath = ({ archive, keep, tree }: TreePin): string =>
    join(this.dir, 'trees', hex(sha256(Buffer.from(JSON.stringify([archive.algorithm, archive.hex, keep, tree])))));

  /** Puts a finished temporary file in place. The caller has computed the digest while writing it. */
  async adopt(temporary: string, place: string): Promise<void> {
    try {
      await rename(temporary, place);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EISDIR') throw error;
      // Nobody of ours makes directories there.
      await rm(place, { recursive: true, force: true });
      await rename(temporary, place);
    }
  }

  /** The path of a package whose bytes have just been compared with its digest; null (and removed) otherwise. */
  async archive(digest: Digest): Promise<string | null> {
    const path = this.archivePath(digest);
    const found = await hashFile(path, digest.algorithm);
    if (found === digest.hex) return path;
    if (found !== null) await rm(path, { force: true });
    return null;
  }

  /** The kept files of a package, if the list and all files are there; contents are compared when they are read. */
  async tree(pin: TreePin): Promise<TreeFile[] | null> {
    const bytes = await readCached(this.#treePath(pin));
    if (bytes === null || hex(sha256(bytes)) !== pin.tree) return null;
    const files = decodeTree(bytes);
    if (files === null) return null;
    for (const file of files) {
      const found = await stat(this.filePath(file.sha256)).catch(() => null);
      if (found === null || found.size !== file.size) return null;
    }
    return files;
  }

  async addTree(pin: TreePin, bytes: Uint8Array): Promise<void> {
    const temporary = this.temporary();
    await writeFile(temporary, bytes);
    await this.adopt(temporary, this.#treePath(pin));
  }

  /** Reads a kept file. Throws CacheCorruption at its end, or earlier, if it is not the file of that digest. */
  read = (file: TreeFile): AsyncGenerator<Uint8Array> =>
    this.readPart(this.filePath(file.sha256), { ...file, offset: 0 });

  /** Reads part of a file of the cache, compared with its digest as `read` does. */
  async *readPart(place: string, part: CachePart): AsyncGenerator<Uint8Array> {
    const damaged = () => new CacheCorruption(part.path, place);
    if (part.size <= SMALL) {
      const data = readSmallPart(place, part);
      if (data === null || hashOf('sha256', data, 'hex') !== part.sha256) throw damaged();
      yield data;
      return;
    }
    const handle = await openCached(place);
    if (handle === null) throw damaged();
    const hash = createHash('sha256');
    let left = part.size;
    try {
      while (left > 0) {
        const chunk = Buffer.allocUnsafe(Math.min(CHUNK, left));
        const { bytesRead } = await handle.read(chunk, 0, chunk.length, part.offset + part.size - left);
        if (bytesRead === 0) throw damaged();
        left -= bytesRead;
        const data = chunk.subarray(0, bytesRead);
        hash.update(data);
        // The last chunk is held back until the digest is known to be right.
        if (left === 0 && hash.digest('hex') !== part.sha256) throw damaged();
        yield data;
      }
    } finally {
      await handle.close();
    }
  }

  async evict({ place }: CacheCorruption): Promise<void> {
    await rm(place, { recursive: true, force: true });
  }

  /** What killed runs have left: old by the file system's own clock, for this process's may be years ahead of it. */
  async #sweep(): Promise<void> {
    const dir = join(this.dir, 'tmp');
    const names = await readdir(dir).catch(() => []);
    if (names.length === 0) return;
    const probe = this.temporary();
    await writeFile(probe, '').catch(() => {});
    const now = (await stat(probe).catch(() => null))?.mtimeMs ?? 0;
    await rm(probe, { force: true });
    for (const name of names) {
      const found = await stat(join(dir, name)).catch(() => null);
      const stale = found !== null && now - found.mtimeMs > STALE_MS;
      if (stale) await rm(join(dir, name), { recursive: true, force: true }).catch(() => {});
    }
  }
}

function readSmallPart(place: string, { offset, size }: CachePart): Buffer | null {
  let fd: number;
  try {
    fd = openSync(place, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    const data = Buffer.allocUnsafe(size);
    for (let done = 0; done < size; ) {
      const read = readSync(fd, data, done, size - done, offset + done);
      if (read === 0) return null;
      done += read;
    }
    return data;
  } catch {
    // A directory, say.
    return null;
  } finally {
    closeSync(fd);
  }
}

/**
 * Opens an entry of the cache for reading; null if there is none, or something that is no regular file (a FIFO would be
 * waited for without end).
 */
export async function openCached(path: string): Promise<FileHandle | null> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => null);
  if (handle === null) return null;
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  return null;
}

/** All of an entry, or null. */
export async function readCached(path: string): Promise<Buffer | null> {
  const handle = await openCached(path);
  if (handle === null) return null;
  try {
    return await handle.readFile();
  } catch {
    return null;
  } finally {
    await handle.close();
  }
}

/** Hex digest of a file, or null if it cannot be opened. */
export async function hashFile(path: string, algorithm: string): Promise<string | null> {
  const handle = await openCached(path);
  if (handle === null) return null;
  try {
    const hash = createHash(algorithm);
    const buffer = Buffer.allocUnsafe(CHUNK);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, CHUNK, null);
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
}
