import { dirname } from 'node:path';
import { sha256 } from '../../../src/core/bytes.ts';
import { DigestCache, digestFiles, type ModelFile } from '../../../src/model/index.ts';

/**
 * A digest cache that says, of the files named, that they are what they are not: as one that a hostile program of the same user wrote, or
 * a file system whose times do not tell. Of the others it tells the truth. Returns its directory.
 */
export async function rememberLies(
  cacheDir: string,
  files: ModelFile[],
  lies: Record<string, Uint8Array>,
): Promise<string> {
  const digests = await digestFiles(files);
  for (const [i, { path }] of files.entries()) if (lies[path]) digests[i] = sha256(lies[path]);
  const [first] = files;
  if (!first) throw new Error('expected files');
  const depth = first.path.split('/').length;
  let model = first.absolute;
  for (let i = 0; i < depth; i++) model = dirname(model);
  await (await DigestCache.open(cacheDir, model)).record(files, digests, Date.now() + 3_600_000);
  return cacheDir;
}
