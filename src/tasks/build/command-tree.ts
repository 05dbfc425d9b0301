import { dirname } from 'node:path/posix';
import { usageError } from '../../core/errors.ts';
import type { TreeEntry } from '../../image/cpio.ts';
import { directory } from '../../image/ramdisks.ts';

/**
 * The file system of a command while it is put together: a container image's entries, changed here and there. Paths that
 * its methods take are those that the command sees ("/app/server"); entries have paths of the whole ramdisk.
 */
export class CommandTree {
  readonly #prefix: string;
  readonly #entries: Map<string, TreeEntry>;
  /** Names of hard links by the file whose names they are too. */
  readonly #links = new Map<string, string[]>();

  constructor(prefix: string, entries: TreeEntry[]) {
    this.#prefix = prefix;
    this.#entries = new Map(entries.map((entry) => [entry.path, entry]));
    for (const { path, type, target = '' } of entries) {
      if (type === 'link') this.#links.set(target, [...(this.#links.get(target) ?? []), path]);
    }
  }

  entries = (): TreeEntry[] => [...this.#entries.values()];

  /** Puts an entry in place of whatever is there; its parents have to be directories. Throws `ERR_IMAGE_MOUNT_POINT`. */
  put(entry: TreeEntry): void {
    this.makeDirectory(dirname(entry.path.slice(this.#prefix.length)), 'the directory of an included file');
    const there = this.#entries.get(entry.path);
    if (there?.type === 'dir' && entry.type === 'dir') return;
    if (there?.type === 'dir') this.empty(entry.path.slice(this.#prefix.length));
    this.#drop(entry.path);
    this.#entries.set(entry.path, entry);
  }

  /** Takes out everything below a directory. */
  empty(path: string): void {
    const below = `${this.#prefix}${path}/`;
    for (const name of [...this.#entries.keys()]) if (name.startsWith(below)) this.#drop(name);
  }

  /** Makes a directory where there is nothing; what a link leads to is left to the image. */
  ensure(path: string, mode: number): void {
    const parts = path.split('/').filter((part) => part !== '');
    for (let i = 1; i <= parts.length; i++) {
      const at = this.#entries.get(`${this.#prefix}/${parts.slice(0, i).join('/')}`);
      if (at !== undefined && at.type !== 'dir') return;
    }
    this.makeDirectory(path, 'a directory', mode);
  }

  /** Makes a directory where there is none. Throws `ERR_IMAGE_MOUNT_POINT` (exit 2) for a link or a file on the way. */
  makeDirectory(path: string, what: string, mode = 0o755): void {
    const parts = path.split('/').filter((part) => part !== '' && part !== '.');
    if (parts.includes('..')) throw usageError('ERR_CONFIG_VALUE', `expected ${what} without "..", found "${path}"`);
    for (let i = 1; i <= parts.length; i++) {
      const at = `${this.#prefix}/${parts.slice(0, i).join('/')}`;
      const found = this.#entries.get(at);
      if (found === undefined) {
        this.#entries.set(at, { ...directory(at), ...(i === parts.length ? { mode } : {}) });
      } else if (found.type !== 'dir') {
        const is = found.type === 'symlink' ? `a link to ${found.target}` : 'a file';
        throw usageError(
          'ERR_IMAGE_MOUNT_POINT',
          `${what}, ${path}: expected a directory, found ${is} at ${at.slice(this.#prefix.length)}`,
          { hint: 'write the path that the link leads to, or take another one in enclave.toml' },
        );
      }
    }
  }

  /** Another name of a file that goes becomes the file. */
  #drop(path: string): void {
    const entry = this.#entries.get(path);
    this.#entries.delete(path);
    if (entry?.type !== 'file') return;
    const names = (this.#links.get(path) ?? []).filter((name) => this.#entries.get(name)?.target === path);
    const [first, ...others] = names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    if (first === undefined) return;
    this.#entries.set(first, { ...entry, path: first });
    for (const name of others) {
      const link = this.#entries.get(name);
      if (link) this.#entries.set(name, { ...link, target: first });
    }
    this.#links.set(first, others);
  }
}
