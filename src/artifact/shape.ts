import * as z from 'zod';
import { hex } from '../core/bytes.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { isDigest } from '../oci/digest.ts';
import { readJson, shown } from '../oci/json.ts';
import { MAX_MANIFEST } from '../oci/manifest.ts';
import type { ParsedHeader } from '../seal/header.ts';

// A sealed model as an OCI artifact: OCI image specification 1.1, "Image Manifest Specification" and "Guidelines for Artifact Usage".

export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
export const TYPES = {
  sealed: 'application/vnd.atoma.seal.v1',
  /** The header's exact bytes, without padding: the digest is the header digest that `inspect` shows. */
  header: 'application/vnd.atoma.seal.header.v1',
  /** Ciphertext, without padding. */
  index: 'application/vnd.atoma.seal.index.v1',
  part: 'application/vnd.atoma.seal.part.v1',
  /** An artifact that refers to a sealed model, with a layer or two of the following kinds. */
  build: 'application/vnd.atoma.build.v1',
  statement: 'application/vnd.in-toto+json',
  bundle: 'application/vnd.dev.sigstore.bundle.v0.3+json',
} as const;
/** OCI image specification 1.1, "Guidance for an Empty Descriptor". */
export const EMPTY = {
  mediaType: 'application/vnd.oci.empty.v1+json',
  digest: 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',
  size: 2,
};
export const EMPTY_BYTES = Buffer.from('{}');

const MAX_LAYERS = 40_000;

const descriptor = z.object({
  mediaType: z.string().max(255),
  digest: z.string().refine(isDigest, 'not a digest'),
  size: z.int().min(0),
  artifactType: z.string().max(255).optional(),
});
/** OCI content descriptor. */
export type Descriptor = z.infer<typeof descriptor>;

const manifest = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.literal(MANIFEST_TYPE).optional(),
  artifactType: z.string().max(255).optional(),
  config: descriptor,
  layers: z.array(descriptor).max(MAX_LAYERS),
  subject: descriptor.nullish(),
  // What has these too can be read as something else by somebody else.
  manifests: z.undefined().optional(),
  fsLayers: z.undefined().optional(),
});
export type ArtifactManifest = z.infer<typeof manifest>;

const index = z.object({ schemaVersion: z.literal(2), manifests: z.array(descriptor).max(MAX_LAYERS) });

export const pick = ({ mediaType, digest, size }: Descriptor): Descriptor => ({ mediaType, digest, size });

/** The manifest's bytes: the same for the same file, whoever pushes it, and wherever. Throws `ERR_ARTIFACT_TOO_LARGE` (exit 2). */
export function encodeSealed(header: Descriptor, layers: Descriptor[]): Buffer {
  const bytes = encode({ artifactType: TYPES.sealed, config: pick(header), layers: layers.map(pick) });
  if (bytes.length <= MAX_MANIFEST && layers.length <= MAX_LAYERS) return bytes;
  throw usageError(
    'ERR_ARTIFACT_TOO_LARGE',
    `the sealed model has ${layers.length - 1} parts: a manifest that lists them would have ${bytes.length} bytes; expected at most ${MAX_MANIFEST}, which is what registries take`,
  );
}

/** `layers`: the statement, and the bundle where there is one. */
export const encodeBuild = (subject: Descriptor, layers: (Descriptor & { title: string })[]): Buffer =>
  encode({
    artifactType: TYPES.build,
    config: EMPTY,
    layers: layers.map((layer) => ({
      ...pick(layer),
      annotations: { 'org.opencontainers.image.title': layer.title },
    })),
    subject: pick(subject),
  });

const encode = (fields: object): Buffer =>
  Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, ...fields }));

/** What `artifactType` a manifest is of. Throws `ERR_ARTIFACT_KIND`, `ERR_OCI_MALFORMED` (exit 2). */
export function parseArtifact(bytes: Uint8Array, mediaType: string | undefined, type: string, what: string) {
  const found = readJson(bytes, z.looseObject({ mediaType: z.string().optional() }), what);
  const called = [mediaType, found.mediaType].filter((name) => name !== undefined);
  const other = called.find((name) => name !== MANIFEST_TYPE);
  if (other !== undefined) throw otherKind(what, other, type);
  const parsed = readJson(bytes, manifest, what);
  const config = parsed.config.mediaType;
  const expected = type === TYPES.sealed ? TYPES.header : EMPTY.mediaType;
  if (parsed.artifactType !== type) throw otherKind(what, parsed.artifactType ?? config, type);
  if (config !== expected) throw otherKind(what, config, type);
  return parsed;
}

const otherKind = (what: string, found: string, type: string) =>
  usageError(
    'ERR_ARTIFACT_KIND',
    `${what} is not ${type === TYPES.sealed ? 'a sealed model' : 'a build manifest'}: expected ${type}, found ${shown(found)}`,
    { hint: 'is it the right repository and tag?' },
  );

/** Throws `ERR_OCI_MALFORMED` (exit 2). */
export const parseReferrers = (bytes: Uint8Array, what: string): Descriptor[] => readJson(bytes, index, what).manifests;

/**
 * Compares a manifest's layers with the header, which the owner signed: one for the index and one for each part, in order, of the
 * lengths there, and the index's digest. Throws `ERR_ARTIFACT_LAYERS` (exit 3).
 */
export function requireLayers({ layers }: ArtifactManifest, { header }: ParsedHeader, what: string): void {
  const refuse = (expected: string, found: string) => {
    throw negativeError(
      'ERR_ARTIFACT_LAYERS',
      `${what} is not what its header, which the owner signed, says: expected ${expected}, found ${found}`,
      { hint: 'do not use it; get it from its owner again' },
    );
  };
  const expected = [header.index, ...header.parts];
  if (layers.length !== expected.length) refuse(`${expected.length} layers`, `${layers.length}`);
  for (const [i, layer] of layers.entries()) {
    const name = i === 0 ? 'the index' : `part ${i}`;
    const type = i === 0 ? TYPES.index : TYPES.part;
    if (layer.mediaType !== type) refuse(`${name} as ${type}`, shown(layer.mediaType));
    if (layer.size !== expected[i]?.length) refuse(`${name} of ${expected[i]?.length} bytes`, `${layer.size}`);
  }
  const digest = `sha256:${hex(header.index.sha256)}`;
  if (layers[0]?.digest !== digest) refuse(`the index ${digest}`, String(layers[0]?.digest));
}
