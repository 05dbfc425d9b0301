import { AtomaError, EXIT, negativeError } from '../core/errors.ts';
import type { OnProgress } from '../core/progress.ts';
import type { Cache } from '../image/cache.ts';
import type { TreeEntry } from '../image/cpio.ts';
import type { InputOptions } from '../image/inputs.ts';
import type { OciEntry } from '../image/lock-file.ts';
import type { ImageConfig } from './config.ts';
import { flattenDirectory } from './dir.ts';
import { flattenImage, imageTree } from './flatten.ts';
import { cachedImage, storeImage } from './flatten-cache.ts';
import type { FlatImage } from './flatten-types.ts';
import { keptImage } from './kept.ts';
import { parseReference } from './reference.ts';
import { type OpenableReference, type OpenedImage, openImage } from './source.ts';

const PLATFORM = 'linux/amd64';

/** A container image as the base of a command. */
export interface Container {
  flat: FlatImage;
  /** Null for a directory, which says nothing but its files. */
  config: ImageConfig | null;
  /** What was left out, a line each. */
  notes: string[];
  /** Its entries below `prefix`. */
  tree(prefix: string): TreeEntry[];
}

/**
 * Looks at an image as it is now, for the lock: a tag is resolved, everything is read once and kept in the cache.
 * `reference` is enclave.toml's, paths counting from `dir`. Throws `ERR_OCI_*`, `ERR_LAYER_*`, `ERR_ROOTFS_*`.
 */
export async function resolveContainer(
  reference: string,
  { dir, cache, onProgress }: { dir: string; cache: Cache; onProgress: OnProgress | undefined },
): Promise<{ digest: string; tree: string }> {
  const parsed = parseReference(reference, dir);
  if (parsed.kind === 'dir') {
    const { digest } = await flattenDirectory(parsed.path, { onProgress });
    return { digest, tree: digest.replace('sha256:', '') };
  }
  const image = await openImage(parsed, { platform: PLATFORM, cache, offline: false, onProgress });
  try {
    const flat = await flattenImage(image, cache, { onProgress });
    return { digest: image.digest, tree: await storeImage(image.digest, flat, image.config, cache) };
  } finally {
    await image.close();
  }
}

/**
 * The image that a lock pins, from the cache or opened again. Contents are compared when they are read: wrap the use in
 * `mending`. Throws `ERR_OCI_DIGEST`, `ERR_INPUT_TREE` (exit 3), `ERR_OFFLINE_MISSING` (exit 5), and what opening and
 * flattening throw.
 */
export async function provideContainer(pin: OciEntry, cache: Cache, options: InputOptions): Promise<Container> {
  const { dir, onProgress } = options;
  const parsed = parseReference(pin.reference, dir);
  if (parsed.kind === 'dir') {
    const flat = await flattenDirectory(parsed.path, { onProgress });
    if (flat.digest !== pin.digest) throw changed(pin, flat.digest);
    return container(flat, null, cache);
  }
  const known = await cachedImage(pin.digest, pin.tree, cache);
  if (known !== null) return container(known.flat, known.config, cache);
  const image = await openOrKept(pin, parsed, cache, options);
  try {
    const flat = await flattenImage(image, cache, { onProgress });
    const tree = await storeImage(image.digest, flat, image.config, cache);
    if (tree === pin.tree) return container(flat, image.config, cache);
    throw negativeError(
      'ERR_INPUT_TREE',
      `the files of ${pin.reference} are not those that the lock pins: expected ${pin.tree}, found ${tree}`,
      { hint: 'the lock was edited, or this toolkit unpacks differently: `atoma-tee lock --local` pins anew' },
    );
  } finally {
    await image.close();
  }
}

/** The image that a lock pins, opened; null for a directory. The caller closes it. Throws what opening throws. */
export async function openPinned(pin: OciEntry, cache: Cache, options: InputOptions): Promise<OpenedImage | null> {
  const parsed = parseReference(pin.reference, options.dir);
  return parsed.kind === 'dir' ? null : openOrKept(pin, parsed, cache, options);
}

async function openOrKept(
  pin: OciEntry,
  reference: OpenableReference,
  cache: Cache,
  { offline, onProgress }: InputOptions,
): Promise<OpenedImage> {
  const { platform, digest } = pin;
  try {
    return await openImage(reference, { platform, expect: digest, cache, offline, onProgress });
  } catch (error) {
    const kept = isMissing(error) ? await keptImage(pin, reference.kind, cache) : null;
    if (kept === null) throw error;
    return kept;
  }
}

/** A digest makes any copy good; a place that holds something else is no place without one. */
const isMissing = (error: unknown): boolean =>
  error instanceof AtomaError && (error.exitCode === EXIT.missing || error.code === 'ERR_FILE_NOT_FOUND');

const container = (flat: FlatImage, config: ImageConfig | null, cache: Cache): Container => ({
  flat,
  config,
  notes: flat.notes,
  tree: (prefix) => imageTree(flat, cache, prefix),
});

const changed = ({ reference, digest }: OciEntry, found: string) =>
  negativeError('ERR_OCI_DIGEST', `${reference} is not what the lock pins: expected ${digest}, found ${found}`, {
    hint: 'restore it, or run `atoma-tee lock --local` to take it as it is, which changes the measurement',
  });
