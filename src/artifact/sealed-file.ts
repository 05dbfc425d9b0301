import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { isZero } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { fileIdentity } from '../seal/disk.ts';
import { paddingError } from '../seal/errors.ts';
import { type ParsedHeader, pad, verifyHeaderSignature } from '../seal/header.ts';
import { fileSource, partOffsets, readHeader, readIndexBytes } from '../seal/open.ts';
import type { FileSource } from '../seal/source.ts';
import { chunksOf } from './chunks.ts';
import { type Descriptor, TYPES } from './shape.ts';

/** A part of a sealed file that becomes a blob: ciphertext without its padding. */
export interface Region {
  mediaType: string;
  /** In the file. */
  offset: number;
  /** Bytes, without padding. */
  length: number;
}

/** Where index and parts lie, in the order of an artifact's layers. */
export function regionsOf(parsed: ParsedHeader): Region[] {
  const { header, payloadOffset } = parsed;
  const offsets = partOffsets(parsed);
  return [
    { mediaType: TYPES.index, offset: payloadOffset, length: header.index.length },
    ...header.parts.map(({ length }, i) => ({ mediaType: TYPES.part, offset: offsets[i] ?? 0, length })),
  ];
}

export interface SealedFile {
  parsed: ParsedHeader;
  /** Bytes, padding and all. */
  size: number;
  /** The bytes of a region from `from` up to `to`; each chunk is good until the next is asked for. */
  read(region: Region, from: number, to: number): AsyncGenerator<Uint8Array>;
  /** Reads a region once. Throws `ERR_SEAL_PADDING` (exit 2) where what `pull` would not bring back follows it. */
  describe(region: Region, onRead?: (bytes: number) => void, signal?: AbortSignal): Promise<Descriptor>;
  /** Throws `ERR_ARTIFACT_CHANGED` (exit 2) where the file is no longer what was opened. */
  requireUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a sealed model to be pushed: its header's signature and its index are checked. Throws as readHeader, verifyHeaderSignature
 * and readIndexBytes.
 */
export async function openSealed(path: string): Promise<SealedFile> {
  const before = await identity(path);
  const source = await fileSource(path);
  try {
    const parsed = await readHeader(source);
    verifyHeaderSignature(parsed);
    await readIndexBytes(source, parsed);
    return {
      parsed,
      size: source.size,
      read: (region, from, to) => chunksOf(source.fd, region.offset + from, to - from),
      describe: (region, onRead, signal) => describe(source, region, onRead, signal),
      requireUnchanged: async () => {
        if ((await identity(path)) !== before) throw changed(path);
      },
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function describe(
  source: FileSource,
  region: Region,
  onRead?: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<Descriptor> {
  const { mediaType, offset, length } = region;
  const hash = createHash('sha256');
  for await (const chunk of chunksOf(source.fd, offset, length)) {
    signal?.throwIfAborted();
    hash.update(chunk);
    onRead?.(chunk.length);
  }
  if (!isZero(await source.read(offset + length, pad(length) - length)))
    throw paddingError(mediaType === TYPES.index ? 'the index' : 'a part');
  return { mediaType, digest: `sha256:${hash.digest('hex')}`, size: length };
}

/** Null where it cannot be told: opening the file says why. */
const identity = (path: string): Promise<string | null> => stat(path, { bigint: true }).then(fileIdentity, () => null);

const changed = (path: string) =>
  usageError('ERR_ARTIFACT_CHANGED', `the sealed model ${path} changed while it was being pushed`, {
    hint: 'push it again when nothing writes to it',
  });
