import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { Cache } from '../../../src/image/cache.ts';
import { flattenImage } from '../../../src/oci/flatten.ts';
import type { FlatImage, ImageEntry } from '../../../src/oci/flatten-types.ts';
import type { ImageLayer } from '../../../src/oci/source.ts';
import { temporaryDirectory } from '../image/fixtures.ts';

/** An entry of a tar made by hand: the libraries refuse to make most of what must be refused. */
export interface TarEntry {
  name: string | Buffer;
  /** Type flag; by default a file, a directory where the name ends in "/", a symlink where there is `link`. */
  type?: string;
  mode?: number;
  uid?: number;
  gid?: number;
  body?: string | Buffer;
  /** Target of a symlink, or of a hard link where the type is '1'. */
  link?: string | Buffer;
  /** Instead of the true length. */
  size?: number;
  /** Records of an extended header before the entry. */
  pax?: Record<string, string | Buffer>;
  /** Last word over the header's bytes, before the checksum. */
  patch?: (header: Buffer) => void;
}

const pad = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
const octal = (n: number, width: number): string => `${n.toString(8).padStart(width - 1, '0')}\0`;

export function paxRecords(records: Record<string, string | Buffer>): Buffer {
  return Buffer.concat(
    Object.entries(records).map(([key, value]) => {
      const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value as string), Buffer.from('\n')]);
      let length = rest.length + 1;
      while (String(length).length + rest.length !== length) length++;
      return Buffer.concat([Buffer.from(String(length)), rest]);
    }),
  );
}

export function tarEntry(entry: TarEntry): Buffer {
  const { name, link, mode = 0o644, uid = 0, gid = 0, body = '', pax, patch } = entry;
  const nameBytes = Buffer.from(name as string);
  const type = entry.type ?? (link !== undefined ? '2' : nameBytes.at(-1) === 0x2f ? '5' : '0');
  const content = Buffer.from(body as string);
  const header = Buffer.alloc(512);
  nameBytes.copy(header, 0, 0, 100);
  header.write(
    octal(mode, 8) + octal(uid, 8) + octal(gid, 8) + octal(entry.size ?? content.length, 12) + octal(0, 12),
    100,
  );
  header.write('        ', 148);
  header.write(type, 156);
  if (link !== undefined) Buffer.from(link as string).copy(header, 157, 0, 100);
  header.write('ustar\x0000', 257);
  patch?.(header);
  header.write(
    octal(
      header.reduce((sum, byte) => sum + byte, 0),
      7,
    ),
    148,
  );
  const before = pax ? tarEntry({ name: 'pax', type: 'x', body: paxRecords(pax) }) : Buffer.alloc(0);
  return Buffer.concat([before, header, pad(content)]);
}

export const tarEnd = Buffer.alloc(1024);
export const tar = (...entries: TarEntry[]): Buffer => Buffer.concat([...entries.map(tarEntry), tarEnd]);
export const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

const PACK = {
  none: (bytes: Buffer) => bytes,
  gzip: (bytes: Buffer) => gzipSync(bytes),
  zstd: (bytes: Buffer) => zstdCompressSync(bytes),
};

/** A layer as an opened image has it; `opened` counts how often its bytes were asked for. */
export function layerOf(
  plain: Buffer,
  compression: ImageLayer['compression'] = 'none',
): ImageLayer & { opened: number } {
  const stored = PACK[compression](plain);
  return storedLayer(stored, compression, digestOf(plain));
}

export function storedLayer(stored: Buffer, compression: ImageLayer['compression'], diffId: string) {
  const layer = {
    opened: 0,
    diffId,
    size: stored.length,
    compression,
    open: async () => {
      layer.opened++;
      // Pieces that end anywhere.
      const pieces = [];
      for (let at = 0; at < stored.length; at += 1000) pieces.push(stored.subarray(at, at + 1000));
      return Readable.from(pieces);
    },
  };
  return layer;
}

export const newCache = (): Promise<Cache> => Cache.open(join(temporaryDirectory(), 'cache'));

/** Flattens uncompressed layers. */
export async function flatten(...layers: TarEntry[][]): Promise<FlatImage> {
  return flattenImage({ layers: layers.map((entries) => layerOf(tar(...entries))) }, await newCache());
}

/** Entries as short lines: "dir d 755", "file d/f 644 abc" (the body's start), "symlink l -> x". */
export const brief = ({ entries }: FlatImage): string[] =>
  entries.map(({ path, type, mode, target, size }) =>
    target === undefined
      ? `${type} ${path} ${mode.toString(8)}${type === 'file' ? ` ${size}` : ''}`
      : `${type} ${path} -> ${target}`,
  );

export const paths = ({ entries }: { entries: ImageEntry[] }): string[] => entries.map(({ path }) => path);
