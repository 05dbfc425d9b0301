import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import type { OnProgress } from '../core/progress.ts';
import { MAX_MANIFEST } from '../oci/manifest.ts';
import { fetchDocument } from '../oci/registry-document.ts';
import { type ParsedHeader, parseHeader, sealedSize, verifyHeaderSignature } from '../seal/header.ts';
import { MAX_STATEMENT, requireRelated, writeBuildFiles } from './build-files.ts';
import { type Place, type PlaceOptions, placeOf } from './client.ts';
import { type Filled, fill } from './fill.ts';
import { Lanes } from './lanes.ts';
import { mayGoOn, PartialFile } from './partial.ts';
import { listReferrers } from './referrers.ts';
import { type Reusable, reusable } from './reuse.ts';
import { regionsOf } from './sealed-file.ts';
import { type ArtifactManifest, INDEX_TYPE, MANIFEST_TYPE, parseArtifact, requireLayers, TYPES } from './shape.ts';

export interface PullOptions extends PlaceOptions {
  /** Path of the sealed model to write. */
  out?: string | undefined;
  /** Path of the build manifest to write. */
  manifest?: string | undefined;
  /** Raw Ed25519 public key that must be the owner's. */
  owner?: Uint8Array | undefined;
  /** Path of another version, whose parts need not be fetched. */
  reuse?: string | undefined;
  onProgress?: OnProgress | undefined;
}

/** Bytes are of blobs, without padding. */
export interface PullResult {
  reference: string;
  digest: string;
  path: string | null;
  /** Of the sealed file. */
  size: number;
  parts: number;
  moved: number;
  reused: number;
  /** Were there from an earlier run. */
  kept: number;
  sealId: string;
  epoch: number;
  /** Raw Ed25519 public key, hex; `ownerChecked`: it is the one that was given. */
  owner: string;
  ownerChecked: boolean;
  /** Provenance that nobody has verified yet. */
  manifest: { path: string; digest: string; signature: string | null; verified: false } | null;
}

const MAX_HEADER = (1 << 20) + 4096;

/**
 * Fetches a sealed model: the header's signature, its facts and every blob's digest are checked before the file appears. What an
 * interrupted run had stays for the next. Throws `ERR_SEAL_*`, `ERR_OCI_*`, `ERR_ARTIFACT_*`.
 */
export async function pullSealed(options: PullOptions): Promise<PullResult> {
  const place = placeOf(options);
  const { manifest, digest, parsed } = await open(place, options.owner);
  const { header } = parsed;
  const old = options.out === undefined ? null : await reusable(options.reuse);
  let filled: Filled = { moved: 0, reused: 0, kept: 0 };
  try {
    if (options.out !== undefined)
      filled = await fetchFile(place, manifest, parsed, options.out, old, options.onProgress);
  } finally {
    await old?.close();
  }
  const build = options.manifest === undefined ? null : await pullBuild(place, digest, parsed, options.manifest);
  return {
    reference: place.what,
    digest,
    path: options.out ?? null,
    size: sealedSize(parsed),
    parts: header.parts.length,
    ...filled,
    sealId: hex(header.sealId),
    epoch: header.epoch,
    owner: hex(header.owner),
    ownerChecked: options.owner !== undefined,
    manifest: build,
  };
}

/** Manifest and header, checked as far as they go. */
async function open(place: Place, owner: Uint8Array | undefined) {
  const { client, limits, signal, what, reference } = place;
  const accept = [MANIFEST_TYPE, INDEX_TYPE].join(', ');
  const absent = () => usageError('ERR_OCI_NOT_FOUND', `the registry has no sealed model ${what}`);
  const path = `manifests/${reference.digest ?? reference.tag}`;
  const pin = { digest: reference.digest };
  const got = await fetchDocument({ client, limits, signal, path, accept, pin, limit: MAX_MANIFEST, what, absent });
  const manifest = parseArtifact(got.bytes, got.mediaType, TYPES.sealed, what);
  const bytes = await fetchBlob(place, manifest.config, MAX_HEADER, `the header of ${what}`);
  const parsed = parseHeader(bytes);
  if (parsed.bytes.length !== bytes.length) {
    throw usageError('ERR_SEAL_TRAILING', `expected a header of ${parsed.bytes.length} bytes, found ${bytes.length}`);
  }
  verifyHeaderSignature(parsed, owner);
  requireLayers(manifest, parsed, what);
  return { manifest, parsed, digest: reference.digest ?? `sha256:${hex(sha256(got.bytes))}` };
}

