import { stat } from 'node:fs/promises';
import { usageError } from '../../core/errors.ts';
import { ioError } from '../../core/files.ts';
import { hashFile } from '../../image/cache.ts';

/** Size and digest (hex) of a file of the project. Throws `ERR_FILE_NOT_FOUND`, `ERR_FILE_KIND` (exit 2). */
export async function pinFile(path: string): Promise<{ size: number; sha256: string }> {
  const found = await stat(path).catch((error) => {
    throw ioError(error, `cannot read ${path}`);
  });
  if (!found.isFile()) throw usageError('ERR_FILE_KIND', `expected the file ${path}, found something else`);
  if (found.size === 0) throw usageError('ERR_FILE_KIND', `expected the file ${path}, found an empty one`);
  const sha256 = await hashFile(path, 'sha256');
  if (sha256 === null) throw usageError('ERR_FILE_NOT_FOUND', `cannot read ${path}`);
  return { size: found.size, sha256 };
}
