import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { AtomaError } from '../core/errors.ts';
import { ioError, requireReplaceable, syncDirectory } from '../core/files.ts';
import { alive } from '../core/staging.ts';

/**
 * A file that comes to be in several runs: OUT.pull.partial between them. While a run writes it, it has a name with the run's process
 * id, so that no two write the same one; what a killed run left is taken over. It has no journal: what it holds is compared with
 * what it has to be. Readable by all like the result, it may hold nothing secret.
 */
export class PartialFile {
  readonly handle: FileHandle;
  /** Whether it has bytes of an earlier run. */
  readonly resumed: boolean;
  readonly #out: string;
  readonly #path: string;

  private constructor(out: string, path: string, handle: FileHandle, resumed: boolean) {
    this.#out = out;
    this.#path = path;
    this.handle = handle;
    this.resumed = resumed;
  }

  /** `size` bytes; an earlier run's is taken over only where it has that size and begins with `head`. */
  static async claim(out: string, size: number, head: Uint8Array): Promise<PartialFile> {
    const path = join(dirname(out), `.${basename(out)}.${process.pid}-${randomBytes(6).toString('hex')}.pull.partial`);
    try {
      await requireReplaceable(out);
      for (const left of [restingPath(out), ...(await leftBehind(out))]) {
        // Whoever renames it has it.
        if (
          !(await rename(left, path).then(
            () => true,
            () => false,
          ))
        )
          continue;
        const handle = await takeOver(path, size, head);
        if (handle !== null) return new PartialFile(out, path, handle, true);
        await rm(path, { force: true, recursive: true });
      }
      // O_EXCL | O_NOFOLLOW: nobody can plant a link for us to write through.
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      const handle = await open(path, flags, 0o644);
      const file = new PartialFile(out, path, handle, false);
      try {
        await handle.truncate(size);
        await file.write(head, 0);
      } catch (error) {
        await file.discard();
        throw error;
      }
      return file;
    } catch (error) {
      throw ioError(error, `cannot write ${out}`);
    }
  }

  /** Throws as the file system does. */
  async write(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; )
      done += (await this.handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }

  /** Makes the file appear under its name. */
  async commit(): Promise<void> {
    try {
      await this.handle.chmod(0o644);
      await this.handle.sync();
      await this.handle.close();
      await requireReplaceable(this.#out);
      await rename(this.#path, this.#out);
      await syncDirectory(dirname(resolve(this.#out)));
    } catch (error) {
      throw ioError(error, `cannot write ${this.#out}`);
    }
  }

  /** Leaves it for the next run. */
  async keep(): Promise<void> {
    await this.handle.close().catch(() => {});
    await rename(this.#path, restingPath(this.#out)).catch(() => {});
  }

  async discard(): Promise<void> {
    await this.handle.close().catch(() => {});
    await rm(this.#path, { force: true });
  }
}

const restingPath = (out: string): string => `${out}.pull.partial`;

/** Those of runs that were killed: of processes that are no more. */
async function leftBehind(out: string): Promise<string[]> {
  const prefix = `.${basename(out)}.`;
  const names = await readdir(dirname(out));
  return names.flatMap((name) => {
    const pid = name.startsWith(prefix) && /^(\d+)-[0-9a-f]{12}\.pull\.partial$/.exec(name.slice(prefix.length))?.[1];
    return pid && !alive(Number(pid)) ? [join(dirname(out), name)] : [];
  });
}

/** Null where it is not ours, not a file of its own, or of another sealed model. */
async function takeOver(path: string, size: number, head: Uint8Array): Promise<FileHandle | null> {
  const there = await lstat(path);
  if (!there.isFile() || there.nlink !== 1 || there.uid !== process.getuid?.() || there.size !== size) return null;
  const handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
  const found = Buffer.alloc(head.length);
  const { bytesRead } = await handle.read(found, 0, found.length, 0);
  if (bytesRead === head.length && found.equals(head)) return handle;
  await handle.close();
  return null;
}

/** Whether what came before an error can be of use to another run: not where the registry turned out to lie. */
export const mayGoOn = (error: unknown): boolean => !(error instanceof AtomaError) || error.exitCode !== 3;
