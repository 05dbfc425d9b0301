import type { Readable } from 'node:stream';
import type { OnProgress } from '../core/progress.ts';
import type { Cache } from '../image/cache.ts';
import type { ImageConfig } from './config.ts';
import type { ImageReference } from './reference.ts';

export interface ImageLayer {
  /** "sha256:HEX" of the uncompressed tar, from the image's configuration. Not yet compared with anything. */
  diffId: string;
  /** Of the blob as stored, where something names it. */
  digest?: string;
  /** Bytes as stored. */
  size: number;
  /** As the first bytes say; a media type that says otherwise is refused, here or by `open`. */
  compression: 'none' | 'gzip' | 'zstd';
  /**
   * The stored bytes, `size` of them. The stream fails, at its end at the latest, with `ERR_OCI_DIGEST` or `ERR_OCI_SIZE`
   * (exit 3) where they are not the digest's. May be called again, and for several layers at once.
   */
  open(): Promise<Readable>;
}

export interface OpenedImage {
  /** What the lock pins: the manifest's digest; for docker-archive, which has no stable manifest, the image ID (the configuration's digest). */
  digest: string;
  /** "linux/amd64". */
  platform: string;
  config: ImageConfig;
  /** The manifest (not of docker-archive) and the configuration, verbatim: what ties the layers to the digest. */
  documents: Buffer[];
  /** The base layer first. */
  layers: ImageLayer[];
  /** Ends what is open and removes what is temporary. Streams of layers must have ended or been destroyed. */
  close(): Promise<void>;
}

export interface OpenOptions {
  /** "linux/amd64". */
  platform: string;
  /** Refuse anything but this digest (from the lock). A tag is then not resolved again: what it pins is fetched. */
  expect?: string;
  cache: Cache;
  /** Use the cache only. */
  offline: boolean;
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
  /** Where credentials, proxies and ATOMA_TEE_INSECURE_REGISTRIES come from; by default the process's environment. */
  env?: NodeJS.ProcessEnv;
}

export type OpenableReference = Exclude<ImageReference, { kind: 'dir' }>;

/**
 * Opens a container image of one platform: its manifest and configuration are read and checked, its layers are not touched yet.
 * Whatever is read is compared with its digest. The caller closes it.
 * Throws `ERR_OCI_*` (docs/errors.md), `ERR_FILE_*`, `ERR_OFFLINE_MISSING`, `ERR_INPUT_GONE` (exit 5).
 */
export async function openImage(reference: OpenableReference, options: OpenOptions): Promise<OpenedImage> {
  switch (reference.kind) {
    case 'docker-archive':
      return (await import('./docker-archive.ts')).openDockerArchive(reference, options);
    case 'oci-layout':
      return (await import('./oci-layout.ts')).openOciLayout(reference, options);
    case 'oci':
      return (await import('./registry.ts')).openRegistryImage(reference, options);
  }
}
