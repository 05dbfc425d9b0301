import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { readOwnerPublicKey, readXWingPrivateKey } from '../keys/keys.ts';
import { unsealFile } from '../seal/index.ts';

/** `atoma-tee unseal`: key files are paths; the output directory must not exist. */
export async function unseal(options: {
  sealed: string;
  key: string;
  owner?: string | undefined;
  out: string;
  onProgress?: OnProgress;
}) {
  const key = readXWingPrivateKey(await readSmallFile(options.key, 'recovery key'));
  const owner = options.owner ? readOwnerPublicKey(await readSmallFile(options.owner, 'owner key')).raw : undefined;
  return unsealFile({
    sealed: options.sealed,
    key,
    ...(owner ? { owner } : {}),
    out: options.out,
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  });
}
