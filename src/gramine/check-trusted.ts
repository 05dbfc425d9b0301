import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { negativeError } from '../core/errors.ts';
import { type HashOptions, hashTrustedFiles } from './hash-pool.ts';
import type { ManifestTable } from './manifest.ts';
import { missingFiles } from './trusted-files.ts';

/**
 * Hashes every file that a complete manifest trusts and compares: what Gramine would do one by one when the program opens
 * them, with an error that the program may swallow. `directory` is where Gramine is started.
 *
 * Throws `ERR_GRAMINE_TRUSTED_MISSING` (exit 2) with all that are missing, `ERR_GRAMINE_FILE_DIGEST` (exit 3), and what hashing throws.
 */
export async function checkTrustedFiles(
  { directory, table }: { directory: string; table: ManifestTable },
  options: HashOptions = {},
): Promise<void> {
  const entries = ((table.sgx as ManifestTable | undefined)?.trusted_files ?? []) as { uri: string; sha256: string }[];
  const files = entries.map(({ uri, sha256 }) => {
    const path = resolve(directory, uri.replace(/^file:/, ''));
    return { uri, sha256, path, size: statSync(path, { throwIfNoEntry: false })?.size };
  });
  const missing = files.filter(({ size }) => size === undefined).map(({ uri }) => uri);
  if (missing.length > 0) throw missingFiles(missing);
  const digests = await hashTrustedFiles(
    files.map(({ path, size = 0 }) => ({ path, size })),
    options,
  );
  const wrong = files.findIndex(({ sha256 }, index) => digests[index] !== sha256.toLowerCase());
  const file = files[wrong];
  if (file === undefined) return;
  throw fileDigestError(file.uri, file.sha256, digests[wrong]);
}

/** `ERR_GRAMINE_FILE_DIGEST` (exit 3) */
export const fileDigestError = (uri: string, expected: unknown, found: string | undefined) =>
  negativeError(
    'ERR_GRAMINE_FILE_DIGEST',
    `${uri} is not the file that the manifest measures: expected sha256 ${expected}, found ${found}`,
    { hint: 'somebody changed the image after it was built: build it again' },
  );
