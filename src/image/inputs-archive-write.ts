import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { negativeError } from '../core/errors.ts';
import { ioError, writeFileAtomic } from '../core/files.ts';
import type { Digest } from './cache.ts';
import {
  ALGORITHMS,
  ARCHIVE_FILES,
  type ArchiveBlob,
  type BlobRole,
  digestText,
  encodeArchiveIndex,
  type ProjectEntry,
} from './inputs-archive.ts';

type Source = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Writes an archive of inputs into an empty directory. Modes are fixed; times are the file system's. */
export class InputsArchiveWriter {
  readonly #dir: string;
  readonly #blobs = new Map<string, ArchiveBlob>();
  readonly #project: ProjectEntry[] = [];

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async create(dir: string): Promise<InputsArchiveWriter> {
    for (const name of ALGORITHMS) await mkdir(join(dir, ARCHIVE_FILES.blobs, name), { recursive: true });
    return new InputsArchiveWriter(dir);
  }

  /** Adds an input. Throws `ERR_INPUT_DIGEST` (exit 3) where its bytes are not the digest's. */
  async add(name: string, digest: Digest, role: BlobRole, source: Source): Promise<void> {
    const text = digestText(digest);
    if (this.#blobs.has(text)) return;
    const size = await this.#write(name, digest, source);
    this.#blobs.set(text, { name, digest: text, size, role });
  }

  addDirectory = (path: string) => void this.#project.push({ path, type: 'dir' });
  addLink = (path: string, target: string) => void this.#project.push({ path, type: 'symlink', target });

  /** Adds a file of the project. `sha256`: hex. */
  async addFile(path: string, executable: boolean, sha256: string, source: Source): Promise<void> {
    const size = await this.#write(path, { algorithm: 'sha256', hex: sha256 }, source);
    this.#project.push({ path, type: 'file', executable, size, sha256 });
  }

  /** Writes what says what is there. */
  async finish(lock: Buffer): Promise<void> {
    const blobs = [...this.#blobs.values()];
    const index = encodeArchiveIndex({ version: 1, lock: hex(sha256(lock)), blobs, project: this.#project });
    await writeFileAtomic(join(this.#dir, ARCHIVE_FILES.lock), lock);
    await writeFileAtomic(join(this.#dir, ARCHIVE_FILES.index), index);
  }

  /** Returns the size. A blob that is there already is read over: somebody counts on its bytes being compared. */
  async #write(name: string, { algorithm, hex: expected }: Digest, source: Source): Promise<number> {
    const place = join(this.#dir, ARCHIVE_FILES.blobs, algorithm, expected);
    const out = existsSync(place) ? null : await open(place, 'wx', 0o644);
    const hash = createHash(algorithm);
    let size = 0;
    try {
      for await (const chunk of source) {
        hash.update(chunk);
        size += chunk.length;
        for (let done = 0; out !== null && done < chunk.length; ) done += (await out.write(chunk, done)).bytesWritten;
      }
      await out?.chmod(0o644);
    } catch (error) {
      throw ioError(error, `cannot write ${place}`);
    } finally {
      await out?.close();
    }
    const found = hash.digest('hex');
    if (found === expected) return size;
    await rm(place, { force: true });
    throw negativeError(
      'ERR_INPUT_DIGEST',
      `${name} changed while it was saved: expected ${expected}, found ${found}`,
      {
        details: { input: name, expected, found },
      },
    );
  }
}
