import { readSmallFile } from '../../core/files.ts';
import { badWrapKey } from './errors.ts';
import { KEY } from './layout.ts';

/** The 16 raw bytes that Gramine's tools and /dev/attestation/keys/NAME take. Throws `ERR_PF_WRAP_KEY` (exit 2), as readSmallFile. */
export async function readWrapKey(path: string): Promise<Buffer> {
  const bytes = await readSmallFile(path, 'wrap key', 4096);
  if (bytes.length !== KEY) throw badWrapKey(path, bytes.length);
  return bytes;
}
