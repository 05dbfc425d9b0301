import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readSmallFile, writeFileAtomic } from '../../core/files.ts';
import { readBuildPrivateKey } from '../../keys/ec.ts';
import { BUNDLE_FILE, cosignHint, signBundle } from '../../manifest/bundle.ts';
import { MANIFEST_FILE } from '../../manifest/statement.ts';

export interface BuildSigner {
  key: KeyObject;
  publicKey: KeyObject;
}

/** `build --sign`: a build key from its file. Throws `ERR_KEY_*` (exit 2). */
export const readBuildSigner = async (path: string): Promise<BuildSigner> =>
  readBuildPrivateKey(await readSmallFile(path, 'build key'));

/** Signs the manifest that lies in `dir`, byte for byte, beside it. Returns the name of what was written. */
export async function signManifestIn(dir: string, { key, publicKey }: BuildSigner): Promise<string> {
  const statement = await readFile(join(dir, MANIFEST_FILE));
  await writeFileAtomic(join(dir, BUNDLE_FILE), signBundle(statement, key, cosignHint(publicKey)));
  return BUNDLE_FILE;
}
