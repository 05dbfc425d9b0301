import { randomBytes } from 'node:crypto';
import { existsSync, lstatSync, renameSync, statSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { temporary } from '../core/temporary.ts';

/** A directory beside `out` in which outputs come to be. */
export interface Staging {
  path: string;
  /** Leaves nothing of it. */
  remove(): Promise<void>;
}

/**
 * Makes a staging directory, and removes those that killed builds left for the same `out`: their names carry the
 * process id. It is beside `out`, so that renaming does not cross file systems.
 */
export async function stagingDirectory(out: string): Promise<Staging> {
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
    await mkdir(path, { mode: 0o755 });
    const keep = temporary(path);
    return { path, remove: () => rm(path, { recursive: true, force: true }).finally(keep) };
  } catch (error) {
    throw ioError(error, `cannot write to ${parent}`);
  }
}

/**
 * Makes finished outputs appear in `out`: the directory at once where there is none, else file by file in the order
 * given, without giving way to anything in between. Other files in `out` are left alone.
 */
export async function publish(staging: Staging, out: string, names: string[]): Promise<void> {
  try {
    if (!existsSync(out)) return await rename(staging.path, out);
    const paths = names.map((name) => join(out, name));
    const blocked = paths.find((path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory());
    if (blocked !== undefined) {
      throw usageError('ERR_OUTPUT_KIND', `expected to write the file ${blocked}, found a directory of that name`);
    }
    for (const name of names) renameSync(join(staging.path, name), join(out, name));
  } catch (error) {
    throw ioError(error, `cannot write to ${out}`);
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
