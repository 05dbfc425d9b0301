import { open, writeFile } from 'node:fs/promises';
import { hex, sha256 } from '../core/bytes.ts';
import { type AtomaError, missingError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import type { Cache, Digest } from '../image/cache.ts';
import { byteStream, fileRange, readDocument, verified } from './blobs.ts';
import { parseDigest } from './digest.ts';
import { type BlobStore, type DocumentName, imageAt } from './image.ts';
import { malformed, shown } from './json.ts';
import { INDEX_TYPES, MANIFEST_TYPES, MAX_MANIFEST } from './manifest.ts';
import { type RegistryReference, referenceText } from './reference.ts';
import { RegistryClient } from './registry-client.ts';
import { fetchDocument } from './registry-document.ts';
import { download } from './registry-download.ts';
import { LIMITS, type RegistryLimits } from './registry-http.ts';
import { canonicalName } from './registry-names.ts';
import type { OpenedImage, OpenOptions } from './source.ts';

const MANIFEST = [...MANIFEST_TYPES, ...INDEX_TYPES].join(', ');
const ANYTHING = '*/*';

/**
 * Opens a registry's image. Documents and, when they are read, layers are kept in the cache by digest: with a digest in the
 * reference, or `expect`, everything can then come from there. A tag is resolved by the registry, never by the cache.
 * Throws `ERR_OCI_*`, `ERR_OFFLINE_MISSING`, `ERR_INPUT_GONE` (exit 5).
 */
export async function openRegistryImage(
  reference: RegistryReference,
  options: OpenOptions,
  limits: RegistryLimits = LIMITS,
): Promise<OpenedImage> {
  const store = new RegistryStore(reference, options, limits);
  return imageAt(store, await store.start(), options);
}

class RegistryStore implements BlobStore {
  readonly what: string;
  readonly #client: RegistryClient;
  readonly #reference: RegistryReference;
  readonly #options: OpenOptions;
  readonly #limits: RegistryLimits;
  readonly #cache: Cache;

  constructor(reference: RegistryReference, options: OpenOptions, limits: RegistryLimits) {
    this.what = referenceText(reference);
    this.#reference = reference;
    this.#options = options;
    this.#limits = limits;
    this.#cache = options.cache;
    const { signal, env = process.env } = options;
    this.#client = new RegistryClient(canonicalName(reference), { env, limits, signal });
  }

  /** What the reference stands for. With a pin a tag is not looked at: that it has moved on is no news. */
  async start(): Promise<DocumentName> {
    const { digest, tag } = this.#reference;
    if (digest !== undefined) return { digest };
    if (this.#options.expect !== undefined) return { digest: this.#options.expect };
    if (this.#options.offline) throw offline(this.what, 'a tag means something only where the registry can be asked');
    const { bytes, mediaType } = await this.#fetch(`manifests/${tag}`, {}, MAX_MANIFEST, () =>
      usageError('ERR_OCI_NOT_FOUND', `the registry has no image ${this.what}`),
    );
    const found = `sha256:${hex(sha256(bytes))}`;
    await this.#keep(found, bytes);
    return { digest: found, size: bytes.length, ...(mediaType === undefined ? {} : { mediaType }) };
  }

  async manifest(name: DocumentName, limit: number) {
    const cached = await this.#cached(name, limit);
    if (cached !== null) return { bytes: cached, mediaType: name.mediaType };
    const fetched = await this.#fetch(`manifests/${name.digest}`, name, limit, () => gone(this.what, name.digest));
    await this.#keep(name.digest, fetched.bytes);
    return { bytes: fetched.bytes, mediaType: fetched.mediaType ?? name.mediaType };
  }

  async config(name: DocumentName, limit: number): Promise<Buffer> {
    const cached = await this.#cached(name, limit);
    if (cached !== null) return cached;
    const { bytes } = await this.#fetch(`blobs/${name.digest}`, name, limit, () => gone(this.what, name.digest));
    await this.#keep(name.digest, bytes);
    return bytes;
  }

  async layer(layer: Parameters<BlobStore['layer']>[0]) {
    const digest = knownDigest(layer.digest);
    const what = `the layer ${layer.digest} of ${this.what}`;
    const path = await this.#cache.archive(digest);
    // The file has just been compared with its digest; once more would cost as much again.
    if (path !== null)
      return byteStream(verified(fileBytes(path, layer.size + 1), { ...layer, digest: undefined }, what));
    if (this.#options.offline) throw offline(this.what, `its layer ${layer.digest} is not in the cache`);
    const job = { client: this.#client, layer, limits: this.#limits, what, signal: this.#options.signal };
    return byteStream(download(job, digest, this.#cache, this.#options.onProgress));
  }

  async close(): Promise<void> {}

  #fetch(path: string, pin: Partial<DocumentName>, limit: number, absent: () => Error) {
    const accept = path.startsWith('manifests/') ? MANIFEST : ANYTHING;
    return fetchDocument({
      client: this.#client,
      limits: this.#limits,
      signal: this.#options.signal,
      path,
      accept,
      pin,
      limit,
      what: `${path} of ${this.what}`,
      absent,
    });
  }

  async #cached({ digest, size }: DocumentName, limit: number): Promise<Buffer | null> {
    const path = await this.#cache.archive(knownDigest(digest));
    if (path !== null)
      return readDocument(fileBytes(path, limit + 1), { digest, size }, limit, `${digest} of ${this.what}`);
    if (this.#options.offline) throw offline(this.what, `${digest} is not in the cache`);
    return null;
  }

  async #keep(digest: string, bytes: Buffer): Promise<void> {
    const temporary = this.#cache.temporary();
    try {
      await writeFile(temporary, bytes, { flag: 'wx' });
      await this.#cache.adopt(temporary, this.#cache.archivePath(knownDigest(digest)));
    } catch (error) {
      throw ioError(error, `cannot write to the cache ${this.#cache.dir}`);
    }
  }
}

async function* fileBytes(path: string, size: number): AsyncGenerator<Uint8Array> {
  const handle = await open(path);
  try {
    yield* fileRange(handle, 0, size);
  } finally {
    await handle.close();
  }
}

function knownDigest(text: string): Digest {
  const digest = parseDigest(text);
  if (digest === null) throw malformed(shown(text), 'it is no digest');
  return digest;
}

const offline = (what: string, why: string): AtomaError =>
  missingError('ERR_OFFLINE_MISSING', `${what} cannot be opened with --offline: ${why}`, {
    hint: 'run `atoma-tee build` once without --offline',
  });

const gone = (what: string, digest: string): AtomaError =>
  missingError('ERR_INPUT_GONE', `the registry no longer has ${digest}, which ${what} is pinned to`, {
    hint: 'use a registry that has it, or run `atoma-tee lock --update`, which shows what changes',
    details: { input: what, digest },
  });
