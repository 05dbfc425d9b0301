import * as z from 'zod';
import { MAX_LAYERS } from './config.ts';
import { isDigest } from './digest.ts';
import { malformed, readJson, shown, unsupported } from './json.ts';
import { type Platform, platformRank, platformText, wrongPlatform } from './platform.ts';

export const MAX_MANIFEST = 4 << 20;
const MAX_ENTRIES = 10_000;

// OCI image specification 1.1, "OCI Image Media Types"; Docker's "Image Manifest Version 2, Schema 2".
export const INDEX_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
export const MANIFEST_TYPES = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];
const SCHEMA_1 = /^application\/vnd\.docker\.distribution\.manifest\.v1\+(json|prettyjws)$/;
const CONFIG_TYPES = ['application/vnd.oci.image.config.v1+json', 'application/vnd.docker.container.image.v1+json'];

const descriptor = z.object({
  mediaType: z.string().max(255),
  digest: z.string().refine(isDigest, 'not a digest'),
  size: z.int().min(0),
  annotations: z.record(z.string(), z.string()).nullish(),
  platform: z
    .object({ os: z.string().max(255), architecture: z.string().max(255), variant: z.string().max(255).optional() })
    .nullish(),
});

/** What one document says of another: where it is by content, how large it is, what it is. */
export type Descriptor = z.infer<typeof descriptor>;

export interface LayerDescriptor {
  digest: string;
  size: number;
  compression: 'none' | 'gzip' | 'zstd';
}

export type Manifest =
  | { kind: 'index'; entries: Descriptor[] }
  | { kind: 'image'; config: Descriptor; layers: LayerDescriptor[] };

const index = z.object({ manifests: z.array(descriptor).max(MAX_ENTRIES) });
const image = z.object({ config: descriptor, layers: z.array(descriptor).max(MAX_LAYERS) });
const head = z.object({
  schemaVersion: z.unknown().optional(),
  mediaType: z.string().optional(),
  manifests: z.unknown().optional(),
  config: z.unknown().optional(),
  layers: z.unknown().optional(),
  fsLayers: z.unknown().optional(),
});

/**
 * Reads an image manifest or an index. `mediaType` is what whoever delivered it calls it, where it does: a document that
 * can be read both ways, or differs from what it is called, is refused, so that nobody else reads another image in it.
 * Throws `ERR_OCI_MALFORMED`, `ERR_OCI_UNSUPPORTED` (exit 2).
 */
export function parseManifest(bytes: Uint8Array, what: string, mediaType?: string): Manifest {
  const found = readJson(bytes, head, what);
  const types = [found.mediaType, mediaType].filter((type) => type !== undefined);
  if (types.some((type) => SCHEMA_1.test(type)) || found.schemaVersion === 1 || found.fsLayers !== undefined) {
    throw unsupported(
      what,
      'is of schema 1, which names no configuration by digest',
      'push the image again with a tool of this decade',
    );
  }
  if (found.schemaVersion !== 2) throw malformed(what, 'schemaVersion is not 2');
  const isIndex = found.manifests !== undefined;
  if (isIndex === (found.config !== undefined || found.layers !== undefined)) {
    throw malformed(what, isIndex ? 'it is an index and a manifest at once' : 'it is neither an index nor a manifest');
  }
  const wrong = types.find((type) => (isIndex ? MANIFEST_TYPES : INDEX_TYPES).includes(type));
  if (wrong !== undefined) throw malformed(what, `it is called "${shown(wrong)}" and is not`);
  if (isIndex) return { kind: 'index', entries: readJson(bytes, index, what).manifests };
  const { config, layers } = readJson(bytes, image, what);
  if (!CONFIG_TYPES.includes(config.mediaType)) {
    throw unsupported(what, `is an artifact (${shown(config.mediaType)}), not a container image`);
  }
  return { kind: 'image', config, layers: layers.map((layer) => layerOf(layer, what)) };
}

function layerOf({ mediaType, digest, size }: Descriptor, what: string): LayerDescriptor {
  if (/^application\/vnd\.oci\.image\.layer\.nondistributable\.|\.rootfs\.foreign\./.test(mediaType)) {
    throw unsupported(what, `has a layer that its registry does not distribute (${shown(mediaType)})`);
  }
  const known =
    /^application\/vnd\.oci\.image\.layer\.v1\.tar(?:\+(gzip|zstd))?$/.exec(mediaType) ??
    /^application\/vnd\.docker\.image\.rootfs\.diff\.tar(?:\.(gzip|zstd))?$/.exec(mediaType);
  if (known === null) throw unsupported(what, `has a layer of a kind that is not known (${shown(mediaType)})`);
  return { digest, size, compression: (known[1] ?? 'none') as LayerDescriptor['compression'] };
}

/** Attestations (BuildKit's) live in the index beside the images that they are about. */
const isAttestation = ({ platform, annotations }: Descriptor): boolean =>
  (platform?.os === 'unknown' && platform.architecture === 'unknown') ||
  annotations?.['vnd.docker.reference.type'] === 'attestation-manifest';

const isManifest = ({ mediaType }: Descriptor): boolean =>
  INDEX_TYPES.includes(mediaType) || MANIFEST_TYPES.includes(mediaType) || SCHEMA_1.test(mediaType);

/**
 * The entries of an index that serve a platform, the best first: those that say it, or else those that say none (a
 * configuration has to tell). Throws `ERR_OCI_PLATFORM` (exit 2), which lists what is there.
 */
export function entriesFor(entries: Descriptor[], wanted: Platform, what: string): Descriptor[] {
  const images = entries.filter((entry) => isManifest(entry) && !isAttestation(entry));
  const rank = ({ platform }: Descriptor): number => (platform ? platformRank(platform, wanted) : 0);
  const exact = images.filter((entry) => rank(entry) > 0).sort((a, b) => rank(b) - rank(a));
  if (exact.length > 0) return exact;
  const silent = images.filter(({ platform }) => !platform);
  if (silent.length > 0) return silent;
  throw wrongPlatform(
    what,
    wanted,
    images.flatMap(({ platform }) => (platform ? [platformText(platform)] : [])),
  );
}
