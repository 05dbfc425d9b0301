import { lstat } from 'node:fs/promises';
import { basename, dirname, relative, resolve } from 'node:path';
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
  const inside = relative(dir, source);
  if (inside === '' || inside.split('/')[0] === '..' || to.split('/').includes('..')) {
    throw usageError(
      'ERR_CONFIG_VALUE',
      `runtime.include: expected "${from}" and "${to}" to lie inside the project and the image`,
      {
        hint: 'copy what is needed into a directory of the project',
      },
    );
  }
  const found = await lstat(source).catch((error) => {
    throw ioError(error, `cannot read ${source}`);
  });
  const target = `${prefix}/${to
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')}`.replace(/\/$/, '');
  if (found.isDirectory()) return [directory(target), ...imageTree(await flattenDirectory(source), cache, target)];
  const path = to.endsWith('/') ? `${target}/${basename(source)}` : target;
  return imageTree(await listFile(source), cache, dirname(path)).map((entry) => ({ ...entry, path }));
}
