import type { Readable } from 'node:stream';
import { wrongDigest } from './blobs.ts';
import { MAX_CONFIG, parseConfig } from './config.ts';
import { malformed, shown } from './json.ts';
import { type Descriptor, entriesFor, type LayerDescriptor, MAX_MANIFEST, parseManifest } from './manifest.ts';
import { checkPlatform, parsePlatform, platformText } from './platform.ts';
import type { ImageLayer, OpenedImage } from './source.ts';

/** A document that is named by content; the size where whoever names it says it. */
export interface DocumentName {
  digest: string;
  size?: number;
  mediaType?: string;
}

/** Where the documents and layers of one image can be had by digest: a layout, a registry. */
export interface BlobStore {
  /** "localhost:5000/app:1", for messages. */
  what: string;
  /** The document, compared with its digest and size. Its media type is what the store says, else what `name` says. */
  manifest(name: DocumentName, limit: number): Promise<{ bytes: Buffer; mediaType?: string | undefined }>;
  config(name: Descriptor, limit: number): Promise<Buffer>;
  layer(layer: LayerDescriptor): Promise<Readable>;
  close(): Promise<void>;
}

/** More than any tool makes. Without it a chain of small documents costs a fetch each. */
const MAX_DEPTH = 4;

/**
 * Goes from a manifest or an index to the image of one platform. Layers are not looked at.
 * Throws `ERR_OCI_PLATFORM`, `ERR_OCI_AMBIGUOUS`, `ERR_OCI_MALFORMED`, `ERR_OCI_UNSUPPORTED` (exit 2),
 * `ERR_OCI_DIGEST` (exit 3) and what the store throws.
 */
export async function imageAt(
  store: BlobStore,
  start: DocumentName,
  options: { platform: string; expect?: string | undefined },
): Promise<OpenedImage> {
  const wanted = parsePlatform(options.platform);
  let name = start;
  for (let depth = 0; ; depth++) {
    const what = `the manifest ${shown(name.digest)} of ${store.what}`;
    const { bytes, mediaType } = await store.manifest(name, MAX_MANIFEST);
    const manifest = parseManifest(bytes, what, mediaType);
    if (manifest.kind === 'index') {
      if (depth === MAX_DEPTH) throw malformed(store.what, `its indexes are nested more than ${MAX_DEPTH} deep`);
      name = only(entriesFor(manifest.entries, wanted, store.what), what);
      continue;
    }
    if (options.expect !== undefined && name.digest !== options.expect)
      throw wrongDigest(store.what, options.expect, name.digest);
    const about = `the configuration of ${store.what}`;
    const configBytes = await store.config(manifest.config, MAX_CONFIG);
    const { config, diffIds } = parseConfig(configBytes, about);
    checkPlatform(config, wanted, store.what);
    const layers = pairLayers(manifest.layers, diffIds, store);
    const documents = [bytes, configBytes];
    const close = () => store.close();
    return { digest: name.digest, platform: platformText(wanted), config, documents, layers, close };
  }
}

/** Entries that say no platform can be told apart only by reading them all: a choice for people. */
function only([best, other]: Descriptor[], what: string): Descriptor {
  if (best === undefined) throw malformed(what, 'it is empty');
  if (!best.platform && other !== undefined && other.digest !== best.digest)
    throw malformed(what, 'it has several images and does not say for which platforms');
  return best;
}

function pairLayers(stored: LayerDescriptor[], diffIds: string[], store: BlobStore): ImageLayer[] {
  if (stored.length !== diffIds.length) {
    throw malformed(
      store.what,
      `its manifest has ${stored.length} layers, its configuration ${diffIds.length} (rootfs.diff_ids)`,
    );
  }
  return stored.map((layer, i) => ({ diffId: String(diffIds[i]), ...layer, open: () => store.layer(layer) }));
}
