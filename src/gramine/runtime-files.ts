import { readFileSync, statSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { AtomaError, missingError, negativeError, usageError } from '../core/errors.ts';
import { ioError, readSmallFile } from '../core/files.ts';
import type { Cache } from '../image/cache.ts';
import type { GramineEntry, Rule } from '../image/lock-file.ts';
import { unpackInPool } from '../image/unpack-pool.ts';
import { parseElf } from './elf.ts';

/** The two files of Gramine that an enclave's measurement covers. */
export interface GramineLibraries {
  libpal: Buffer;
  libsysdb: Buffer;
}

export interface FindOptions {
  /** What a relative `from` is relative to: the project's directory. */
  dir: string;
  cache: Cache;
  /** Where "installed" looks; for tests. */
  prefixes?: string[];
}

/** Both are near one MiB. */
const MAX_LIBRARY = 64 << 20;
const NAMES = { libpal: 'libpal.so', libsysdb: 'libsysdb.so' } as const;
const PREFIXES = ['/usr', '/usr/local'];
/** Debian's place first, then what `meson install` makes on others. */
const libraryDirectories = (prefix: string): string[] =>
  ['lib/x86_64-linux-gnu/gramine', 'lib/gramine', 'lib64/gramine'].map((path) => join(prefix, path));
/** The same two inside a package, "*" standing for the architecture. */
const PACKAGED = ['usr/lib/*/gramine', 'usr/lib/gramine'];

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
    requireElf(bytes, `${NAMES[name]} of ${from}`);
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
 * The libraries that a lock pins: from the cache, else from where they came. Throws `ERR_INPUT_DIGEST` (exit 3) where there
 * are others now, `ERR_GRAMINE_MISSING` (exit 5) where there are none.
 */
export async function provideGramine(pin: GramineEntry, options: FindOptions): Promise<GramineLibraries> {
  const cached = { libpal: readCached(pin.libpal, options.cache), libsysdb: readCached(pin.libsysdb, options.cache) };
  const { libpal, libsysdb } = cached;
  if (libpal !== null && libsysdb !== null) return { libpal, libsysdb };
  const { libraries } = await findLibraries(pin.from, options);
  for (const name of ['libpal', 'libsysdb'] as const) {
    const found = digest(libraries[name]);
    if (found === pin[name].sha256) await keep(options.cache, libraries[name], found);
    else {
      throw negativeError(
        'ERR_INPUT_DIGEST',
        `${NAMES[name]} of Gramine (${pin.from}) is not the one that the lock pins: expected ${pin[name].sha256}, found ${found}`,
        {
          hint: 'install that Gramine again, or run `atoma-tee lock --local` to take this one, which changes the measurement',
        },
      );
    }
  }
  return libraries;
}

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

async function findLibraries(from: string, options: FindOptions) {
  if (from === 'installed') return inPrefixes(options.prefixes ?? PREFIXES);
  const path = resolve(options.dir, from);
  const found = await stat(path).catch((error) => {
    if (error.code !== 'ENOENT') throw ioError(error, `cannot read ${path}`);
    throw missing(`expected Gramine in ${from}, found nothing there`);
  });
  if (found.isFile()) return inPackage(path, from, options.cache);
  const prefixes = [path, join(path, 'usr'), join(path, 'usr/local')];
  const places = [path, join(path, 'gramine'), ...prefixes.flatMap(libraryDirectories)];
  return inPlaces(places, `in ${from}`, prefixes);
}

const inPrefixes = (prefixes: string[]) =>
  inPlaces(prefixes.flatMap(libraryDirectories), 'installed on this machine', prefixes);

async function inPlaces(places: string[], where: string, prefixes: string[]) {
  let direct = false;
  for (const place of places) {
    const libsysdb = join(place, NAMES.libsysdb);
    const libpal = [join(place, 'sgx', NAMES.libpal), join(place, NAMES.libpal)].find(isFile);
    if (isFile(libsysdb) && libpal !== undefined) {
      const libraries = {
        libpal: await readSmallFile(libpal, 'Gramine library', MAX_LIBRARY),
        libsysdb: await readSmallFile(libsysdb, 'Gramine library', MAX_LIBRARY),
      };
      return { libraries, version: await installedVersion(prefixes) };
    }
    direct ||= isFile(join(place, 'direct', NAMES.libpal));
  }
  throw missing(
    direct
      ? `expected Gramine's sgx/${NAMES.libpal} ${where}, found the one of gramine-direct only: that Gramine was built without SGX`
      : `expected Gramine's ${NAMES.libpal} and ${NAMES.libsysdb} ${where}, found none`,
  );
}

async function inPackage(path: string, shown: string, cache: Cache) {
  const job = { kind: 'deb' as const, archive: path, what: shown, cacheDir: cache.dir };
  const take = async (keep: Rule[]): Promise<Buffer[] | null> => {
    try {
      const files = await unpackInPool({ ...job, keep });
      const of = (name: string) => files.find((file) => file.path === name)?.sha256 ?? '';
      return await Promise.all(
        keep.map(({ to }) => readSmallFile(cache.filePath(of(to)), 'Gramine library', MAX_LIBRARY)),
      );
    } catch (error) {
      if (error instanceof AtomaError && error.code === 'ERR_INPUT_SELECTION') return null;
      throw error;
    }
  };
  const rule = (from: string, to: string): Rule => ({ from, to, part: 'root' });
  for (const place of PACKAGED) {
    const found = await take([
      rule(`${place}/sgx/${NAMES.libpal}`, NAMES.libpal),
      rule(`${place}/${NAMES.libsysdb}`, NAMES.libsysdb),
    ]);
    const [libpal, libsysdb] = found ?? [];
    if (libpal === undefined || libsysdb === undefined) continue;
    const [script] = (await take([rule('usr/bin/gramine-sgx', 'gramine-sgx')])) ?? [];
    return { libraries: { libpal, libsysdb }, version: scriptVersion(script?.toString('latin1') ?? '') };
  }
  throw missing(`expected Gramine's sgx/${NAMES.libpal} and ${NAMES.libsysdb} in the package ${shown}, found none`);
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

/** For people and the build manifest only: the digests are what counts. */
async function installedVersion(prefixes: string[]): Promise<string | undefined> {
  for (const prefix of prefixes) {
    const text = await readFile(join(prefix, 'bin/gramine-sgx'), 'latin1').catch(() => '');
    const version = scriptVersion(text);
    if (version !== undefined) return version;
  }
  return undefined;
}

/** tools/gramine.in of Gramine: what `gramine-sgx --version` prints. */
const scriptVersion = (script: string): string | undefined =>
  /^ *echo "Gramine ([0-9A-Za-z.+~-]{1,64}) \(/m.exec(script)?.[1];

/** The least that both must be. */
function requireElf(bytes: Buffer, what: string): void {
  const [class64, littleEndian] = [bytes[4] === 2, bytes[5] === 1];
  const elf = bytes.length >= 64 && bytes.readUInt32BE(0) === 0x7f454c46 && class64 && littleEndian;
  if (elf && bytes.readUInt16LE(16) === 3 && bytes.readUInt16LE(18) === 62) return;
  throw usageError('ERR_GRAMINE_LIBRARY', `${what}: expected an ELF shared object for x86-64, found something else`);
}

const digest = (bytes: Buffer): string => hex(sha256(bytes));

const missing = (message: string) =>
  missingError('ERR_GRAMINE_MISSING', message, {
    hint: 'install Gramine, or set gramine.from in enclave.toml to a directory that holds it or to its Debian package',
  });
