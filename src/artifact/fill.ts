import { createHash, type Hash } from 'node:crypto';
import { AtomaError, negativeError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { wrongSize } from '../oci/blobs.ts';
import { resumed } from '../oci/registry-download.ts';
import { ALIGNMENT, pad } from '../seal/header.ts';
import { chunksOf } from './chunks.ts';
import type { Place } from './client.ts';
import type { PartialFile } from './partial.ts';
import type { Region } from './sealed-file.ts';
import type { Descriptor } from './shape.ts';

const BATCH = 1 << 20;

export interface Fill {
  place: Place;
  file: PartialFile;
  region: Region;
  layer: Descriptor;
  /** "part 3 of ...", for error texts. */
  what: string;
  /** The same part as another file has it, perhaps: it is compared. */
  reuse: (() => AsyncIterable<Uint8Array>) | null;
  signal: AbortSignal;
  onBytes(bytes: number): void;
}

/** Where a region's bytes came from. */
export interface Filled {
  moved: number;
  reused: number;
  /** Were there from an earlier run. */
  kept: number;
}

/**
 * Brings a region of the file to the layer's bytes: what is there already, then what another file has, then what the registry gives.
 * Everything is compared with the layer's digest; only where the registry's own bytes are others is it refused.
 * Throws `ERR_OCI_DIGEST`, `ERR_OCI_SIZE` (exit 3), `ERR_OCI_REGISTRY`, `ERR_OCI_AUTH` (exit 5), `ERR_DISK_FULL`.
 */
export async function fill(job: Fill): Promise<Filled> {
  const { layer, reuse } = job;
  const kept = job.file.resumed ? await lengthThere(job) : 0;
  if (kept > 0) {
    const hash = createHash('sha256');
    for await (const chunk of chunksOf(job.file.handle.fd, job.region.offset, kept)) {
      job.signal.throwIfAborted();
      hash.update(chunk);
    }
    if (kept === layer.size && isIt(hash.copy(), layer)) return done(job, { moved: 0, reused: 0, kept });
    // The last run may have been stopped in the middle; or by a power cut, which leaves holes: then from the beginning.
    if (kept < layer.size && (await fetchRest(job, hash, kept)))
      return done(job, { moved: layer.size - kept, reused: 0, kept });
  }
  if (reuse !== null && (await copy(job, reuse()))) return done(job, { moved: 0, reused: layer.size, kept: 0 });
  const hash = createHash('sha256');
  if (await fetchRest(job, hash, 0)) return done(job, { moved: layer.size, reused: 0, kept: 0 });
  throw negativeError(
    'ERR_OCI_DIGEST',
    `${job.what} is another than expected: expected ${layer.digest}, found sha256:${hash.digest('hex')}`,
    { hint: 'the registry, or somebody on the way to it, gives other bytes than were pushed: do not use them' },
  );
}

const isIt = (hash: Hash, { digest }: Descriptor): boolean => `sha256:${hash.digest('hex')}` === digest;

async function done({ file, region }: Fill, filled: Filled): Promise<Filled> {
  await onDisk(file.write(Buffer.alloc(pad(region.length) - region.length), region.offset + region.length));
  return filled;
}

/** Fetches from `from` on; `hash` has what is before it. False: all came, and it is not the layer. */
async function fetchRest(job: Fill, hash: Hash, from: number): Promise<boolean> {
  const { place, layer, what, signal } = job;
  const download = { client: place.client, layer, limits: place.limits, what, signal };
  await write(job, resumed(download, from), hash, from);
  return isIt(hash.copy(), layer);
}

/** False: it is another part after all. */
async function copy(job: Fill, source: AsyncIterable<Uint8Array>): Promise<boolean> {
  const hash = createHash('sha256');
  await write(job, source, hash, 0);
  return isIt(hash, job.layer);
}

async function write(job: Fill, source: AsyncIterable<Uint8Array>, hash: Hash, from: number): Promise<void> {
  const { file, region, layer, what, signal, onBytes } = job;
  const batch = Buffer.allocUnsafe(Math.min(BATCH, Math.max(1, layer.size - from)));
  let at = from;
  let held = 0;
  const flush = async () => {
    if (held > 0) await onDisk(file.write(batch.subarray(0, held), region.offset + at));
    at += held;
    held = 0;
    onBytes(at);
  };
  try {
    for await (const chunk of source) {
      signal.throwIfAborted();
      if (at + held + chunk.length > layer.size) throw wrongSize(what, layer.size, 'more');
      hash.update(chunk);
      for (let used = 0; used < chunk.length; ) {
        const some = chunk.subarray(used, used + batch.length - held);
        batch.set(some, held);
        held += some.length;
        used += some.length;
        if (held === batch.length) await flush();
      }
    }
  } finally {
    // What came before a line broke is of use to the next run.
    await flush();
  }
}

/**
 * How much of a region an earlier run has written. It wrote from the front to the back, and ciphertext has no page of zeros; the last
 * page may be half there, and does not count.
 */
async function lengthThere({ file, region, layer }: Fill): Promise<number> {
  const pages = Math.ceil(layer.size / ALIGNMENT);
  const page = Buffer.alloc(ALIGNMENT);
  let low = 0;
  for (let high = pages; low < high; ) {
    const middle = (low + high) >> 1;
    page.fill(0);
    await file.handle.read(
      page,
      0,
      Math.min(ALIGNMENT, layer.size - middle * ALIGNMENT),
      region.offset + middle * ALIGNMENT,
    );
    if (page.some((byte) => byte !== 0)) low = middle + 1;
    else high = middle;
  }
  return low === pages ? layer.size : Math.max(0, low - 1) * ALIGNMENT;
}

const onDisk = (writing: Promise<void>): Promise<void> =>
  writing.catch((error) => {
    throw error instanceof AtomaError ? error : ioError(error, 'cannot write the sealed model');
  });
