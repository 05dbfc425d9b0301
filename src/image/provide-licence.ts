import { type Cache, readCached } from './cache.ts';
import { entryDigest } from './fetch.ts';
import { type InputOptions, unpackEntry } from './inputs.ts';
import { decodeLicence, type LicenceDocument } from './licence.ts';
import { entryName, type LockEntry } from './lock-file.ts';

/**
 * What states the licence of a package; null where nothing does. From the cache, else from the package, fetched anew if it has to be.
 * It is information and no input: nothing of it is measured, and the cache is believed as far as its own checksum goes.
 * Throws what `unpackEntry` throws.
 */
export async function provideLicence(
  entry: LockEntry,
  cache: Cache,
  options: InputOptions,
): Promise<LicenceDocument | null> {
  const place = cache.licencePath(entryDigest(entry));
  const known = await read(place);
  if (known !== undefined) return known;
  await unpackEntry({ ...entry, keep: [] }, cache, options);
  const found = await read(place);
  if (found === undefined) throw new Error(`the licence of ${entryName(entry)} was not kept`);
  return found;
}

async function read(place: string): Promise<LicenceDocument | null | undefined> {
  const bytes = await readCached(place);
  return bytes === null ? undefined : decodeLicence(bytes);
}
