import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { missingError, negativeError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import type { Cache, Digest } from './cache.ts';
import {
  ALGORITHMS,
  ARCHIVE_FILES,
  type ArchiveBlob,
  type ArchiveIndex,
  digestText,
  parseArchiveIndex,
  parseDigestText,
} from './inputs-archive.ts';

const CHUNK = 1 << 20;
const MAX_INDEX = 256 << 20;
const MAX_LOCK = 16 << 20;
/** So many bad blobs are told by name; the number of all is. */
const TOLD = 20;

/** An archive whose index and lock have been read. */
export interface InputsArchive {
  dir: string;
  index: ArchiveIndex;
  /** The lock's bytes, as the index pins them. */
  lock: Buffer;
}

/**
 * Opens an archive of inputs. Links inside it are refused, files that it does not list are not looked at.
 * Throws `ERR_INPUTS_MALFORMED`, `ERR_FILE_*` (exit 2), `ERR_INPUTS_DAMAGED` (exit 3) for a lock that is not the index's.
 */
export async function openInputsArchive(dir: string): Promise<InputsArchive> {
  for (const name of ['', ARCHIVE_FILES.blobs, ...ALGORITHMS.map((name) => join(ARCHIVE_FILES.blobs, name))]) {
    await requireDirectory(dir, name);
  }
  const index = parseArchiveIndex(await readPlain(join(dir, ARCHIVE_FILES.index), MAX_INDEX));
  const lock = await readPlain(join(dir, ARCHIVE_FILES.lock), MAX_LOCK);
  const found = hex(sha256(lock));
  if (found !== index.lock)
    throw damaged(dir, [`${ARCHIVE_FILES.lock} (expected sha256 ${index.lock}, found ${found})`]);
  return { dir, index, lock };
}

/**
 * Puts every blob where builds look for it: into the cache, each compared with its digest on the way. The whole archive is
 * read, so that all bad blobs are named at once; no bad one gets in.
 *
 * Throws `ERR_INPUTS_DAMAGED` (exit 3), `ERR_INPUTS_INCOMPLETE` (exit 5) where blobs are missing and the others are right.
 */
export async function importInputs(
  { dir, index }: InputsArchive,
  cache: Cache,
  onProgress?: OnProgress,
): Promise<void> {
  const bad: string[] = [];
  const missing: string[] = [];
  const total = index.blobs.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const blob of index.blobs) {
    const flaw = await copyBlob(dir, blob, cache.temporary(), (temporary) =>
      cache.adopt(temporary, placeOf(cache, blob)),
    );
    if (flaw !== null) (flaw === 'missing' ? missing : bad).push(`${blob.name}: ${blob.digest} is ${flaw}`);
    done += blob.size;
    onProgress?.({ phase: 'reading the archive of inputs', done, total });
  }
  if (bad.length > 0) throw damaged(dir, [...bad, ...missing]);
  if (missing.length > 0) throw incomplete(dir, missing);
}

/**
 * Writes the project's own files below `to`, which exists and is empty. Throws `ERR_INPUTS_DAMAGED` (exit 3),
 * `ERR_INPUTS_INCOMPLETE` (exit 5).
 */
export async function unpackProject({ dir, index, lock }: InputsArchive, to: string): Promise<void> {
  const bad: string[] = [];
  for (const entry of index.project) {
    const place = join(to, entry.path);
    await mkdir(entry.type === 'dir' ? place : dirname(place), { recursive: true, mode: 0o700 });
    if (entry.type === 'symlink') await symlink(entry.target, place);
    if (entry.type !== 'file') continue;
    const digest: Digest = { algorithm: 'sha256', hex: entry.sha256 };
    const blob = { name: entry.path, digest: digestText(digest), size: entry.size };
    const flaw = await copyBlob(dir, blob, place, async () => {}, entry.executable ? 0o700 : 0o600);
    if (flaw !== null) bad.push(`${entry.path}: ${blob.digest} is ${flaw}`);
  }
  if (bad.length > 0) throw damaged(dir, bad);
  await writeNew(join(to, ARCHIVE_FILES.lock), lock);
}

