import * as z from 'zod';
import { type ArchiveFiles, openArchive } from './archive-files.ts';
import { byteStream, readDocument, verified, wrongSize } from './blobs.ts';
import { ambiguous, noSuchImage } from './choose.ts';
import { isDigest, parseDigest } from './digest.ts';
import { type BlobStore, type DocumentName, imageAt } from './image.ts';
import { malformed, readJson } from './json.ts';
import { type Descriptor, entriesFor, MAX_MANIFEST, parseManifest } from './manifest.ts';
import { parsePlatform } from './platform.ts';
import { canonicalTag } from './registry-names.ts';
import type { OpenedImage, OpenOptions } from './source.ts';

// OCI image specification 1.1, "Image Layout".
const marker = z.object({ imageLayoutVersion: z.literal('1.0.0') });
const MAX_MARKER = 4096;

/**
 * Opens an image of an OCI image layout, a directory or a tar of one. A tag is the index's annotation
 * org.opencontainers.image.ref.name, containerd's name of the image, or the digest of a manifest or index in it.
 * Throws `ERR_FILE_*`, `ERR_OCI_MALFORMED`, `ERR_OCI_UNSUPPORTED`, `ERR_OCI_TOO_LARGE`, `ERR_OCI_AMBIGUOUS`, `ERR_OCI_NOT_FOUND`,
 * `ERR_OCI_PLATFORM` (exit 2), `ERR_OCI_DIGEST`, `ERR_OCI_SIZE` (exit 3).
 */
export async function openOciLayout(
  { path, tag }: { path: string; tag?: string },
  options: OpenOptions,
): Promise<OpenedImage> {
  const files = await openArchive(path, { ...options, directory: true });
  try {
    return await imageAt(storeOf(files, path), await start(files, path, tag, options), options);
  } catch (error) {
    await files.close();
    throw error;
  }
}

async function start(files: ArchiveFiles, path: string, tag: string | undefined, options: OpenOptions) {
  const version = await files.find('oci-layout');
  if (version === null) {
    const isSaved = (await files.find('manifest.json')) !== null;
    throw malformed(path, `it has no file "oci-layout"${isSaved ? '; docker save wrote it: docker-archive:PATH' : ''}`);
  }
  readJson(
    await readDocument(version.bytes(), {}, MAX_MARKER, `oci-layout in ${path}`),
    marker,
    `oci-layout in ${path}`,
  );
  if (tag !== undefined && isDigest(tag)) return { digest: tag };
  const file = await files.find('index.json');
  if (file === null) throw malformed(path, 'it has no index.json');
  const what = `index.json in ${path}`;
  const index = parseManifest(await readDocument(file.bytes(), {}, MAX_MANIFEST, what), what);
  if (index.kind !== 'index') throw malformed(what, 'it is no index');
  return choose(index.entries, path, tag, options);
}

const namesOf = ({ annotations }: Descriptor): string[] =>
  ['org.opencontainers.image.ref.name', 'io.containerd.image.name'].flatMap((key) => annotations?.[key] ?? []);

function choose(entries: Descriptor[], path: string, tag: string | undefined, options: OpenOptions): DocumentName {
  const what = `oci-layout:${path}`;
  const wanted = parsePlatform(options.platform);
  const names = (some: Descriptor[]) => [...new Set(some.map((entry) => namesOf(entry)[0] ?? entry.digest))];
  const named =
    tag === undefined
      ? entries
      : entries.filter((entry) =>
          namesOf(entry).some((name) => name === tag || canonicalTag(name) === canonicalTag(tag)),
        );
  if (named.length === 0)
    throw tag === undefined ? malformed(path, 'it has no image') : noSuchImage(what, tag, names(entries));
  const usable = entriesFor(named, wanted, what);
  const [best] = usable;
  if (best === undefined) throw malformed(path, 'it has no image');
  // One image under two names is one image; one name over variants of a platform is, too.
  const others = usable.filter((entry) => entry.digest !== best.digest && !isVariant(entry, best));
  if (others.length > 0) throw ambiguous(what, names(usable));
  return best;
}

const isVariant = (a: Descriptor, b: Descriptor): boolean =>
  a.platform?.variant !== b.platform?.variant && namesOf(a)[0] === namesOf(b)[0];

function storeOf(files: ArchiveFiles, path: string): BlobStore {
  const find = async (digest: string) => {
    const { algorithm, hex } = parseDigest(digest) ?? {};
    const file = hex === undefined ? null : await files.find(`blobs/${algorithm}/${hex}`);
    if (file === null) throw malformed(path, `it lacks the blob ${digest}`);
    return file;
  };
  const document = async ({ digest, size }: DocumentName, limit: number) =>
    readDocument((await find(digest)).bytes(), { digest, size }, limit, `the blob ${digest} in ${path}`);
  return {
    what: `oci-layout:${path}`,
    manifest: async (name, limit) => ({ bytes: await document(name, limit), mediaType: name.mediaType }),
    config: document,
    layer: async (layer) => {
      const file = await find(layer.digest);
      const what = `the layer ${layer.digest} in ${path}`;
      if (file.size !== layer.size) throw wrongSize(what, layer.size, `${file.size}`);
      return byteStream(verified(file.bytes(), layer, what));
    },
    close: () => files.close(),
  };
}
