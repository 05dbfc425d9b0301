import { existsSync, linkSync, lstatSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { type AtomaError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { Staging } from '../core/staging.ts';

/** A finished output: a file, or a directory with what can be in it (so that nobody's own directory is taken for an old one). */
export interface Output {
  name: string;
  /** Names that the directory can hold; absent: a file. */
  directory?: string[];
}

/**
 * Makes finished outputs appear in `out`: the directory at once where there is none, else one by one in the order
 * given, without giving way to anything in between; when one of them cannot take its place, those before it give theirs back.
 * What was there goes to the staging directory, whole, and with it away. Links are replaced, never followed. Other
 * files in `out` are left alone.
 *
 * Throws `ERR_OUTPUT_KIND` (exit 2), before anything moves, where something of another kind has an output's name.
 */
export async function publish(staging: Staging, out: string, outputs: Output[]): Promise<void> {
  try {
    if (!existsSync(out)) return await rename(staging.path, out);
    for (const output of outputs) requireReplaceable(join(out, output.name), output);
    swap(staging.path, out, outputs);
  } catch (error) {
    throw ioError(error, `cannot write to ${out}`);
  }
}

function swap(from: string, out: string, outputs: Output[]): void {
  const old = join(from, 'replaced');
  mkdirSync(old, { mode: 0o700 });
  const undo: (() => void)[] = [];
  try {
    for (const { name, directory } of outputs) {
      const [fresh, target, aside] = [join(from, name), join(out, name), join(old, name)];
      const there = lstatSync(target, { throwIfNoEntry: false }) !== undefined;
      if (directory !== undefined && there) {
        renameSync(target, aside);
        undo.unshift(() => renameSync(aside, target));
      }
      if (directory === undefined && there && secondName(target, aside)) {
        renameSync(fresh, target);
        undo.unshift(() => renameSync(aside, target));
      } else {
        renameSync(fresh, target);
        undo.unshift(() => renameSync(target, fresh));
      }
    }
  } catch (error) {
    for (const back of undo) back();
    throw error;
  }
}

/** So that a file is never missing while another takes its place. Not every file system can. */
function secondName(path: string, name: string): boolean {
  try {
    linkSync(path, name);
    return true;
  } catch {
    return false;
  }
}

function requireReplaceable(path: string, { directory }: Output): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined || there.isSymbolicLink()) return;
  if (directory === undefined) {
    if (there.isDirectory()) throw inTheWay(`expected to write the file ${path}, found a directory of that name`);
    return;
  }
  if (!there.isDirectory()) throw inTheWay(`expected to write the directory ${path}, found a file of that name`);
  const other = readdirSync(path).find((name) => !directory.includes(name));
  if (other === undefined) return;
  throw inTheWay(`expected ${path} to be an older build's, found ${JSON.stringify(other)} in it`);
}

const inTheWay = (message: string): AtomaError =>
  usageError('ERR_OUTPUT_KIND', message, { hint: 'move it away, or give another --out' });
