import { rm, stat, writeFile } from 'node:fs/promises';
import { hex, sha256 } from '../core/bytes.ts';
import { ioError } from '../core/files.ts';
import { temporary } from '../core/temporary.ts';
import { type Cache, readCached } from '../image/cache.ts';
import type { ImageConfig } from './config.ts';
import { decodeListing, encodeListing, listingDigest } from './flatten-listing.ts';
import type { FlatImage } from './flatten-types.ts';
import { diffHex } from './layer-store.ts';

/** By the image too: a listing that came out of another one, under a lock that names this one, is not believed. */
const placeOf = (cache: Cache, digest: string, tree: string): string =>
  cache.imagePath(hex(sha256(Buffer.from(JSON.stringify([digest, tree])))));

/**
 * Keeps a flattened image for `cachedImage`. Returns what to pin as its `tree` (hex SHA-256 of `encodeListing`).
 * `digest` is the opened image's. Throws `ERR_DISK_FULL`, `ERR_IO`.
 */
export async function storeImage(digest: string, flat: FlatImage, config: ImageConfig, cache: Cache): Promise<string> {
  const bytes = encodeListing(flat, config);
  const tree = listingDigest(bytes);
  const place = cache.temporary();
  const keep = temporary(place);
  try {
    await writeFile(place, bytes, { mode: 0o600 });
    await cache.adopt(place, placeOf(cache, digest, tree));
  } catch (error) {
    await rm(place, { force: true });
    throw ioError(error, `cannot write to the cache ${cache.dir}`);
  } finally {
    keep();
  }
  return tree;
}

/**
 * A flattened image of the cache, so that a warm build opens no image: null unless the listing is there, hashes to `tree`
 * (which the lock pins) and every layer that it reads from is long enough. Contents are compared when they are read.
 */
export async function cachedImage(
  digest: string,
  tree: string,
  cache: Cache,
): Promise<{ flat: FlatImage; config: ImageConfig } | null> {
  const bytes = await readCached(placeOf(cache, digest, tree));
  if (bytes === null || listingDigest(bytes) !== tree) return null;
  const known = decodeListing(bytes);
  if (known === null || known.config === null) return null;
  const { flat, config } = known;
  const needed = flat.diffIds.map(() => 0);
  for (const { layer = 0, offset = 0, size } of flat.entries)
    needed[layer] = Math.max(needed[layer] ?? 0, offset + size);
  for (const [i, diffId] of flat.diffIds.entries()) {
    const found = await stat(cache.layerPath(diffHex(diffId, `layer ${i + 1}`))).catch(() => null);
    if (found === null || found.size < (needed[i] ?? 0)) return null;
  }
  return { flat, config };
}
