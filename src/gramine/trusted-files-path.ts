import { constants, lstatSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { usageError } from '../core/errors.ts';

/** Where the trusted files of a manifest are looked for. */
export interface TrustedRoot {
  /** What relative URIs are relative to. */
  directory: string;
  /** All paths are absolute, and inside of this directory; links too. Without a slash at its end, so "" is the real root. */
  chroot?: string | undefined;
}

/** The path of a `file:` URI as Python's PurePosixPath normalises it: no "." and no doubled slashes, ".." stays. */
export function uriPath(uri: string): string {
  if (!uri.startsWith('file:')) {
    throw usageError('ERR_GRAMINE_TRUSTED', `trusted file "${uri}": expected a URI that begins with "file:"`);
  }
  if (uri.includes('\0'))
    throw usageError('ERR_GRAMINE_TRUSTED', 'expected the path of a trusted file, found a NUL in it');
  const path = uri.slice('file:'.length);
  // POSIX leaves the meaning of exactly two leading slashes open; Python keeps them.
  const root = /^\/\/(?!\/)/.test(path) ? '//' : path.startsWith('/') ? '/' : '';
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  return root + parts.join('/') || '.';
}

/** The child's path in a URI: what Python gives for `str(parent / name)`. */
export const childPath = (parent: string, name: string): string =>
  parent === '.' ? name : parent.endsWith('/') ? parent + name : `${parent}/${name}`;

/** Where on this machine the file of a normalised path is; links of a chroot are followed inside of it. */
export function hostPath(path: string, root: TrustedRoot): string {
  if (root.chroot !== undefined) return insideChroot(resolveInside(path, root.chroot), root.chroot);
  return path.startsWith('/') ? path : `${root.directory}/${path}`;
}

const insideChroot = (path: string, chroot: string): string => (path === '/' ? chroot || '/' : chroot + path);

/** As many as Linux follows (path_resolution(7)). */
const MAX_LINKS = 40;

/**
 * Resolves every link of an absolute path as if `chroot` were the root: "/" in a link is the chroot, and ".." stops there.
 * What does not exist is kept as it is. Throws an error with code ELOOP as the kernel does.
 */
export function resolveInside(path: string, chroot: string): string {
  // Python's paths keep two leading slashes, and with them no path is inside of the chroot.
  if (!/^\/(?!\/)/.test(path)) {
    throw usageError(
      'ERR_GRAMINE_TRUSTED',
      `trusted file "file:${path}": expected a path that begins with one slash, because of --chroot`,
    );
  }
  const left = path.split('/').reverse();
  let done: string[] = [];
  let links = 0;
  for (let part = left.pop(); part !== undefined; part = left.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      requireDirectory(`${chroot}/${done.join('/')}`);
      done.pop();
      continue;
    }
    const here = `${chroot}/${[...done, part].join('/')}`;
    if (!isLink(here)) {
      done.push(part);
      continue;
    }
    if (++links > MAX_LINKS) throw Object.assign(new Error(`too many links in ${path}`), { code: 'ELOOP' });
    const target = readlinkSync(here);
    if (target.startsWith('/')) done = [];
    left.push(...target.split('/').reverse());
  }
  return `/${done.join('/')}`;
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** "file/.." is nothing, to the kernel as to Gramine. */
function requireDirectory(path: string): void {
  if (!statOrNull(path)?.isDirectory()) throw Object.assign(new Error(`${path} is no directory`), { code: 'ENOTDIR' });
}

/** What is there after following links; null where nothing is, and for a dangling link. Other failures are thrown. */
export function statOrNull(path: string): Stats | null {
  try {
    return statSync(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

export const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(codeOf(error));
export const isLoop = (error: unknown): boolean => codeOf(error) === 'ELOOP';
const codeOf = (error: unknown): string => String((error as NodeJS.ErrnoException | undefined)?.code);

/** A FIFO is not waited for, a terminal does not become ours. */
export const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
