import { constants, createReadStream, createWriteStream, lstatSync, mkdirSync, rmSync } from 'node:fs';
import { copyFile, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { usageError } from '../../core/errors.ts';
import { ioError } from '../../core/files.ts';
import { temporary } from '../../core/temporary.ts';

/**
 * Files that appear in a directory and never over something that is there. Until `keep` everything that was made is removed again,
 * with this process if need be.
 */
export class Placement {
  readonly #root: string;
  readonly #made: { path: string; keep: () => void }[] = [];

  constructor(root: string) {
    this.#root = root;
  }

  /** Throws `ERR_INIT_EXISTS` (exit 2) where there is something of that name. */
  async write(path: string, content: string | Buffer, mode = 0o644): Promise<void> {
    const target = this.#prepare(path);
    try {
      // O_EXCL: a link that somebody put there is not followed either.
      const handle = await open(target, 'wx', mode);
      this.#note(target);
      try {
        await handle.writeFile(content);
        await handle.chmod(mode);
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw explain(error, path);
    }
  }

  /** The same; false where there is something of that name, which is left alone. */
  async writeIfAbsent(path: string, content: string): Promise<boolean> {
    if (lstatSync(join(this.#root, path), { throwIfNoEntry: false }) !== undefined) return false;
    await this.write(path, content);
    return true;
  }

  /** Makes a directory that must not be there yet. */
  make(path: string): void {
    if (lstatSync(join(this.#root, path), { throwIfNoEntry: false }) !== undefined) throw exists(path);
    this.directory(path);
  }

  /** Copies a file, links followed; shares its blocks where the file system can. `onBytes` hears how many more are done. */
  async copy(from: string, path: string, onBytes: (count: number) => void): Promise<void> {
    const target = this.#prepare(path);
    try {
      // Noted first: a copy that is broken off leaves its beginning.
      if (lstatSync(target, { throwIfNoEntry: false }) !== undefined) throw exists(path);
      this.#note(target);
      if (await cloned(from, target)) return;
      // In pieces: one long system call would hold up an interrupt until its end.
      const read = createReadStream(from, { highWaterMark: PIECE });
      read.on('data', (chunk) => onBytes(chunk.length));
      await pipeline(read, createWriteStream(target, { flags: 'wx', mode: 0o644 }));
    } catch (error) {
      throw explain(error, path);
    }
  }

  /** Makes a directory of the project, and those above it, where there is none. */
  directory(path: string, mode = 0o755): void {
    const missing: string[] = [];
    for (let at = join(this.#root, path); lstatSync(at, { throwIfNoEntry: false }) === undefined; at = dirname(at))
      missing.unshift(at);
    try {
      for (const at of missing) {
        mkdirSync(at, { mode });
        this.#note(at);
      }
    } catch (error) {
      throw ioError(error, `cannot make the directory ${path}`);
    }
  }

  /** It stays. */
  keep(): void {
    for (const { keep } of this.#made.splice(0)) keep();
  }

  /** Nothing of it stays. */
  undo(): void {
    for (const { path, keep } of this.#made.splice(0).reverse()) {
      rmSync(path, { recursive: true, force: true });
      keep();
    }
  }

  #prepare(path: string): string {
    const target = join(this.#root, path);
    this.directory(dirname(path));
    return target;
  }

  #note(path: string): void {
    this.#made.push({ path, keep: temporary(path) });
  }
}

const PIECE = 1 << 20;

/** Most file systems cannot; what a failed attempt made, libuv removes. */
const cloned = (from: string, to: string): Promise<boolean> =>
  copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE).then(
    () => true,
    () => false,
  );

const exists = (path: string) =>
  usageError('ERR_INIT_EXISTS', `expected to make ${path}, found one; nothing that is there is overwritten`, {
    hint: 'move it away, or make the project in another directory',
  });

function explain(error: unknown, path: string): Error {
  return (error as NodeJS.ErrnoException).code === 'EEXIST' ? exists(path) : ioError(error, `cannot write ${path}`);
}
