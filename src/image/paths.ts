import { usageError } from '../core/errors.ts';

/** More entries than this are nobody's package. */
const MAX_ENTRIES = 500_000;
const MAX_PATH = 4096;

export interface ArchiveHeader {
  name: string;
  type: string | null | undefined;
  linkname?: string | null | undefined;
}

/**
 * Keeps an archive inside its root, entry by entry, though nothing but selected regular files is ever written: an
 * archive that tries to leave is not one to take anything from.
 *
 * Refuses, with `ERR_ARCHIVE_ESCAPE` (exit 3 would hide that the file itself is malformed; so exit 2): absolute names,
 * "..", symbolic links that resolve to outside, hard links to anything but an earlier file, entries below a symbolic
 * link. With `ERR_ARCHIVE_DUPLICATE`: the same path twice, unless both are directories. With `ERR_ARCHIVE_ENTRY`:
 * devices, FIFOs, NUL bytes, too many entries.
 */
export class PathGuard {
  readonly #what: string;
  readonly #seen = new Map<string, 'file' | 'dir' | 'link'>();

  constructor(what: string) {
    this.#what = what;
  }

  /** Returns the entry's normalised path ('' for the root itself) and kind. */
  check(header: ArchiveHeader): { path: string; kind: 'file' | 'dir' | 'link' } {
    const path = this.#normalise(header.name, header.name);
    const kind = this.#kind(header);
    if (this.#seen.size >= MAX_ENTRIES) throw this.#entry(`has more than ${MAX_ENTRIES} entries`);
    const parts = path.split('/');
    for (let i = 1; i < parts.length; i++) {
      const parent = parts.slice(0, i).join('/');
      const is = this.#seen.get(parent);
      if (is === 'link') throw this.#escape(`"${path}" would be written through the link "${parent}"`);
      if (is === 'file') throw this.#entry(`has "${path}" below the file "${parent}"`);
    }
    const before = this.#seen.get(path);
    if (before !== undefined && !(before === 'dir' && kind === 'dir')) {
      throw usageError('ERR_ARCHIVE_DUPLICATE', `${this.#what} has "${path}" twice`);
    }
    if (path === '' && kind !== 'dir') throw this.#entry('has an entry without a name');
    if (header.type === 'link') {
      const target = this.#normalise(header.linkname ?? '', path);
      if (this.#seen.get(target) !== 'file') {
        throw this.#escape(`the hard link "${path}" points to "${target}", which is no earlier file`);
      }
    }
    if (header.type === 'symlink') this.#checkSymlink(path, header.linkname ?? '');
    this.#seen.set(path, kind);
    return { path, kind };
  }

  #kind({ name, type }: ArchiveHeader): 'file' | 'dir' | 'link' {
    if (type === 'file' || type === 'contiguous-file') return 'file';
    if (type === 'directory') return 'dir';
    if (type === 'symlink' || type === 'link') return 'link';
    throw this.#entry(`has "${printable(name)}", which is neither file, directory nor link`);
  }

  #normalise(name: string, shown: string): string {
    if (name.includes('\0') || name.length > MAX_PATH)
      throw this.#entry(`has a bad name, "${printable(shown).slice(0, 80)}"`);
    if (name.startsWith('/')) throw this.#escape(`"${printable(shown)}" is an absolute path`);
    const parts = name.split('/').filter((part) => part !== '' && part !== '.');
    if (parts.includes('..')) throw this.#escape(`"${printable(shown)}" contains ".."`);
    return parts.join('/');
  }

  /** An absolute target counts from the archive's root, as it will when the tree is a root file system. */
  #checkSymlink(path: string, target: string): void {
    if (target === '' || target.includes('\0')) throw this.#entry(`has the link "${path}" without a target`);
    const at = target.startsWith('/') ? [] : path.split('/').slice(0, -1);
    for (const part of target.split('/')) {
      if (part === '..' && at.pop() === undefined) {
        throw this.#escape(`the link "${path}" points outside, to "${printable(target)}"`);
      }
      if (part !== '' && part !== '.' && part !== '..') at.push(part);
    }
  }

  #escape(why: string) {
    return usageError('ERR_ARCHIVE_ESCAPE', `${this.#what} would write outside its root: ${why}`);
  }

  #entry(why: string) {
    return usageError('ERR_ARCHIVE_ENTRY', `${this.#what} ${why}`);
  }
}

/** Control characters of a hostile name must not reach a terminal. */
const printable = (name: string): string => JSON.stringify(name).slice(1, -1);
