import { randomBytes } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { usageError } from './errors.ts';
import { ioError } from './files.ts';
import { temporary } from './temporary.ts';

/** A directory beside `out` in which outputs come to be. */
export interface Staging {
  path: string;
  /** Leaves nothing of it. */
  remove(): Promise<void>;
}

/**
 * Makes a staging directory, and removes those that killed runs left for the same `out`: their names carry the
 * process id. It is beside `out`, so that renaming does not cross file systems.
 * Throws `ERR_OUTPUT_KIND` (exit 2) where `out` is something else than a directory.
 */
export async function stagingDirectory(out: string, mode = 0o755): Promise<Staging> {
  const parent = dirname(out);
  const prefix = `.${basename(out)}.`;
  try {
    if (existsSync(out) && !statSync(out).isDirectory()) {
      throw usageError('ERR_OUTPUT_KIND', `expected the output directory ${out}, found something else of that name`);
    }
    await mkdir(parent, { recursive: true });
    for (const name of await readdir(parent)) {
      const pid = name.startsWith(prefix) ? /^(\d+)-[0-9a-f]{12}\.partial$/.exec(name.slice(prefix.length))?.[1] : null;
      // In a shared directory anybody can make such a name: what cannot be removed is in nobody's way.
      if (pid && !alive(Number(pid))) await rm(join(parent, name), { recursive: true, force: true }).catch(() => {});
    }
    const path = join(parent, `${prefix}${process.pid}-${randomBytes(6).toString('hex')}.partial`);
    await mkdir(path, { mode });
    const keep = temporary(path);
    return { path, remove: () => rm(path, { recursive: true, force: true }).finally(keep) };
  } catch (error) {
    throw ioError(error, `cannot write to ${parent}`);
  }
}

/** Whether a process of this id runs, whosoever it is. */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * A staging directory in `out` where that is a directory already, else one beside it: `out` can be a mount point (a
 * container's volume), or be writable where its parent is not. Whoever uses it renames files into `out`, not the directory.
 */
export const stagingFor = (out: string): Promise<Staging> =>
  stagingDirectory(statSync(out, { throwIfNoEntry: false })?.isDirectory() ? join(out, 'outputs') : out);
