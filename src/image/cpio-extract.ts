import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lchownSync,
  linkSync,
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
 * no link is ever followed. Modes are set whatever the umask; times are not. What root owns in the archive belongs to
 * whoever unpacks; other owners are set where the system lets us, and left alone where it does not (an ordinary user, a
 * user namespace of one user), for then nobody else is there to be kept out.
 *
 * Throws what `CpioReader` throws, `ERR_CPIO_EXISTS` (exit 2), `ERR_DISK_FULL`, `ERR_IO`. After a failure part of the
 * tree is there: the caller removes the root.
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
  /** Modes and owners are set at the end, so that a directory without write permission can still be filled. */
  readonly #directories: { path: string; entry: CpioEntry }[] = [];
  #file: { fd: number; path: string } | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  entry(entry: CpioEntry): void {
    const path = join(this.#root, entry.path);
    this.#try(entry.path, () => {
      if (entry.type === 'dir') this.#directory(path, entry);
      else if (entry.type === 'symlink') {
        symlinkSync(entry.target ?? '', path);
        own(entry, (uid, gid) => lchownSync(path, uid, gid));
      } else if (entry.type === 'link') linkSync(join(this.#root, entry.target ?? ''), path);
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
    for (const { path, entry } of this.#directories.reverse()) {
      this.#try(entry.path, () => {
        own(entry, (uid, gid) => chownSync(path, uid, gid));
        chmodSync(path, entry.mode);
      });
    }
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
    this.#directories.push({ path, entry });
  }

  #open(path: string, entry: CpioEntry): void {
    const fd = openSync(path, NEW_FILE, entry.mode & 0o777);
    this.#file = { fd, path: entry.path };
    // Before the mode: a change of owner takes set-id bits away.
    own(entry, (uid, gid) => fchownSync(fd, uid, gid));
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

/** Gives an entry away where it has another owner than root: EPERM is an ordinary user, EINVAL an id that the namespace lacks. */
function own({ uid, gid }: CpioEntry, chown: (uid: number, gid: number) => void): void {
  if (uid === 0 && gid === 0) return;
  try {
    chown(uid, gid);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EPERM' && code !== 'EINVAL') throw error;
  }
}