async function fetchBlob(
  { client, limits, signal }: Place,
  pin: { digest: string; size: number },
  limit: number,
  what: string,
): Promise<Buffer> {
  const absent = () => usageError('ERR_OCI_NOT_FOUND', `the registry no longer has ${what}`);
  const path = `blobs/${pin.digest}`;
  return (await fetchDocument({ client, limits, signal, path, accept: '*/*', pin, limit, what, absent })).bytes;
}

async function fetchFile(
  place: Place,
  manifest: ArtifactManifest,
  parsed: ParsedHeader,
  out: string,
  old: Reusable | null,
  onProgress: OnProgress | undefined,
): Promise<Filled> {
  const head = Buffer.concat([parsed.bytes, Buffer.alloc(parsed.payloadOffset - parsed.bytes.length)]);
  const file = await PartialFile.claim(out, sealedSize(parsed), head);
  const sum: Filled = { moved: parsed.bytes.length, reused: 0, kept: 0 };
  const total = manifest.layers.reduce((all, { size }) => all + size, 0);
  const bytes = new Array<number>(manifest.layers.length).fill(0);
  const lanes = new Lanes(place.signal);
  try {
    await lanes.run(async () => {
      for (const [i, region] of regionsOf(parsed).entries()) {
        const layer = manifest.layers[i];
        if (layer === undefined) throw new RangeError('a layer less than regions');
        const what = `${i === 0 ? 'the index' : `part ${i}`} of ${place.what}`;
        const onBytes = (done: number) => {
          bytes[i] = done;
          onProgress?.({ phase: 'pulling', done: bytes.reduce((a, b) => a + b, 0), total });
        };
        const reuse = old?.find(parsed, i) ?? null;
        await lanes.start(async (signal) => {
          const got = await fill({ place, file, region, layer, what, reuse, signal, onBytes });
          for (const key of ['moved', 'reused', 'kept'] as const) sum[key] += got[key];
          onBytes(layer.size);
        });
      }
    });
    await file.commit();
  } catch (error) {
    await (mayGoOn(error) ? file.keep() : file.discard());
    throw error;
  }
  return sum;
}

/** Throws `ERR_ARTIFACT_NO_MANIFEST`, `ERR_ARTIFACT_AMBIGUOUS` (exit 2), `ERR_ARTIFACT_UNRELATED` (exit 3). */
async function pullBuild(place: Place, subject: string, { header }: ParsedHeader, path: string) {
  const { client, limits, signal, what } = place;
  const found = await listReferrers(place, subject, TYPES.build);
  const digests = [...new Set(found.map(({ digest }) => digest))];
  const [digest] = digests;
  if (digest === undefined) {
    throw usageError('ERR_ARTIFACT_NO_MANIFEST', `no build manifest is attached to ${what}`, {
      hint: 'whoever pushed it can attach one: atoma-tee push SEALED REF --manifest build.intoto.json',
    });
  }
  if (digests.length > 1) {
    throw usageError(
      'ERR_ARTIFACT_AMBIGUOUS',
      `expected one build manifest attached to ${what}, found ${digests.length}: ${digests.slice(0, 8).join(', ')}`,
      {
        hint: 'ask its owner which is right; each is an artifact of that repository, and has the manifest as its first layer',
      },
    );
  }
  const name = `the build manifest of ${what}`;
  const absent = () =>
    usageError('ERR_ARTIFACT_NO_MANIFEST', `the registry lists ${digest} as ${name}, and does not have it`);
  const pin = { digest };
  const job = { client, limits, signal, path: `manifests/${digest}`, accept: MANIFEST_TYPE, pin, limit: MAX_MANIFEST };
  const got = await fetchDocument({ ...job, what: name, absent });
  const { layers, subject: about } = parseArtifact(got.bytes, got.mediaType, TYPES.build, name);
  const [first, second] = layers;
  if (
    about?.digest !== subject ||
    first?.mediaType !== TYPES.statement ||
    (second && second.mediaType !== TYPES.bundle)
  ) {
    throw usageError(
      'ERR_ARTIFACT_KIND',
      `${name} is none: expected one that refers to ${subject}, as ${TYPES.statement}`,
    );
  }
  const statement = await fetchBlob(place, first, MAX_STATEMENT, name);
  requireRelated(statement, header, name);
  const bundle = second ? await fetchBlob(place, second, MAX_STATEMENT, `the signature of ${name}`) : null;
  const [written = path, signature = null] = await writeBuildFiles(path, statement, bundle);
  return { path: written, digest, signature, verified: false as const };
}
