import { accessSync, constants, lstatSync, readdirSync, type Stats } from 'node:fs';
import { type ErrorOptions, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { isTable } from './toml-values.ts';
import { childPath, hostPath, isLoop, isMissing, statOrNull, type TrustedRoot, uriPath } from './trusted-files-path.ts';

export interface TrustedFile {
  uri: string;
  /** Lower case where we computed it, verbatim where the manifest gave it. */
  sha256?: string;
  /** Where its bytes are and how many; not of files whose digest was given. */
  source?: { path: string; size: number };
}

export interface Expansion {
  files: TrustedFile[];
  /** URIs in directories that are neither files nor directories (pipes, dangling links) or may not be read: Gramine leaves them out. */
  skipped: string[];
  /** Links in directories of a chroot that lead elsewhere on this machine: Gramine's tool goes by that, and may leave them out or in. */
  hostLinks: string[];
}

/** More than fits a manifest that Gramine loads in reasonable time; keeps a wrong "file:/" from filling the memory. */
const MAX_FILES = 1_000_000;

/**
 * Expands `sgx.trusted_files` as Gramine's python/graminelibos/manifest.py does (expand_all_trusted_files): directories become their
 * files, ordered by name in code points, depth first; of equal URIs the first keeps its place. Entries that carry a
 * digest are never opened. One difference: with a chroot, links in directories are judged inside of it too, where
 * Gramine follows absolute ones on the host, so that its list depends on the machine.
 *
 * Errors: `ERR_GRAMINE_TRUSTED`, `ERR_GRAMINE_TRUSTED_MISSING` (all that are missing at once).
 */
export function expandTrustedFiles(entries: unknown[], root: TrustedRoot): Expansion {
  const found = new Found(root);
  for (const entry of entries) found.add(readEntry(entry));
  if (found.missing.length > 0) throw missingFiles(found.missing);
  return { files: [...found.files.values()], skipped: found.skipped, hostLinks: found.hostLinks };
}

/** Missing trusted files, named all at once: hunting for them one by one is what users of Gramine complain about most. */
export function missingFiles(missing: string[]) {
  const shown = missing.slice(0, 100).map((uri) => `"${uri}"`);
  const more = missing.length > shown.length ? `, and ${missing.length - shown.length} more` : '';
  const what = missing.length === 1 ? 'one trusted file does' : `${missing.length} trusted files do`;
  return usageError('ERR_GRAMINE_TRUSTED_MISSING', `${what} not exist: ${shown.join(', ')}${more}`, {
    hint: 'relative URIs are looked for in the current directory (--directory), with --chroot all of them inside of that',
    details: { missing },
  });
}

const refuse = (uri: string, why: string, options?: ErrorOptions) =>
  usageError('ERR_GRAMINE_TRUSTED', `trusted file "${uri}": ${why}`, options);

function readEntry(entry: unknown): TrustedFile {
  if (typeof entry === 'string') return { uri: entry };
  const { uri, sha256, ...others } = isTable(entry) ? entry : {};
  const other = Object.keys(others)[0];
  if (typeof uri !== 'string' || (sha256 !== undefined && typeof sha256 !== 'string') || other !== undefined) {
    throw usageError(
      'ERR_GRAMINE_TRUSTED',
      `expected a trusted file as a URI or as { uri, sha256 }, found ${other === undefined ? 'another value' : `the key "${other}"`}`,
    );
  }
  return sha256 === undefined ? { uri } : { uri, sha256 };
}

class Found {
  readonly files = new Map<string, TrustedFile>();
  readonly missing: string[] = [];
  readonly skipped: string[] = [];
  readonly hostLinks: string[] = [];
  readonly #root: TrustedRoot;

  constructor(root: TrustedRoot) {
    this.#root = root;
  }

  add(entry: TrustedFile): void {
    const { uri, sha256 } = entry;
    const path = uriPath(uri);
    const there = this.#look(uri, path);
    if (uri.endsWith('/')) {
      if (sha256 !== undefined) throw refuse(uri, 'expected no sha256 for a directory');
      if (there === null) this.missing.push(uri);
      else if (!there.stat.isDirectory())
        throw refuse(uri, 'expected a directory because it ends with "/", found a file');
      else this.#directory(there.path, this.#root.chroot === undefined ? path : this.#insidePath(there.path));
      return;
    }
    if (there?.stat.isDirectory()) {
      throw refuse(uri, 'expected a file, found a directory', { hint: `a directory's URI ends with "/": "${uri}/"` });
    }
    if (sha256 !== undefined) this.#insert(entry);
    else if (there === null) this.missing.push(uri);
    else this.#insertFile(uri, there.path, there.stat);
  }

  #insidePath(path: string): string {
    return path.slice(this.#root.chroot?.length) || '/';
  }

  #look(uri: string, path: string): { path: string; stat: Stats } | null {
    try {
      const host = hostPath(path, this.#root);
      const stat = statOrNull(host);
      return stat === null ? null : { path: host, stat };
    } catch (error) {
      if (isLoop(error)) throw refuse(uri, 'its symbolic links lead in a circle');
      if (isMissing(error)) return null;
      throw ioError(error, `cannot look at the trusted file ${uri}`);
    }
  }

  /** `host` is where the directory is, `path` what its URIs say. */
  #directory(host: string, path: string): void {
    for (const name of sortedNames(host)) {
      const child = childPath(path, name);
      const own = `${host}/${name}`;
      const there = this.#child(child, own);
      if (this.#root.chroot !== undefined && kind(there?.stat) !== kindOnHost(own))
        this.hostLinks.push(`file:${child}`);
      if (there === null) {
        this.skipped.push(`file:${child}`);
      } else if (!there.stat.isDirectory()) {
        this.#insertFile(`file:${child}`, there.path, there.stat);
      } else if (!lstatSync(own).isSymbolicLink()) {
        this.#directory(own, child);
      }
    }
  }

  #child(path: string, own: string): { path: string; stat: Stats } | null {
    try {
      const host = this.#root.chroot === undefined ? own : hostPath(path, this.#root);
      const stat = statOrNull(host);
      if (stat === null || !(stat.isFile() || stat.isDirectory())) return null;
      accessSync(host, constants.R_OK);
      return { path: host, stat };
    } catch (error) {
      if (isLoop(error) || (error as NodeJS.ErrnoException).code === 'EACCES') return null;
      throw ioError(error, `cannot look at the trusted file file:${path}`);
    }
  }

  #insertFile(uri: string, path: string, stat: Stats): void {
    if (!stat.isFile()) throw refuse(uri, 'expected a regular file, found a device, a pipe or a socket');
    this.#insert({ uri, source: { path, size: stat.size } });
  }

  #insert(file: TrustedFile): void {
    const old = this.files.get(file.uri);
    if (old?.sha256 !== undefined) {
      if (file.sha256 === undefined || file.sha256 === old.sha256) return;
      throw refuse(file.uri, `expected one sha256, found two: ${old.sha256} and ${file.sha256}`);
    }
    this.files.set(file.uri, file);
    if (this.files.size > MAX_FILES) {
      throw usageError(
        'ERR_GRAMINE_TRUSTED',
        `expected at most ${MAX_FILES} trusted files, found more in "${file.uri}"`,
      );
    }
  }
}

const kind = (stat: Stats | null | undefined): string =>
  stat?.isFile() ? 'file' : stat?.isDirectory() ? 'directory' : 'none';

/** What Gramine's own tool takes an entry for: it follows links on the machine. */
function kindOnHost(path: string): string {
  try {
    return kind(statOrNull(path));
  } catch {
    return 'none';
  }
}

/** Ordered by code point, as Python orders strings; that is the order of the bytes of UTF-8. */
function sortedNames(directory: string): string[] {
  let names: Buffer[];
  try {
    names = readdirSync(directory, { encoding: 'buffer' });
  } catch (error) {
    throw ioError(error, `cannot list the trusted directory ${directory}`);
  }
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  return names.sort(Buffer.compare).map((name) => {
    try {
      return decoder.decode(name);
    } catch {
      throw refuse(`file:${directory}/${name.toString('latin1')}`, 'expected a name in UTF-8, as manifests are');
    }
  });
}
