import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, type Header } from 'tar-stream';
import { AtomaError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { PathGuard } from '../image/paths.ts';
import { toolEnvironment } from './tools.ts';

/** The whole source has 1.6 GB; what inflates beyond this is something else. */
const MAX_UNPACKED = 4 * 2 ** 30;
const MAX_FILE = 128 * 2 ** 20;

/**
 * Two thirds of the source are drivers, other processors and documents that no symbol of ours can reach. Of those
 * directories only what Kconfig and make read stays.
 */
const LEFT_OUT =
  /^(?:arch\/(?!x86\/|Kconfig)|Documentation\/|drivers\/(?:gpu|media|staging|infiniband|scsi|iio|usb)\/|drivers\/net\/(?:ethernet|wireless)\/|samples\/|sound\/|tools\/(?:perf|testing)\/)/;
const BUILD_FILE = /(?:^|\/)(?:Kconfig[^/]*|Makefile[^/]*|Kbuild)$/;

export interface SourceArchive {
  /** Bytes of the tar.xz. */
  size: number;
  chunks(): AsyncIterable<Uint8Array>;
}

/**
 * Unpacks a kernel's source below `dir`, without the archive's top directory. Decompressing is the machine's xz (three
 * times as fast as ours); every path is checked and written here, as this user and with two modes, whatever the archive
 * says. Throws `ERR_ARCHIVE_*` (exit 2) and `ERR_DISK_FULL`.
 */
export async function unpackSource(archive: SourceArchive, dir: string, onProgress?: OnProgress): Promise<void> {
  const xz = spawn('xz', ['--decompress', '--stdout'], { env: toolEnvironment(), stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = once(xz, 'close') as Promise<[number | null]>;
  const tar = extract();
  const aborted = new AbortController();
  const { signal } = aborted;
  const feeding = pipeline(Readable.from(progressing(archive, onProgress)), xz.stdin, { signal });
  const piping = pipeline(xz.stdout, tar, { signal });
  try {
    const [, , , [status]] = await Promise.all([
      feeding,
      piping,
      writeEntries(tar as AsyncIterable<Entry>, dir),
      ended,
    ]);
    if (status !== 0) throw malformed('xz cannot decompress it');
  } catch (error) {
    aborted.abort(error);
    xz.kill('SIGKILL');
    await Promise.allSettled([feeding, piping, ended]);
    if (error instanceof AtomaError || !(error instanceof Error)) throw error;
    if ((error as NodeJS.ErrnoException).syscall !== undefined && !isBrokenPipe(error)) {
      throw ioError(error, `cannot write to ${dir}`);
    }
    throw malformed(error.message);
  }
}

type Entry = Readable & { header: Header };

async function writeEntries(tar: AsyncIterable<Entry>, dir: string): Promise<void> {
  const guard = new PathGuard('the kernel source');
  const made = new Set<string>();
  let total = 0;
  for await (const entry of tar) {
    const { path, kind } = guard.check(entry.header);
    const inside = path.slice(path.indexOf('/') + 1);
    total += entry.header.size ?? 0;
    if (total > MAX_UNPACKED || (entry.header.size ?? 0) > MAX_FILE) throw malformed('it is larger than any kernel');
    if (!path.includes('/') || kind === 'dir' || (LEFT_OUT.test(inside) && !BUILD_FILE.test(inside))) {
      entry.resume();
      continue;
    }
    const place = join(dir, inside);
    if (!made.has(dirname(place))) made.add(dirname(place)) && (await mkdir(dirname(place), { recursive: true }));
    if (kind === 'link') {
      entry.resume();
      if (entry.header.type !== 'symlink') throw malformed(`"${inside}" is a hard link`);
      await symlink(entry.header.linkname ?? '', place);
    } else {
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry) chunks.push(chunk as Uint8Array);
      const mode = (entry.header.mode ?? 0) & 0o100 ? 0o755 : 0o644;
      await writeFile(place, Buffer.concat(chunks), { flag: 'wx', mode });
    }
  }
}

async function* progressing({ size, chunks }: SourceArchive, onProgress?: OnProgress) {
  let done = 0;
  for await (const chunk of chunks()) {
    done += chunk.length;
    onProgress?.({ phase: 'unpacking the kernel source', done, total: size });
    yield chunk;
  }
}

/** Of xz, which has given up. */
const isBrokenPipe = (error: Error): boolean => (error as NodeJS.ErrnoException).code === 'EPIPE';

const malformed = (why: string) => usageError('ERR_ARCHIVE_MALFORMED', `the kernel source cannot be unpacked: ${why}`);
