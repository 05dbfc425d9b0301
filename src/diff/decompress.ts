import { mkdtempSync, openSync, rmdirSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, type Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { isZero } from '../core/bytes.ts';
import { ioError } from '../core/files.ts';
import { unxz } from '../image/xz.ts';
import { type OpenView, readSome, type View, viewOf } from './view.ts';

/** How a part was compressed, as its first bytes say. */
export interface Compression {
  name: string;
  /** What the compressor noted: "made 2026-01-01T00:00:00Z", "of initrd.cpio". */
  notes: { what: 'time' | 'name' | 'level' | 'system'; value: string }[];
}

/** Deflate cannot do better than 1032 to 1, and no honest ramdisk comes near: what says so is a bomb. */
const MAX_RATIO = 200;
const ALWAYS_ALLOWED = 64 << 20;
const MAX_BYTES = 16 * 2 ** 30;

const MAGICS: [name: string, start: number[]][] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]],
  ['lz4', [0x02, 0x21, 0x4c, 0x18]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['lzma', [0x5d, 0, 0]],
  ['lzo', [0x89, 0x4c, 0x5a, 0x4f]],
];

export function compressionOf(view: View): Compression | null {
  const head = readSome(view, 0, 512);
  const name = MAGICS.find(([, start]) => start.every((byte, i) => head[i] === byte))?.[0];
  return name === undefined ? null : { name, notes: name === 'gzip' ? gzipNotes(head) : [] };
}

/** RFC 1952, section 2.3: flags, time, extra flags, system; then perhaps the name of the file. */
export function gzipNotes(head: Buffer): Compression['notes'] {
  if (head.length < 10) return [];
  const [flags, seconds, extra, system] = [head[3] ?? 0, head.readUInt32LE(4), head[8] ?? 0, head[9] ?? 0];
  const nameEnd = (flags & 0x0c) === 0x08 ? head.indexOf(0, 10) : -1;
  return [
    { what: 'time', value: seconds === 0 ? 'none' : new Date(seconds * 1000).toISOString() },
    { what: 'name', value: nameEnd === -1 ? 'none' : head.toString('latin1', 10, nameEnd) },
    { what: 'level', value: extra === 2 ? 'best' : extra === 4 ? 'fastest' : `${extra}` },
    { what: 'system', value: system === 3 ? 'Unix' : system === 255 ? 'unknown' : `${system}` },
  ];
}

/**
 * What a compressed part holds up to the end of its (first) stream: zlib passes over in silence what lies behind that, which a
 * kernel unpacks all the same, so that it is a problem that is told. In a file that has no name any more: it is gone when this process is. Bounded: a part that
 * unpacks to more than 200 times its size (or 64 MiB, whichever is more) is taken for a bomb, and told as a problem, like
 * bytes that do not unpack; nothing is thrown for what the bytes say.
 */
export async function decompress(
  view: View,
  { name }: Compression,
): Promise<{ view: OpenView; behind?: string } | { problem: string }> {
  const limit = Math.min(MAX_BYTES, Math.max(ALWAYS_ALLOWED, view.size * MAX_RATIO));
  const source = Readable.from(chunks(view));
  const stream = await decompressor(name, source);
  if (stream === null) return { problem: `it is compressed by ${name}, which is not unpacked here` };
  const fd = namelessFile();
  let size = 0;
  try {
    for await (const chunk of stream) {
      const bytes = chunk as Uint8Array;
      size += bytes.length;
      if (size > limit) {
        return fail(fd, `${view.size} bytes of ${name} unpack to more than ${limit}: it was not unpacked any further`);
      }
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, null);
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const full = code === 'ENOSPC' || code === 'EDQUOT';
    const { problem } = fail(fd, `its ${name} does not unpack: ${message}`);
    if (full) throw ioError(error, `cannot unpack into ${tmpdir()}`);
    return { problem };
  } finally {
    source.destroy();
    stream.destroy();
  }
  const end = (stream as { bytesWritten?: number }).bytesWritten ?? view.size;
  const behind = restIsZero(view, end) ? undefined : `${view.size - end} bytes behind its ${name} were not looked at`;
  return { view: viewOf(fd, size, 'an unpacked part'), ...(behind === undefined ? {} : { behind }) };
}

/** Archives are padded. */
function restIsZero(view: View, from: number): boolean {
  for (let at = from; at < view.size; at += 1 << 18) if (!isZero(readSome(view, at, 1 << 18))) return false;
  return true;
}

async function decompressor(name: string, source: Readable): Promise<Readable | null> {
  const through = (transform: Transform) => {
    source.on('error', (error) => transform.destroy(error));
    return source.pipe(transform);
  };
  if (name === 'gzip') return through(createGunzip({ chunkSize: 1 << 18 }));
  if (name === 'zstd') return through(createZstdDecompress({ chunkSize: 1 << 18 }));
  return name === 'xz' ? unxz(source) : null;
}

function* chunks(view: View): Generator<Buffer> {
  for (let at = 0; at < view.size; at += 1 << 18) yield readSome(view, at, 1 << 18);
}

function fail(fd: number, problem: string): { problem: string } {
  viewOf(fd, 0, '').close();
  return { problem };
}

/** Nobody else ever sees it, whatever happens to this process. */
function namelessFile(): number {
  try {
    const directory = mkdtempSync(join(tmpdir(), 'atoma-tee-'));
    const path = join(directory, 'part');
    const fd = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    rmdirSync(directory);
    return fd;
  } catch (error) {
    throw ioError(error, `cannot write to ${tmpdir()}`);
  }
}
