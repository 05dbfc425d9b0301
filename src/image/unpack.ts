import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { extract, type Header } from 'tar-stream';
import { AtomaError, usageError } from '../core/errors.ts';
import { Cache } from './cache.ts';
import { type Compression, findDataMember } from './deb.ts';
import { LicenceWatch, storeLicence } from './licence.ts';
import type { Rule } from './lock-file.ts';
import { PathGuard } from './paths.ts';
import { type Selected, Selector } from './select.ts';
import type { TreeFile } from './tree.ts';
import { unxz } from './xz.ts';

/** One package to take the kept files out of. Plain data: it travels to a worker thread. */
export interface UnpackJob {
  kind: 'npm' | 'deb';
  /** Its digest has been compared with the lock. */
  archive: string;
  keep: Rule[];
  /** For error texts: "libc6@2.36". */
  what: string;
  cacheDir: string;
  /** Where to keep what states its licence. */
  licence?: string;
}

/** No package of ours is near it; a small file that inflates beyond is an attack. */
const MAX_UNPACKED = 8 * 2 ** 30;
/** Compressed files inside packages (kernel modules) are held in memory. */
const MAX_NESTED = 64 * 2 ** 20;

/**
 * Puts the kept files of a package into the cache and returns their list. Owners, times and links are never applied and
 * maintainer scripts never run: a package is only a source of bytes.
 * Throws `ERR_ARCHIVE_*`, `ERR_DEB_MALFORMED`, `ERR_INPUT_SELECTION` (exit 2).
 */
export async function unpack(job: UnpackJob): Promise<TreeFile[]> {
  const cache = await Cache.open(job.cacheDir);
  const selector = new Selector(job.keep, job.what);
  const guard = new PathGuard(job.what);
  const watch = new LicenceWatch(job.kind, job.what);
  const files: TreeFile[] = [];
  const nested: { selected: Selected; header: Header; bytes: Buffer }[] = [];
  const handle = await open(job.archive, 'r');
  const source = await tarStream(job, handle).catch(async (error) => {
    await handle.close();
    throw error;
  });
  try {
    const tar = extract();
    source.on('error', (error) => tar.destroy(error));
    source.pipe(tar);
    let unpacked = 0;
    for await (const entry of tar as AsyncIterable<Readable & { header: Header }>) {
      const { path, kind } = guard.check(entry.header);
      const inside = job.kind === 'npm' ? belowTop(path) : path;
      const selected = selector.select(inside);
      if (selected.length > 0 && kind !== 'file') throw notAFile(job.what, path);
      unpacked += entry.header.size ?? 0;
      if (unpacked > MAX_UNPACKED) throw tooLarge(job.what);
      const wanted = selected.filter((s) => !s.rule.unpack);
      const packed = selected.filter((s) => s.rule.unpack);
      const { type, size, linkname } = entry.header;
      const states = watch.wants(inside, type, size, linkname);
      if (selected.length === 0 && !states) entry.resume();
      else if (states || packed.length > 0 || wanted.length > 1) {
        const bytes = await collect(entry, job.what);
        if (states) watch.take(inside, bytes);
        for (const s of packed) nested.push({ selected: s, header: entry.header, bytes });
        for (const s of wanted) files.push(await store(cache, [bytes], s, entry.header));
      } else if (wanted[0]) files.push(await store(cache, entry, wanted[0], entry.header));
    }
    // After the outer stream: the xz library decompresses one stream at a time and would wait for ever.
    for (const { selected, header, bytes } of nested) {
      files.push(await store(cache, await unxz(Readable.from([bytes])), selected, header));
    }
  } catch (error) {
    if (error instanceof AtomaError || (error as NodeJS.ErrnoException).syscall !== undefined) throw error;
    throw usageError(
      'ERR_ARCHIVE_MALFORMED',
      `${job.what} cannot be unpacked: ${error instanceof Error ? error.message : error}`,
      {
        cause: error,
      },
    );
  } finally {
    // Also lets the xz library go on to the next stream.
    source.destroy();
    await handle.close();
  }
  selector.finish();
  if (job.licence !== undefined) await storeLicence(cache, job.licence, watch.document);
  return files;
}

async function tarStream({ kind, what }: UnpackJob, handle: FileHandle): Promise<Readable> {
  const { compression, offset, size } =
    kind === 'deb'
      ? await findDataMember(handle, what)
      : { compression: 'gz' as const, offset: 0, size: (await handle.stat()).size };
  if (size === 0) throw usageError('ERR_ARCHIVE_MALFORMED', `${what} cannot be unpacked: it is empty`);
  const range = { start: offset, end: offset + size - 1 };
  return decompress(
    compression,
    createReadStream('', { fd: handle, ...range, autoClose: false, highWaterMark: 1 << 18 }),
  );
}

async function decompress(compression: Compression, source: Readable): Promise<Readable> {
  if (compression === 'none') return source;
  if (compression === 'xz') return unxz(source);
  const through = compression === 'gz' ? createGunzip({ chunkSize: 1 << 18 }) : createZstdDecompress();
  source.on('error', (error) => through.destroy(error));
  return source.pipe(through);
}

/** npm's tarballs have everything below one directory, usually "package". */
const belowTop = (path: string): string => path.slice(path.indexOf('/') + 1);

async function store(
  cache: Cache,
  content: AsyncIterable<Uint8Array> | Uint8Array[],
  { rule, to }: Selected,
  header: Header,
): Promise<TreeFile> {
  const temporary = cache.temporary();
  const hash = createHash('sha256');
  let size = 0;
  const out = await open(temporary, 'wx', 0o644);
  try {
    for await (const chunk of content) {
      hash.update(chunk);
      size += chunk.length;
      if (size > MAX_UNPACKED) throw tooLarge(to);
      await out.write(chunk);
    }
    await out.close();
    const sha256 = hash.digest('hex');
    await cache.adopt(temporary, cache.filePath(sha256));
    const mode = rule.mode ?? ((header.mode ?? 0) & 0o100 ? '0755' : '0644');
    return { part: rule.part, path: to, mode, size, sha256 };
  } catch (error) {
    await out.close().catch(() => {});
    await rm(temporary, { force: true });
    throw error;
  }
}

async function collect(content: AsyncIterable<Uint8Array>, what: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of content) {
    size += chunk.length;
    if (size > MAX_NESTED) throw tooLarge(what);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const tooLarge = (what: string) => usageError('ERR_ARCHIVE_ENTRY', `${what} is larger than expected when unpacked`);

const notAFile = (what: string, path: string) =>
  usageError('ERR_INPUT_SELECTION', `${what}: "${path}" is not a regular file`, {
    hint: 'select the file that the link names',
  });
