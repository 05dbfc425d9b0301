import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { type CpioEntry, type CpioHandler, CpioReader, type CpioReadOptions } from './cpio-read.ts';

/**
 * Unpacks an archive under `root`, an existing directory that nobody else writes to. Several archives may go to one
 * root, as the kernel unpacks the ramdisks of an image: a directory may be there already, anything else may not, and
 * no link is ever followed. Modes are set whatever the umask; owners are not (only uid = gid = 0 is accepted) and times
 * are not.
 *
 * Throws what `CpioReader` throws, `ERR_CPIO_EXISTS` and `ERR_CPIO_OWNER` (exit 2), `ERR_DISK_FULL`, `ERR_IO`. After a
 * failure part of the tree is there: the caller removes the root.
 */
export async function extractCpio(
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  root: string,
  options?: CpioReadOptions,
): Promise<void> {
  const sink = extractSink(root, options);
  try {
    for await (const chunk of chunks) sink.write(chunk);
    sink.end();
  } finally {
    sink.close();
  }
}

/** The same for bytes that are pushed: a sink of `streamEif`. Call `close` whatever happened. */
export function extractSink(root: string, options?: CpioReadOptions) {
  const extractor = new Extractor(root);
  const reader = new CpioReader(extractor, options);
  return {
    write: (chunk: Uint8Array): void => reader.write(chunk),
    end: (): void => {
      reader.end();
      extractor.finish();
    },
    close: (): void => extractor.close(),
  };
}

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Synchronous on purpose: into memory, a thread pool's round trips cost more than the writes. */
class Extractor implements CpioHandler {
  readonly #root: string;
  /** Set at the end, so that a directory without write permission can still be filled. */
  readonly #directoryModes: { path: string; mode: number }[] = [];
  #file: { fd: number; path: string } | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  entry(entry: CpioEntry): void {
    if (entry.uid !== 0 || entry.gid !== 0) {
      throw usageError('ERR_CPIO_OWNER', `archive: ${entry.path}: expected owner 0:0, found ${entry.uid}:${entry.gid}`);
    }
    const path = join(this.#root, entry.path);
    this.#try(entry.path, () => {
      if (entry.type === 'dir') this.#directory(path, entry);
      else if (entry.type === 'symlink') symlinkSync(entry.target ?? '', path);
      else this.#open(path, entry);
    });
  }

  data(chunk: Uint8Array): void {
    const file = this.#file;
    if (!file) return;
    this.#try(file.path, () => {
      for (let done = 0; done < chunk.length; ) done += writeSync(file.fd, chunk, done, chunk.length - done);
    });
  }

  done(): void {
    this.close();
  }

  finish(): void {
    for (const { path, mode } of this.#directoryModes.reverse()) this.#try(path, () => chmodSync(path, mode));
  }

  close(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file) closeSync(file.fd);
  }

  #directory(path: string, entry: CpioEntry): void {
    try {
      mkdirSync(path, 0o700);
    } catch (error) {
      // lstat: a link to a directory is not a directory.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !lstatSync(path).isDirectory()) throw error;
    }
    this.#directoryModes.push({ path, mode: entry.mode });
  }

  #open(path: string, entry: CpioEntry): void {
    const fd = openSync(path, NEW_FILE, entry.mode & 0o777);
    this.#file = { fd, path: entry.path };
    if ((fstatSync(fd).mode & 0o7777) !== entry.mode) fchmodSync(fd, entry.mode);
  }

  #try(path: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
        throw usageError('ERR_CPIO_EXISTS', `archive: ${path}: expected nothing there yet, found a file or link`);
      }
      throw ioError(error, `cannot unpack ${path}`);
    }
  }
}
