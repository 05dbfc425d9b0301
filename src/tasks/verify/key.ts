import type { KeyObject } from 'node:crypto';
import { readSmallFile } from '../../core/files.ts';
import { readBuildPublicKey, readEcPublicKey } from '../../keys/ec.ts';
import { readXWingPrivateKey } from '../../keys/keys.ts';
import type { Kind } from './report.ts';

/** What `--key` was: what it is for depends on the files that are judged. */
export interface GivenKey {
  /** Public: whose signature is asked for. */
  signer?: KeyObject;
  /** Private: opens sealed models. */
  recovery?: { seed: Buffer; publicRaw: Buffer };
}

const SEALED: Kind[] = ['sealed-model'];
const MANIFESTS: Kind[] = ['build-manifest', 'manifest-signature'];
const SIGNED: Kind[] = [...MANIFESTS, 'model-signature'];

/**
 * Reads `--key`: the public key of whoever signs builds or models, or the recovery key of a sealed model. Where files of both sorts are
 * judged, the key says by its own kind which of them it is for. Throws `ERR_KEY_KIND`, `ERR_KEY_MALFORMED` (exit 2).
 */
export async function readKey(path: string | undefined, kinds: Kind[]): Promise<GivenKey> {
  if (path === undefined) return {};
  const [sealed, signed] = [SEALED, SIGNED].map((some) => kinds.some((kind) => some.includes(kind)));
  const pem = await readSmallFile(path, 'key');
  const signs = signed && !(sealed && pem.includes('PRIVATE KEY'));
  if (!signs) return { recovery: readXWingPrivateKey(pem, 'recovery key') };
  // Models are signed by others too, on all curves of OpenSSF Model Signing.
  const read = kinds.some((kind) => MANIFESTS.includes(kind)) ? readBuildPublicKey : readEcPublicKey;
  return { signer: read(pem) };
}
