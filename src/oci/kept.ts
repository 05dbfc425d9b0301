import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { type Cache, openCached, readCached } from '../image/cache.ts';
import type { OciEntry } from '../image/lock-file.ts';
import { byteStream, fileRange, verified } from './blobs.ts';
import { parseConfig } from './config.ts';
import { parseDigest } from './digest.ts';
import { malformed } from './json.ts';
import { diffHex } from './layer-store.ts';
import { parseManifest } from './manifest.ts';
import { checkPlatform, parsePlatform } from './platform.ts';
import type { ImageReference } from './reference.ts';
import type { ImageLayer, OpenedImage } from './source.ts';

/**
 * The image that a lock pins, of documents and uncompressed layers in the cache (an archive of inputs brings them), whatever
 * the reference: its digest leads to the configuration, and that to the layers. Null unless all of them are there.
 * Throws `ERR_OCI_MALFORMED`, `ERR_OCI_PLATFORM` (exit 2).
 */
export async function keptImage(
  { digest, reference, platform }: OciEntry,
  kind: ImageReference['kind'],
  cache: Cache,
): Promise<OpenedImage | null> {
  const first = await document(digest, cache);
  if (first === null) return null;
  const documents = [first];
  if (kind !== 'docker-archive') {
    const manifest = parseManifest(first, reference);
    if (manifest.kind === 'index') return null;
    const config = await document(manifest.config.digest, cache);
    if (config === null) return null;
    documents.push(config);
  }
  const { config, diffIds } = parseConfig(documents.at(-1) as Buffer, `the configuration of ${reference}`);
  checkPlatform(config, parsePlatform(platform), reference);
  const layers: ImageLayer[] = [];
  for (const [i, diffId] of diffIds.entries()) {
    const path = cache.layerPath(diffHex(diffId, `layer ${i + 1}`));
    const found = await stat(path).catch(() => null);
    if (found === null) return null;
    layers.push(keptLayer(diffId, path, found.size, reference));
  }
  return { digest, platform, config, documents, layers, close: async () => {} };
}

const keptLayer = (diffId: string, path: string, size: number, reference: string): ImageLayer => ({
  diffId,
  size,
  compression: 'none',
  async open() {
    const handle = await openCached(path);
    if (handle === null) throw malformed(reference, `its layer ${diffId} is gone from the cache`);
    const bytes = async function* () {
      try {
        yield* fileRange(handle, 0, size + 1);
      } finally {
        await handle.close();
      }
    };
    return byteStream(verified(bytes(), { digest: diffId, size }, `the layer ${diffId} of ${reference}`));
  },
});

/** Compared with its digest, or null. */
async function document(digest: string, cache: Cache): Promise<Buffer | null> {
  const pin = parseDigest(digest);
  const bytes = pin && (await readCached(cache.archivePath(pin)));
  return bytes && createHash(pin.algorithm).update(bytes).digest('hex') === pin.hex ? bytes : null;
}
