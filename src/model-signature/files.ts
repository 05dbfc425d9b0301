import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { listModel, type ModelFile } from '../model/index.ts';

/** What no signature covers, at the top of a model (OpenSSF Model Signing 1.0, section 6.2). */
export const DEFAULT_IGNORED = ['.git', '.gitattributes', '.github', '.gitignore'];

/** A model's files as they are named in a signature: by the bytes of their names, not normalised. */
export interface ListedModel {
  /** Of the model: file or directory. */
  name: string;
  single: boolean;
  files: { name: string; file: ModelFile }[];
}

/** Lists a model. Symbolic links and special files are refused: errors as listModel. */
export async function listForSignature(model: string): Promise<ListedModel> {
  const root = resolve(model);
  const files = await listModel(model);
  const single = (await lstat(root)).isFile();
  return {
    name: basename(root),
    single,
    files: files.map((file) => ({
      name: single ? basename(file.absolute) : relative(root, file.absolute).split(sep).join('/'),
      file,
    })),
  };
}

/** The path of a signature in the model that it is over; null where it lies elsewhere. */
export async function pathInModel(model: string, signature: string): Promise<string | null> {
  const real = (path: string) =>
    realpath(path).catch((error) => {
      throw ioError(error, `cannot read the directory of the signature ${signature}`);
    });
  const [root, directory] = await Promise.all([realpath(model), real(dirname(resolve(signature)))]);
  const path = relative(root, join(directory, basename(signature)));
  return path === '' || path.split(sep)[0] === '..' ? null : path.split(sep).join('/');
}

/** Whether a file is one of `ignored`, or lies below one that is a directory: exact paths from the top (section 6.2.1). */
export const isIgnored = (name: string, ignored: Set<string>): boolean => {
  if (ignored.has(name)) return true;
  for (let i = name.indexOf('/'); i !== -1; i = name.indexOf('/', i + 1))
    if (ignored.has(name.slice(0, i))) return true;
  return false;
};

/**
 * The paths that a signature leaves out, checked: relative, no "..", no glob characters (section 6.2.1). The reference implementation
 * writes "DIR/" for a directory, and can write ".". Throws `ERR_MODEL_SIGNATURE_MALFORMED` (exit 2).
 */
export function ignoredPaths(listed: string[] = []): Set<string> {
  const paths = new Set(DEFAULT_IGNORED);
  for (const path of listed) {
    const parts = path.replace(/^\.\//, '').replace(/\/$/, '').split('/');
    const odd = parts.some((part) => part === '' || part === '.' || part === '..') || /[*?[\\\0]/.test(path);
    if (odd) {
      throw usageError(
        'ERR_MODEL_SIGNATURE_MALFORMED',
        `the signature leaves out ${JSON.stringify(path.slice(0, 200))}; expected the path of a file or directory in the model`,
      );
    }
    paths.add(parts.join('/'));
  }
  return paths;
}
