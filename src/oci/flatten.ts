import { availableParallelism } from 'node:os';
import type { OnProgress } from '../core/progress.ts';
import type { Cache } from '../image/cache.ts';
import type { TreeEntry } from '../image/cpio.ts';
import { openListed } from './dir-read.ts';
import { listTree } from './flatten-tree.ts';
import { type FlatImage, type ImageEntry, notesOf } from './flatten-types.ts';
import { Budget, IMAGE_LIMITS, type ImageLimits, type LayerIndex } from './layer-index.ts';
import { diffHex, provideLayer } from './layer-store.ts';
import type { ImageLayer, OpenedImage } from './source.ts';
import { LayerTree } from './tree.ts';

export interface FlattenOptions {
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
  /** By default IMAGE_LIMITS. */
  limits?: ImageLimits;
}

/** Each inflates in a thread of libuv's pool (4 threads), while this thread hashes. */
const AT_ONCE = Math.max(2, Math.min(4, availableParallelism()));

/**
 * Makes one file tree of an image's layers (rules: LayerTree). The layers are unpacked, several at a time, compared with
 * their diff ids and kept uncompressed in the cache, where the contents are then read from; nothing is ever unpacked
 * into files and no link is followed on this machine. Memory is bounded by IMAGE_LIMITS, not by the size of layers.
 *
 * What happens to what a ramdisk, or an enclave, has no use for (`leftOut` counts it):
 * - device nodes, FIFOs and sockets are left out: /dev is the enclave's own, and nobody outside could feed a pipe;
 * - extended attributes are left out, file capabilities and SELinux labels among them: newc archives cannot hold them;
 * - setuid and setgid bits of files are dropped: the command runs with no_new_privs, where they do nothing;
 * - modes, owners, setgid and sticky bits of directories, and hard links are kept;
 * - symlinks are kept verbatim, wherever they point: they are resolved inside the enclave's root only;
 * - times are not kept: every entry of an image has the lock's, so that PCR2 depends on content alone.
 *
 * Throws `ERR_LAYER_DIGEST` (exit 3), `ERR_LAYER_MALFORMED`, `ERR_LAYER_ENTRY`, `ERR_LAYER_ESCAPE`, `ERR_LAYER_LINK`,
 * `ERR_LAYER_TOO_LARGE` (exit 2), what the image's source throws; an AbortError when `signal` says so. Nothing half-made
 * is left in the cache; layers that are whole stay.
 */
export async function flattenImage(
  image: Pick<OpenedImage, 'layers'>,
  cache: Cache,
  options: FlattenOptions = {},
): Promise<FlatImage> {
  const { layers } = image;
  const indexes = await provideLayers(layers, cache, options);
  const limit = (options.limits ?? IMAGE_LIMITS).entries;
  const tree = new LayerTree(limit);
  let metadata = 0;
  for (const [i, index] of indexes.entries()) {
    tree.apply(index.members, `layer ${i + 1}`);
    metadata += index.metadata;
    delete indexes[i];
  }
  const { entries, leftOut } = listTree(tree.root, limit);
  const all = { ...leftOut, metadata };
  return { entries, diffIds: layers.map(({ diffId }) => diffId), leftOut: all, notes: notesOf(all) };
}

async function provideLayers(layers: ImageLayer[], cache: Cache, options: FlattenOptions): Promise<LayerIndex[]> {
  const budget = new Budget(options.limits);
  const total = layers.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  const onBytes = (bytes: number): void => {
    done += bytes;
    options.onProgress?.({ phase: 'unpacking the image', done: Math.min(done, total), total });
  };
  // The first failure stops the others; it is the one to report.
  const abort = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, abort.signal]) : abort.signal;
  // The same layer can occur twice; an empty one often does.
  const known = new Map<string, Promise<LayerIndex>>();
  const indexes: LayerIndex[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < layers.length; i = next++) {
      const layer = layers[i] as ImageLayer;
      const job = { layer, what: `layer ${i + 1}`, cache, budget, signal, onBytes };
      const index = known.get(layer.diffId) ?? provideLayer(job);
      known.set(layer.diffId, index);
      indexes[i] = await index;
    }
  };
  const failures: unknown[] = [];
  const workers = Array.from({ length: AT_ONCE }, () =>
    work().catch((error) => {
      failures.push(error);
      abort.abort();
    }),
  );
  await Promise.all(workers);
  if (failures.length > 0) throw options.signal?.aborted ? options.signal.reason : failures[0];
  return indexes;
}

/**
 * The entries for a ramdisk, all below `prefix` ("rootfs/image"), which is not among them. A file's content is compared with its
 * digest while it is read: a layer that was damaged in the cache throws CacheCorruption (wrap the use in `mending`), a
 * file of a directory that has changed `ERR_ROOTFS_CHANGED` (exit 2).
 */
export function imageTree(flat: FlatImage, cache: Cache, prefix: string): TreeEntry[] {
  return flat.entries.map((entry) => {
    const { type, mode, uid, gid, size, sha256, target } = entry;
    const common: TreeEntry = { path: `${prefix}/${entry.path}`, type, mode, uid, gid, size };
    if (type === 'link') return { ...common, target: `${prefix}/${target}` };
    if (type === 'symlink') return { ...common, target: target ?? '' };
    if (type === 'dir') return common;
    return { ...common, sha256: sha256 ?? '', open: () => readEntry(flat, cache, entry) };
  });
}

/** Content of an entry of type 'file', compared with its digest; throws as `imageTree` says. */
export function readEntry(flat: FlatImage, cache: Cache, entry: ImageEntry): AsyncGenerator<Uint8Array> {
  const { path, size, sha256 = '', layer = 0, offset = 0 } = entry;
  if (flat.directory !== undefined) return openListed(flat.directory, entry);
  const place = cache.layerPath(diffHex(flat.diffIds[layer] ?? '', `layer ${layer + 1}`));
  return cache.readPart(place, { path, offset, size, sha256 });
}
