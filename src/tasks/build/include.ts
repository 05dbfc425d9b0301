import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, relative, resolve, sep } from 'node:path';
import { usageError } from '../../core/errors.ts';
import { ioError } from '../../core/files.ts';
import type { Cache } from '../../image/cache.ts';
import type { TreeEntry } from '../../image/cpio.ts';
import { directory } from '../../image/ramdisks.ts';
import { flattenDirectory, imageTree, listFile } from '../../oci/index.ts';

/**
 * The entries of one `include` of enclave.toml, below `prefix`: a file, or everything in a directory. Owner, modes and
 * links are as git keeps them (flattenDirectory). With a "/" at its end `to` is the directory that the file goes into.
 *
 * Throws `ERR_CONFIG_VALUE` (exit 2) for what lies outside of the project: nobody else could build it; `ERR_FILE_*`,
 * `ERR_ROOTFS_*`.
 */
export async function includeFiles(
  dir: string,
  { from, to }: { from: string; to: string },
  prefix: string,
  cache: Cache,
): Promise<TreeEntry[]> {
  const source = resolve(dir, from);
  const outside = () =>
    usageError(
      'ERR_CONFIG_VALUE',
      `runtime.include: expected "${from}" and "${to}" to lie inside the project and the image`,
      {
        hint: 'copy what is needed into a directory of the project',
      },
    );
  if (!isBelow(dir, source) || to.split('/').includes('..')) throw outside();
  const found = await lstat(source).catch((error) => {
    throw ioError(error, `cannot read ${source}`);
  });
  // Somebody else's project could name a key of whoever builds it through a link.
  if (!found.isSymbolicLink() && !isBelow(await realpath(dir), await realpath(source))) throw outside();
  if (!found.isFile() && !found.isDirectory()) {
    const is = found.isSymbolicLink() ? 'a link' : 'something else';
    throw usageError('ERR_FILE_KIND', `runtime.include: expected "${from}" to be a file or a directory, found ${is}`, {
      hint: 'name the file itself, or a directory around it: links inside an included directory are kept',
    });
  }
  const target = `${prefix}/${to
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')}`.replace(/\/$/, '');
  if (found.isDirectory()) return [directory(target), ...imageTree(await flattenDirectory(source), cache, target)];
  const path = to.endsWith('/') ? `${target}/${basename(source)}` : target;
  return imageTree(await listFile(source), cache, dirname(path)).map((entry) => ({ ...entry, path }));
}

function isBelow(dir: string, path: string): boolean {
  const inside = relative(dir, path);
  return inside !== '' && inside.split(sep)[0] !== '..';
}
