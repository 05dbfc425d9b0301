import { readFileSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { hex, sha256 } from '../core/bytes.ts';
import { AtomaError, negativeError, usageError } from '../core/errors.ts';
import type { Cache } from '../image/cache.ts';
import type { GramineEntry } from '../image/lock-file.ts';
import { parseElf } from './elf.ts';
import { type FindOptions, findLibraries, type GramineLibraries, LIBRARY_NAMES } from './runtime-find.ts';

export type { FindOptions, GramineLibraries } from './runtime-find.ts';

/**
 * Looks for libpal.so (the SGX one) and libsysdb.so where `from` says: "installed", a directory (an installation's
 * prefix, the directory that holds them, or an unpacked package) or a Debian package of Gramine. What is found goes
 * into the cache, so that a build needs the place no more.
 *
 * Throws `ERR_GRAMINE_MISSING` (exit 5), `ERR_GRAMINE_LIBRARY`, `ERR_ELF_*`, `ERR_DEB_MALFORMED`, `ERR_ARCHIVE_*` (exit 2).
 */
export async function pinGramine(from: string, options: FindOptions): Promise<GramineEntry> {
  const { libraries, version } = await findLibraries(from, options);
  const pin = async (name: keyof GramineLibraries) => {
    const bytes = libraries[name];
    requireElf(bytes, `${LIBRARY_NAMES[name]} of ${from}`);
    if (name === 'libpal') parseElf(bytes);
    const found = digest(bytes);
    await keep(options.cache, bytes, found);
    return { size: bytes.length, sha256: found };
  };
  return {
    from,
    ...(version === undefined ? {} : { version }),
    libpal: await pin('libpal'),
    libsysdb: await pin('libsysdb'),
  };
}

/**
 * The libraries that a lock pins: from the cache, else from where they came, else from whatever Gramine is installed here, for a
 * digest makes any copy good. Throws `ERR_INPUT_DIGEST` (exit 3) where there are others, `ERR_GRAMINE_MISSING` (exit 5)
 * where there are none.
 */
export async function provideGramine(pin: GramineEntry, options: FindOptions): Promise<GramineLibraries> {
  const cached = { libpal: readCached(pin.libpal, options.cache), libsysdb: readCached(pin.libsysdb, options.cache) };
  const { libpal, libsysdb } = cached;
  if (libpal !== null && libsysdb !== null) return { libpal, libsysdb };
  try {
    return await takePinned(pin, pin.from, options);
  } catch (error) {
    if (!(error instanceof AtomaError) || pin.from === 'installed') throw error;
    // What is wrong with the place that enclave.toml names is what a person can mend.
    return takePinned(pin, 'installed', options).catch(() => Promise.reject(error));
  }
}

async function takePinned(pin: GramineEntry, from: string, options: FindOptions): Promise<GramineLibraries> {
  const { libraries } = await findLibraries(from, options);
  for (const name of ['libpal', 'libsysdb'] as const) {
    const found = digest(libraries[name]);
    if (found !== pin[name].sha256) throw anotherLibrary(LIBRARY_NAMES[name], from, pin[name].sha256, found);
    await keep(options.cache, libraries[name], found);
  }
  return libraries;
}

const anotherLibrary = (name: string, from: string, expected: string, found: string) =>
  negativeError(
    'ERR_INPUT_DIGEST',
    `${name} of Gramine (${from}) is not the one that the lock pins: expected ${expected}, found ${found}`,
    {
      hint: 'install that Gramine again, or run `atoma-tee lock --local` to take this one, which changes the measurement',
    },
  );

/** A damaged copy is as good as none: the place it came from has another. */
function readCached(pin: GramineEntry['libpal'], cache: Cache): Buffer | null {
  try {
    const path = cache.filePath(pin.sha256);
    if (statSync(path).size !== pin.size) return null;
    const bytes = readFileSync(path);
    return digest(bytes) === pin.sha256 ? bytes : null;
  } catch {
    return null;
  }
}

async function keep(cache: Cache, bytes: Buffer, name: string): Promise<void> {
  const temporary = cache.temporary();
  await writeFile(temporary, bytes, { flag: 'wx', mode: 0o644 });
  await cache.adopt(temporary, cache.filePath(name));
}

/** The least that both must be. */
function requireElf(bytes: Buffer, what: string): void {
  const [class64, littleEndian] = [bytes[4] === 2, bytes[5] === 1];
  const elf = bytes.length >= 64 && bytes.readUInt32BE(0) === 0x7f454c46 && class64 && littleEndian;
  if (elf && bytes.readUInt16LE(16) === 3 && bytes.readUInt16LE(18) === 62) return;
  throw usageError('ERR_GRAMINE_LIBRARY', `${what}: expected an ELF shared object for x86-64, found something else`);
}

const digest = (bytes: Buffer): string => hex(sha256(bytes));