function placeOf(cache: Cache, { digest, role }: ArchiveBlob): string {
  const parsed = parseDigestText(digest);
  if (role === 'archive') return cache.archivePath(parsed);
  return role === 'layer' ? cache.layerPath(parsed.hex) : cache.filePath(parsed.hex);
}

type Flaw = 'missing' | 'not a regular file' | 'damaged';

/** Copies a blob to `to` and calls `adopt`; what is wrong with it leaves nothing there. */
async function copyBlob(
  dir: string,
  { digest, size }: Pick<ArchiveBlob, 'digest' | 'size'>,
  to: string,
  adopt: (temporary: string) => Promise<void>,
  mode = 0o600,
): Promise<Flaw | null> {
  const { algorithm, hex: name } = parseDigestText(digest);
  const source = await openPlain(join(dir, ARCHIVE_FILES.blobs, algorithm, name));
  if (typeof source === 'string') return source;
  let right = false;
  try {
    const out = await open(to, 'wx', mode);
    try {
      right = (await copyHashing(source, out, algorithm, size)) === name;
    } finally {
      await out.close();
    }
    if (right) await adopt(to);
  } catch (error) {
    await rm(to, { force: true });
    throw ioError(error, `cannot write ${to}`);
  } finally {
    await source.close();
  }
  if (right) return null;
  await rm(to, { force: true });
  return 'damaged';
}

async function copyHashing(from: FileHandle, to: FileHandle, algorithm: string, size: number): Promise<string> {
  const hash = createHash(algorithm);
  const buffer = Buffer.allocUnsafe(CHUNK);
  for (let done = 0; ; ) {
    const { bytesRead } = await from.read(buffer, 0, CHUNK, null);
    if (bytesRead === 0) return done === size ? hash.digest('hex') : '';
    done += bytesRead;
    if (done > size) return '';
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    for (let written = 0; written < chunk.length; ) written += (await to.write(chunk, written)).bytesWritten;
  }
}

/** Never through a link, never waiting for a pipe. */
async function openPlain(path: string): Promise<FileHandle | Flaw> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  let handle: FileHandle;
  try {
    handle = await open(path, flags);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return 'missing';
    if (code === 'ELOOP' || code === 'ENXIO') return 'not a regular file';
    throw ioError(error, `cannot read ${path}`);
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  return 'not a regular file';
}

async function readPlain(path: string, limit: number): Promise<Buffer> {
  const handle = await openPlain(path);
  if (handle === 'missing') {
    throw usageError('ERR_INPUTS_MALFORMED', `expected an archive of inputs, found no ${path}`, {
      hint: '`atoma-tee build --save-inputs DIR` writes one',
    });
  }
  if (typeof handle === 'string') throw usageError('ERR_FILE_KIND', `${path} is not a regular file`);
  try {
    const { size } = await handle.stat();
    if (size <= limit) return await handle.readFile();
  } finally {
    await handle.close();
  }
  throw usageError(
    'ERR_FILE_TOO_LARGE',
    `${path} is larger than anything of its kind: expected at most ${limit} bytes`,
  );
}

async function requireDirectory(dir: string, name: string): Promise<void> {
  const path = join(dir, name);
  const found = await lstat(name === '' ? `${path}/` : path).catch((error) => {
    throw ioError(error, `cannot read the archive of inputs ${path}`);
  });
  if (!found.isDirectory()) throw usageError('ERR_FILE_KIND', `expected the directory ${path}, found something else`);
}

async function writeNew(path: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.writeFile(bytes);
  } finally {
    await handle.close();
  }
}

const told = (names: string[]): string =>
  `${names.slice(0, TOLD).join('; ')}${names.length > TOLD ? `; and ${names.length - TOLD} more` : ''}`;

const damaged = (dir: string, names: string[]) =>
  negativeError('ERR_INPUTS_DAMAGED', `the archive of inputs ${dir} is not what it says: ${told(names)}`, {
    hint: 'take another copy of it: nothing of a damaged archive is used',
    details: { blobs: names.slice(0, 1000) },
  });

const incomplete = (dir: string, names: string[]) =>
  missingError('ERR_INPUTS_INCOMPLETE', `the archive of inputs ${dir} lacks what it lists: ${told(names)}`, {
    hint: 'take another copy of it, or put the missing files into blobs/ALGORITHM/HEX',
    details: { blobs: names.slice(0, 1000) },
  });
