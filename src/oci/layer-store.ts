import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { AtomaError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { temporary } from '../core/temporary.ts';
import { type Cache, openCached } from '../image/cache.ts';
import { badLayer, wrongDiffId } from './layer-errors.ts';
import { type Budget, type LayerIndex, LayerIndexer } from './layer-index.ts';
import { zstdFrames } from './layer-zstd.ts';
import type { ImageLayer } from './source.ts';

export interface LayerJob {
  layer: ImageLayer;
  /** For people: "layer 3". */
  what: string;
  cache: Cache;
  budget: Budget;
  signal: AbortSignal;
  /** Called with the number of stored bytes that have just been read. */
  onBytes(bytes: number): void;
}

const CHUNK = 1 << 18;

/** The hex of a layer's diff id. Throws `ERR_LAYER_MALFORMED` (exit 2) for anything but a SHA-256. */
export function diffHex(diffId: string, what: string): string {
  const [, digits] = /^sha256:([0-9a-f]{64})$/.exec(diffId) ?? [];
  if (digits === undefined) throw badLayer(what, 'the image names it by something else than a SHA-256');
  return digits;
}

/**
 * Sees to it that a layer lies uncompressed in the cache, and lists what is in it. A copy that is there already is read, and
 * believed only if its digest is right; otherwise the layer is unpacked from its source. Nothing appears in the cache
 * before all its bytes have been compared with the diff id.
 *
 * Throws `ERR_LAYER_DIGEST` (exit 3), `ERR_LAYER_*` (exit 2), what the layer's source throws; an AbortError.
 */
export async function provideLayer(job: LayerJob): Promise<LayerIndex> {
  return (await fromCache(job)) ?? (await fromSource(job));
}

async function fromCache({ layer, what, cache, budget, signal, onBytes }: LayerJob): Promise<LayerIndex | null> {
  const place = cache.layerPath(diffHex(layer.diffId, what));
  const handle = await openCached(place);
  if (handle === null) return null;
  const indexer = new LayerIndexer(what, (await handle.stat()).size, budget);
  try {
    await pipeline(
      createReadStream('', { fd: handle, autoClose: false, highWaterMark: CHUNK }),
      async (chunks: AsyncIterable<Uint8Array>) => {
        for await (const chunk of chunks) indexer.write(chunk);
      },
      { signal },
    );
    const { index, digest } = indexer.end();
    if (digest === diffHex(layer.diffId, what)) {
      onBytes(layer.size);
      return index;
    }
  } catch (error) {
    // Whatever is wrong with the copy: the layer itself is the one to judge.
    if (!(error instanceof AtomaError)) throw error;
  } finally {
    await handle.close();
  }
  indexer.abandon();
  await rm(place, { force: true });
  return null;
}

async function fromSource(job: LayerJob): Promise<LayerIndex> {
  const { layer, what, cache, budget, signal, onBytes } = job;
  const place = cache.temporary();
  const keep = temporary(place);
  const out = await open(place, 'wx', 0o600).catch((error) => {
    throw ioError(error, `cannot write to the cache ${cache.dir}`);
  });
  try {
    const indexer = new LayerIndexer(what, layer.size, budget);
    const source = await layer.open();
    const counted = async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        onBytes(chunk.length);
        yield chunk;
      }
    };
    const stages = [source, counted, ...decompressor(layer, what), writeTo(out, indexer)];
    await pipeline(stages as [Readable], { signal });
    await out.close();
    const { index, digest } = indexer.end();
    const expected = diffHex(layer.diffId, what);
    if (digest !== expected) throw wrongDiffId(what, expected, digest);
    await cache.adopt(place, cache.layerPath(expected));
    keep();
    return index;
  } catch (error) {
    await out.close().catch(() => {});
    await rm(place, { force: true });
    keep();
    throw explain(error, job);
  }
}

/** The bytes are hashed and parsed while the previous piece is being written. */
const writeTo = (out: FileHandle, indexer: LayerIndexer) => async (plain: AsyncIterable<Uint8Array>) => {
  let writing: Promise<unknown> = Promise.resolve();
  try {
    for await (const chunk of plain) {
      indexer.write(chunk);
      await writing;
      writing = writeAll(out, chunk);
      // Judged at the next turn; until then nobody else looks.
      writing.catch(() => {});
    }
  } finally {
    await writing;
  }
};

async function writeAll(out: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.length; ) done += (await out.write(chunk, done)).bytesWritten;
}

function decompressor({ compression }: ImageLayer, what: string): unknown[] {
  const options = { chunkSize: CHUNK, highWaterMark: 4 * CHUNK };
  if (compression === 'none') return [];
  if (compression === 'gzip') return [createGunzip(options)];
  const frames = (chunks: AsyncIterable<Uint8Array>) => Readable.from(zstdFrames(chunks, what), { highWaterMark: 1 });
  return [frames, createZstdDecompress(options)];
}

function explain(error: unknown, { layer, what, cache, signal }: LayerJob): unknown {
  if (signal.aborted || error instanceof AtomaError) return error;
  const code = String((error as NodeJS.ErrnoException).code);
  if (/^Z_|^ZSTD_/.test(code)) return badLayer(what, `its ${layer.compression} compression is broken`, error);
  return ioError(error, `cannot write to the cache ${cache.dir}`);
}
