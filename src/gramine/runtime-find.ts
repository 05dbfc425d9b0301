import { statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { AtomaError, missingError } from '../core/errors.ts';
import { ioError, readSmallFile } from '../core/files.ts';
import type { Cache } from '../image/cache.ts';
import type { Rule } from '../image/lock-file.ts';
import { unpackInPool } from '../image/unpack-pool.ts';

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
export const LIBRARY_NAMES = { libpal: 'libpal.so', libsysdb: 'libsysdb.so' } as const;
/** The variable is what `run --tee gramine` goes by as well. */
const installedPrefixes = (): string[] => {
  const { ATOMA_TEE_GRAMINE: chosen } = process.env;
  return [...(chosen ? [resolve(chosen)] : []), '/usr', '/usr/local'];
};
/** Debian's place first, then what `meson install` makes on others. */
const libraryDirectories = (prefix: string): string[] =>
  ['lib/x86_64-linux-gnu/gramine', 'lib/gramine', 'lib64/gramine'].map((path) => join(prefix, path));
/** The same two inside a package, "*" standing for the architecture. */
const PACKAGED = ['usr/lib/*/gramine', 'usr/lib/gramine'];

/**
 * Looks for both where `from` says, and for what version of Gramine they are of. Throws `ERR_GRAMINE_MISSING` (exit 5),
 * `ERR_FILE_*`, `ERR_DEB_MALFORMED`, `ERR_ARCHIVE_*` (exit 2).
 */
export async function findLibraries(
  from: string,
  options: FindOptions,
): Promise<{ libraries: GramineLibraries; version: string | undefined }> {
  if (from === 'installed') return inPrefixes(options.prefixes ?? installedPrefixes());
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
    const libsysdb = join(place, LIBRARY_NAMES.libsysdb);
    const libpal = [join(place, 'sgx', LIBRARY_NAMES.libpal), join(place, LIBRARY_NAMES.libpal)].find(isFile);
    if (isFile(libsysdb) && libpal !== undefined) {
      const libraries = {
        libpal: await readSmallFile(libpal, 'Gramine library', MAX_LIBRARY),
        libsysdb: await readSmallFile(libsysdb, 'Gramine library', MAX_LIBRARY),
      };
      return { libraries, version: await installedVersion(prefixes) };
    }
    direct ||= isFile(join(place, 'direct', LIBRARY_NAMES.libpal));
  }
  throw missing(
    direct
      ? `expected Gramine's sgx/${LIBRARY_NAMES.libpal} ${where}, found the one of gramine-direct only: that Gramine was built without SGX`
      : `expected Gramine's ${LIBRARY_NAMES.libpal} and ${LIBRARY_NAMES.libsysdb} ${where}, found none`,
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
      rule(`${place}/sgx/${LIBRARY_NAMES.libpal}`, LIBRARY_NAMES.libpal),
      rule(`${place}/${LIBRARY_NAMES.libsysdb}`, LIBRARY_NAMES.libsysdb),
    ]);
    const [libpal, libsysdb] = found ?? [];
    if (libpal === undefined || libsysdb === undefined) continue;
    const [script] = (await take([rule('usr/bin/gramine-sgx', 'gramine-sgx')])) ?? [];
    return { libraries: { libpal, libsysdb }, version: scriptVersion(script?.toString('latin1') ?? '') };
  }
  throw missing(
    `expected Gramine's sgx/${LIBRARY_NAMES.libpal} and ${LIBRARY_NAMES.libsysdb} in the package ${shown}, found none`,
  );
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

const missing = (message: string) =>
  missingError('ERR_GRAMINE_MISSING', message, {
    hint: 'install Gramine, or set gramine.from in enclave.toml to a directory that holds it or to its Debian package',
  });
