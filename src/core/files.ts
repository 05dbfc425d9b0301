import { constants } from 'node:fs';
import { type FileHandle, lstat, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AtomaError, usageError } from './errors.ts';
import { temporary } from './temporary.ts';

/**
 * A file that appears whole or not at all: written as PATH.partial (0600), synced, then renamed over PATH.
 * A PATH.partial left by a killed run is replaced by the next one.
 */
export class AtomicFile {
  readonly path: string;
  readonly partial: string;
  readonly handle: FileHandle;
  readonly #mode: number;
  readonly #keep: () => void;
  /** Of the partial file: which one it is, also when the handle is closed. */
  readonly #id: { ino: bigint; dev: bigint };

  private constructor(path: string, handle: FileHandle, mode: number, id: { ino: bigint; dev: bigint }) {
    this.path = path;
    const partial = partialOf(path);
    this.partial = partial;
    this.handle = handle;
    this.#mode = mode;
    this.#id = id;
    this.#keep = temporary(partial);
  }

  static async create(path: string, mode = 0o600): Promise<AtomicFile> {
    const partial = partialOf(path);
    try {
      await requireReplaceable(path);
      await rm(partial, { force: true });
      // O_EXCL | O_NOFOLLOW: nobody can plant a link for us to write through.
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      const handle = await open(partial, flags, 0o600);
      return new AtomicFile(path, handle, mode, await handle.stat({ bigint: true }));
    } catch (error) {
      throw ioError(error, `cannot write ${path}`);
    }
  }

  /** Makes the file appear. */
  async commit(): Promise<void> {
    try {
      await this.handle.chmod(this.#mode);
      await this.handle.sync();
      if (!(await this.isOurs())) throw busy(this.path);
      await this.handle.close();
      await rename(this.partial, this.path);
      this.#keep();
      await syncDirectory(dirname(this.path));
    } catch (error) {
      await this.abort();
      throw ioError(error, `cannot write ${this.path}`);
    }
  }

  /** Leaves nothing. Safe to call after a failed commit. */
  async abort(): Promise<void> {
    if (await this.isOurs()) await rm(this.partial, { force: true });
    await this.handle.close().catch(() => {});
    this.#keep();
  }

  /** False where a run that started later has replaced our partial file by its own. */
  async isOurs(): Promise<boolean> {
    try {
      const there = await lstat(this.partial, { bigint: true });
      return this.#id.ino === there.ino && this.#id.dev === there.dev;
    } catch {
      return false;
    }
  }
}

const partialOf = (path: string): string => `${path}.partial`;

const busy = (path: string) =>
  new AtomaError('unexpected', 'ERR_OUTPUT_BUSY', `another run is writing ${path} too; this one gave way`);

/**
 * A file takes the place of what has its name. That must not be a device, a pipe or a directory: renaming over /dev/null, as
 * root may, would take it from everybody on the machine.
 */
export async function requireReplaceable(path: string): Promise<void> {
  const there = await stat(path).catch(() => null);
  if (there === null || there.isFile()) return;
  const found = there.isDirectory() ? 'a directory' : 'a device, a pipe or a socket';
  throw usageError('ERR_OUTPUT_KIND', `expected to write the file ${path}, found ${found} of that name`);
}

/** Writes all of it or nothing. */
export async function writeFileAtomic(path: string, data: Uint8Array | string, mode = 0o644): Promise<void> {
  await withAtomicFile(path, (file) => file.handle.writeFile(data), mode);
}

/** Runs `write`; commits when it returns, leaves nothing when it throws. */
export async function withAtomicFile<T>(
  path: string,
  write: (file: AtomicFile) => Promise<T>,
  mode = 0o644,
): Promise<T> {
  const file = await AtomicFile.create(path, mode);
  let result: T;
  try {
    result = await write(file);
  } catch (error) {
    // What failed may have read the other run's half of a file.
    const ours = await file.isOurs();
    await file.abort();
    throw ours ? ioError(error, `cannot write ${path}`) : busy(path);
  }
  await file.commit();
  return result;
}

/** A shell's `<(command)` and standard input are pipes that somebody has opened for us. */
const isDescriptor = (path: string): boolean => /^\/(dev|proc)\//.test(path);

/**
 * Without waiting for a pipe that nobody writes to: such a thing in the place of a file would hold a command for ever, and
 * a thread that waits in open() survives even Ctrl-C.
 */
async function openReadable(path: string, what: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(path, isDescriptor(path) ? constants.O_RDONLY : constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw ioError(error, `cannot read the ${what} ${path}`);
  }
  const stat = await handle.stat();
  if (stat.isFile() || (isDescriptor(path) && (stat.isFIFO() || stat.isCharacterDevice()))) return handle;
  await handle.close();
  throw usageError('ERR_FILE_KIND', `the ${what} ${path} is not a regular file`);
}

/** Reads a whole small file; refuses missing, oversized and non-regular ones with exit 2. `what` is for people: "owner key". */
export async function readSmallFile(path: string, what: string, maxBytes = 1 << 20): Promise<Buffer> {
  const handle = await openReadable(path, what);
  try {
    const stat = await handle.stat();
    if (stat.size > maxBytes) {
      throw usageError(
        'ERR_FILE_TOO_LARGE',
        `the ${what} ${path} has ${stat.size} bytes; expected at most ${maxBytes}`,
      );
    }
    const buffer = Buffer.alloc(maxBytes + 1);
    let length = 0;
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    if (length > maxBytes)
      throw usageError('ERR_FILE_TOO_LARGE', `the ${what} ${path} has more than ${maxBytes} bytes`);
    return Buffer.from(buffer.subarray(0, length));
  } finally {
    await handle.close();
  }
}

/** Turns a Node I/O error into one with a code and a hint; passes our own through. */
export function ioError(error: unknown, doing: string): Error {
  if (error instanceof AtomaError || !(error instanceof Error)) return error as Error;
  const code = (error as NodeJS.ErrnoException).code;
  switch (code) {
    case 'ENOENT':
      return usageError('ERR_FILE_NOT_FOUND', `${doing}: no such file or directory`, { cause: error });
    case 'EISDIR':
    case 'ENOTDIR':
      return usageError(
        'ERR_FILE_KIND',
        `${doing}: ${code === 'EISDIR' ? 'it is a directory' : 'a part of the path is not a directory'}`,
        { cause: error },
      );
    case 'EACCES':
    case 'EPERM':
      return new AtomaError('unexpected', 'ERR_FILE_PERMISSION', `${doing}: permission denied`, { cause: error });
    case 'ENOSPC':
    case 'EDQUOT':
      return new AtomaError('unexpected', 'ERR_DISK_FULL', `${doing}: no space left on the device`, {
        cause: error,
        hint: 'free some space and run the same command again; nothing was left half-written',
      });
    default:
      return code === undefined ? error : new AtomaError('unexpected', 'ERR_IO', `${doing}: ${code}`, { cause: error });
  }
}

/** Makes a rename in a directory last. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
