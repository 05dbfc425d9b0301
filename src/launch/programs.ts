import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';

/** Where administrators' tools are, which the PATH of an ordinary user often leaves out. */
const USUAL = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'];

/** Absolute path of a program, from PATH or the usual places; undefined where there is none. */
export function findProgram(name: string): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(':'), ...USUAL];
  return directories
    .filter((directory) => directory.startsWith('/'))
    .map((directory) => join(directory, name))
    .find(isProgram);
}

/** True for a file that this user can execute. */
export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
