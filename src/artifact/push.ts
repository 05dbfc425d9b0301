import { hex, sha256 } from '../core/bytes.ts';
import type { OnProgress } from '../core/progress.ts';
import { hasBlob, putManifest, uploadBlob } from '../oci/registry-upload.ts';
import { type BuildFile, readBuildFiles } from './build-files.ts';
import { type Place, type PlaceOptions, placeOf, requireTag } from './client.ts';
import { Lanes } from './lanes.ts';
import { putReferrer } from './referrers.ts';
import { openSealed, regionsOf, type SealedFile } from './sealed-file.ts';
import { type Descriptor, EMPTY, EMPTY_BYTES, encodeBuild, encodeSealed, MANIFEST_TYPE, TYPES } from './shape.ts';

export interface PushOptions extends PlaceOptions {
  /** Path. */
  sealed: string;
  /** Path of a build manifest to attach; the bundle beside it goes with it. */
  manifest?: string | undefined;
  /** Repository of the same registry whose blobs may be taken over. */
  from?: string | undefined;
  /** Bytes per request of an upload; tests make it small. */
  chunk?: number | undefined;
  onProgress?: OnProgress | undefined;
}

/** Bytes are of blobs, without padding. */
export interface PushResult {
  reference: string;
  /** The manifest's: the same for the same file, wherever it is pushed. */
  digest: string;
  /** Of the sealed file. */
  size: number;
  parts: number;
  moved: number;
  /** Were there already. */
  skipped: number;
  /** Taken over from the other repository. */
  mounted: number;
  /** The build manifest as an artifact of its own. */
  manifest: { digest: string; signed: boolean } | null;
}

/** Blobs from memory or from the file. */
interface Source extends Descriptor {
  read(from: number, to: number): AsyncIterable<Uint8Array>;
}

/**
 * Pushes a sealed model to a registry: only blobs that it lacks, two at a time; the tag comes last, when everything is there.
 * Throws `ERR_SEAL_*`, `ERR_OCI_*`, `ERR_ARTIFACT_*`.
 */
export async function pushSealed(options: PushOptions): Promise<PushResult> {
  const place = placeOf(options, { from: options.from === undefined ? [] : [options.from] });
  const tag = requireTag(place.reference, place.what);
  const file = await openSealed(options.sealed);
  try {
    const build = options.manifest === undefined ? [] : await readBuildFiles(options.manifest, file.parsed.header);
    return await new Push(place, file, options).run(tag, build);
  } finally {
    await file.close();
  }
}

class Push {
  readonly #place: Place;
  readonly #file: SealedFile;
  readonly #options: PushOptions;
  readonly #lanes: Lanes;
  readonly #counts = { moved: 0, skipped: 0, mounted: 0 };
  /** Bytes of each upload that is under way or done. */
  readonly #sent = new Map<string, number>();
  readonly #total: number;

  constructor(place: Place, file: SealedFile, options: PushOptions) {
    this.#place = place;
    this.#file = file;
    this.#options = options;
    this.#lanes = new Lanes(place.signal);
    this.#total = regionsOf(file.parsed).reduce((sum, region) => sum + region.length, file.parsed.bytes.length);
  }

  async run(tag: string, build: BuildFile[]): Promise<PushResult> {
    const { parsed, size } = this.#file;
    const header = inMemory(TYPES.header, Buffer.from(parsed.bytes));
    const layers = await this.#lanes.run(async () => {
      await this.#start(header);
      const layers: Descriptor[] = [];
      for (const region of regionsOf(parsed)) {
        // While one is read, two that were read before it are on their way.
        const layer = await this.#file.describe(region, undefined, this.#lanes.signal);
        layers.push(layer);
        await this.#start({ ...layer, read: (from, to) => this.#file.read(region, from, to) });
      }
      for (const { mediaType, bytes } of build) await this.#start(inMemory(mediaType, bytes));
      if (build.length > 0) await this.#start(inMemory(EMPTY.mediaType, EMPTY_BYTES));
      return layers;
    });
    await this.#file.requireUnchanged();
    const bytes = encodeSealed(header, layers);
    const digest = `sha256:${hex(sha256(bytes))}`;
    const manifest =
      build.length === 0 ? null : await this.#attach({ mediaType: MANIFEST_TYPE, digest, size: bytes.length }, build);
    const { client, signal, what } = this.#place;
    await putManifest(client, { name: tag, bytes, mediaType: MANIFEST_TYPE, signal });
    return { reference: what, digest, size, parts: layers.length - 1, ...this.#counts, manifest };
  }

  async #attach(subject: Descriptor, build: BuildFile[]) {
    const bytes = encodeBuild(subject, build);
    const digest = `sha256:${hex(sha256(bytes))}`;
    const descriptor = { mediaType: MANIFEST_TYPE, digest, size: bytes.length, artifactType: TYPES.build };
    await putReferrer(this.#place, subject.digest, { bytes, descriptor });
    return { digest, signed: build.length > 1 };
  }

  async #start(source: Source): Promise<void> {
    const { digest, size } = source;
    if (this.#sent.has(digest)) return;
    this.#sent.set(digest, 0);
    await this.#lanes.start(async (signal) => {
      const { client, limits } = this.#place;
      const { from, chunk } = this.#options;
      if (await hasBlob(client, digest, size, signal)) this.#counts.skipped += size;
      else {
        const mountFrom = from === undefined ? [] : [from];
        const onProgress = (done: number) => this.#progress(digest, done);
        const read = source.read;
        const job = { client, digest, size, read, limits, mountFrom, signal, onProgress };
        const how = await uploadBlob(chunk === undefined ? job : { ...job, chunk });
        this.#counts[how === 'mounted' ? 'mounted' : 'moved'] += size;
      }
      this.#progress(digest, size);
    });
  }

  #progress(digest: string, done: number): void {
    this.#sent.set(digest, done);
    const all = [...this.#sent.values()].reduce((sum, bytes) => sum + bytes, 0);
    this.#options.onProgress?.({ phase: 'pushing', done: Math.min(all, this.#total), total: this.#total });
  }
}

const inMemory = (mediaType: string, bytes: Buffer): Source => ({
  mediaType,
  digest: `sha256:${hex(sha256(bytes))}`,
  size: bytes.length,
  async *read(from, to) {
    yield bytes.subarray(from, to);
  },
});
