import { isUtf8 } from 'node:buffer';
import * as z from 'zod';
import { hex, sha256 } from '../core/bytes.ts';
import { linkFlaw } from '../image/cpio-format.ts';
import type { ImageConfig } from './config.ts';
import { compareBytewise, type FlatImage, type ImageEntry, notesOf } from './flatten-types.ts';
import { IMAGE_LIMITS } from './layer-index.ts';
import { pathFlaw } from './layer-names.ts';

const MAX_ID = 0xfffffffe;
/** Rows that are encoded in one go. */
const AT_ONCE = 1000;
/** An entry takes some 150 bytes beside its names. */
const MAX_LISTING = IMAGE_LIMITS.names + IMAGE_LIMITS.entries * 200 + (16 << 20);

const words = z.array(z.string()).nullable();
const count = z.int().min(0);
const head = z.strictObject({
  version: z.literal(1),
  diffIds: z.array(z.string().regex(/^sha256:[0-9a-f]{64}$/)),
  leftOut: z.strictObject({ special: count, xattrs: count, setid: count, metadata: count }),
  /** Null for a directory, which has none. */
  config: z
    .strictObject({
      entrypoint: words,
      cmd: words,
      env: z.array(z.string()),
      workingDir: z.string(),
      user: z.string(),
      architecture: z.string(),
      os: z.string(),
      raw: z.unknown(),
    })
    .nullable(),
});

/**
 * The bytes whose SHA-256 a lock pins as an image's `tree`: a line of JSON with the layers' diff ids, what was left out and the image's
 * configuration, then one for each entry, sorted by path. They follow from the image alone: not from the way in which it came,
 * nor from how its layers were compressed.
 */
export function encodeListing(flat: FlatImage, config: ImageConfig | null): Buffer {
  const { diffIds, leftOut } = flat;
  const { special, xattrs, setid, metadata } = leftOut;
  const ordered = config && {
    entrypoint: config.entrypoint,
    cmd: config.cmd,
    env: config.env,
    workingDir: config.workingDir,
    user: config.user,
    architecture: config.architecture,
    os: config.os,
    raw: config.raw ?? null,
  };
  const first = JSON.stringify({ version: 1, diffIds, leftOut: { special, xattrs, setid, metadata }, config: ordered });
  const pieces = [Buffer.from(`${first}\n`)];
  for (let at = 0; at < flat.entries.length; at += AT_ONCE) {
    const rows = flat.entries.slice(at, at + AT_ONCE).map((entry) => `${JSON.stringify(rowOf(entry))}\n`);
    pieces.push(Buffer.from(rows.join('')));
  }
  return Buffer.concat(pieces);
}

/** Hex SHA-256 of encodeListing's bytes. */
export const listingDigest = (listing: Uint8Array): string => hex(sha256(listing));

function rowOf({ type, path, mode, uid, gid, size, target, sha256, layer, offset }: ImageEntry): unknown[] {
  const common = [type, path, mode, uid, gid];
  if (type === 'dir') return common;
  if (type !== 'file') return [...common, target];
  return layer === undefined ? [...common, size, sha256] : [...common, size, sha256, layer, offset];
}

/**
 * Reads encodeListing's bytes; null for anything else: rows out of order or below something that is no directory, links
 * to anything but an earlier file, places in layers that do not exist.
 */
export function decodeListing(bytes: Uint8Array): { flat: FlatImage; config: ImageConfig | null } | null {
  if (bytes.length > MAX_LISTING || !isUtf8(bytes)) return null;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const end = text.indexOf(0x0a);
    const { diffIds, leftOut, config } = head.parse(JSON.parse(text.toString('utf8', 0, end)));
    const entries: ImageEntry[] = [];
    const types = new Map<string, ImageEntry['type']>();
    for (let at = end + 1; at < text.length; ) {
      const next = text.indexOf(0x0a, at);
      if (next === -1 || entries.length === IMAGE_LIMITS.entries) return null;
      const entry = entryOf(JSON.parse(text.toString('utf8', at, next)));
      if (entry === null || !fits(entry, entries.at(-1), types, diffIds.length)) return null;
      types.set(entry.path, entry.type);
      entries.push(entry);
      at = next + 1;
    }
    return { flat: { entries, diffIds, leftOut, notes: notesOf(leftOut) }, config };
  } catch {
    return null;
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';

/** By hand: a schema takes as long as everything else of a warm build. */
function entryOf(row: unknown): ImageEntry | null {
  if (!Array.isArray(row)) return null;
  const [type, path, mode, uid, gid, ...rest] = row as unknown[];
  if (!isText(path) || !isCount(mode) || !isCount(uid) || !isCount(gid) || uid > MAX_ID || gid > MAX_ID) return null;
  const common = { path, mode, uid, gid, size: 0 };
  if (type === 'dir') return mode <= 0o3777 && rest.length === 0 ? { ...common, type } : null;
  if (mode > 0o777) return null;
  if (type === 'symlink' || type === 'link') {
    const [target] = rest;
    return rest.length === 1 && isText(target) ? { ...common, type, target } : null;
  }
  const [size, sha256, layer, offset] = rest;
  if (type !== 'file' || !isCount(size) || !isText(sha256) || !/^[0-9a-f]{64}$/.test(sha256)) return null;
  if (rest.length === 2) return { ...common, type, size, sha256 };
  return rest.length === 4 && isCount(layer) && isCount(offset)
    ? { ...common, type, size, sha256, layer, offset }
    : null;
}

function fits(
  { path, type, target, layer }: ImageEntry,
  before: ImageEntry | undefined,
  types: Map<string, ImageEntry['type']>,
  layers: number,
): boolean {
  const parts = path.split('/');
  if (pathFlaw(parts) !== null || parts.some((part) => part === '' || part === '.' || part === '..')) return false;
  if (before !== undefined && compareBytewise(before.path, path) >= 0) return false;
  if (parts.length > 1 && types.get(parts.slice(0, -1).join('/')) !== 'dir') return false;
  if (type === 'link') return types.get(target ?? '') === 'file';
  if (type === 'symlink') return linkFlaw(Buffer.from(target ?? '')) === null;
  return type !== 'file' || (layers === 0 ? layer === undefined : layer !== undefined && layer < layers);
}
