import * as z from 'zod';
import { hex, sha256 } from '../core/bytes.ts';
import { type ArchiveFiles, openArchive } from './archive-files.ts';
import { byteStream, layerCompression, readDocument, verified, wrongDigest } from './blobs.ts';
import { ambiguous, noSuchImage } from './choose.ts';
import { MAX_CONFIG, MAX_LAYERS, parseConfig } from './config.ts';
import { malformed, readJson, shown } from './json.ts';
import { MAX_MANIFEST } from './manifest.ts';
import { checkPlatform, parsePlatform, platformText } from './platform.ts';
import { canonicalTag } from './registry-names.ts';
import type { ImageLayer, OpenedImage, OpenOptions } from './source.ts';

// Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format". Docker 25 and later write the same
// manifest.json, with names below blobs/sha256, beside an index.json that we have no need of.
const schema = z
  .array(
    z.object({
      Config: z.string().max(4096),
      RepoTags: z.array(z.string().max(4096)).max(1000).nullish(),
      Layers: z.array(z.string().max(4096)).max(MAX_LAYERS),
    }),
  )
  .max(10_000);
type Saved = z.infer<typeof schema>[number];

/**
 * Opens an image of a file that `docker save` wrote (any version since Docker 1.10), or another tool in its form. The digest is
 * the image ID. Throws `ERR_FILE_*`, `ERR_OCI_MALFORMED`, `ERR_OCI_UNSUPPORTED`, `ERR_OCI_TOO_LARGE`, `ERR_OCI_AMBIGUOUS`,
 * `ERR_OCI_NOT_FOUND`, `ERR_OCI_PLATFORM` (exit 2), `ERR_OCI_DIGEST` (exit 3).
 */
export async function openDockerArchive(
  { path, tag }: { path: string; tag?: string },
  options: OpenOptions,
): Promise<OpenedImage> {
  const files = await openArchive(path, { ...options, directory: false });
  try {
    const saved = choose(await readList(files, path), tag, path);
    const bytes = await readNamed(files, saved.Config, MAX_CONFIG, path);
    const digest = `sha256:${hex(sha256(bytes))}`;
    const named = imageId(saved);
    if (named !== null && named !== digest) throw wrongDigest(`the configuration in ${path}`, named, digest);
    if (options.expect !== undefined && digest !== options.expect) throw wrongDigest(path, options.expect, digest);
    const { config, diffIds } = parseConfig(bytes, `the configuration in ${path}`);
    const wanted = parsePlatform(options.platform);
    checkPlatform(config, wanted, path);
    if (saved.Layers.length !== diffIds.length) {
      const [listed, known] = [saved.Layers.length, diffIds.length];
      throw malformed(path, `its manifest.json has ${listed} layers, its configuration ${known} (rootfs.diff_ids)`);
    }
    const layers: ImageLayer[] = [];
    for (const [i, name] of saved.Layers.entries()) layers.push(await layerOf(files, name, String(diffIds[i]), path));
    const documents = [bytes];
    return { digest, platform: platformText(wanted), config, documents, layers, close: () => files.close() };
  } catch (error) {
    await files.close();
    throw error;
  }
}

async function readList(files: ArchiveFiles, path: string): Promise<Saved[]> {
  if ((await files.find('manifest.json')) === null) {
    const isLayout = (await files.find('oci-layout')) !== null;
    throw malformed(path, `it has no manifest.json${isLayout ? '; it is an OCI layout: oci-layout:PATH' : ''}`);
  }
  return readJson(await readNamed(files, 'manifest.json', MAX_MANIFEST, path), schema, `manifest.json in ${path}`);
}

async function readNamed(files: ArchiveFiles, name: string, limit: number, path: string): Promise<Buffer> {
  const file = await files.find(name);
  if (file === null) throw malformed(path, `it lacks "${shown(name)}"`);
  return readDocument(file.bytes(), { size: file.size }, limit, `"${shown(name)}" in ${path}`);
}

/** What the name of the configuration says of its content: HEX.json or blobs/sha256/HEX. */
function imageId({ Config }: Saved): string | null {
  const [, found] = /^(?:blobs\/sha256\/)?([0-9a-f]{64})(?:\.json)?$/.exec(Config) ?? [];
  return found === undefined ? null : `sha256:${found}`;
}

function choose(images: Saved[], tag: string | undefined, path: string): Saved {
  const names = images.flatMap((image) => (image.RepoTags?.length ? image.RepoTags : [imageId(image) ?? image.Config]));
  if (tag === undefined) {
    const [only] = images;
    if (only === undefined) throw malformed(path, 'it has no image');
    if (images.some((image) => image.Config !== only.Config)) throw ambiguous(`docker-archive:${path}`, names);
    return only;
  }
  const found = images.filter(
    (image) => imageId(image) === tag || image.RepoTags?.some((name) => canonicalTag(name) === canonicalTag(tag)),
  );
  if (found[0] === undefined) throw noSuchImage(`docker-archive:${path}`, tag, names);
  if (found.some((image) => image.Config !== found[0]?.Config))
    throw malformed(path, `it has several images called "${shown(tag)}"`);
  return found[0];
}

async function layerOf(files: ArchiveFiles, name: string, diffId: string, path: string): Promise<ImageLayer> {
  const file = await files.find(name);
  if (file === null) throw malformed(path, `it lacks the layer "${shown(name)}"`);
  const what = `the layer "${shown(name)}" in ${path}`;
  const digest = /^blobs\/sha256\/[0-9a-f]{64}$/.test(name) ? `sha256:${name.slice(-64)}` : undefined;
  const [start = Buffer.alloc(0)] = await first(file.bytes());
  const compression = layerCompression(start, what);
  return {
    diffId,
    ...(digest === undefined ? {} : { digest }),
    size: file.size,
    compression,
    open: async () => byteStream(verified(file.bytes(), { digest, size: file.size, compression }, what)),
  };
}

async function first(bytes: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  for await (const chunk of bytes) return [chunk];
  return [];
}
