import { z } from 'zod';
import { hex, sha256 } from '../core/bytes.ts';
import { linkFlaw } from '../image/cpio-format.ts';
import type { ImageConfig } from './config.ts';
import { compareBytewise, type FlatImage, type ImageEntry, notesOf } from './flatten-types.ts';
import { IMAGE_LIMITS } from './layer-index.ts';
import { pathFlaw } from './layer-names.ts';

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

const id = z.int().min(0).max(0xfffffffe);
const path = z.string().min(1);
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const row = z.union([
  z.tuple([z.literal('file'), path, z.int().min(0).max(0o777), id, id, count, digest, count, count]),
  // Of a directory's listing: the content has no place in a layer.
  z.tuple([z.literal('file'), path, z.int().min(0).max(0o777), id, id, count, digest]),
  z.tuple([z.literal('dir'), path, z.int().min(0).max(0o3777), id, id]),
  z.tuple([z.literal('symlink'), path, z.literal(0o777), id, id, z.string()]),
  z.tuple([z.literal('link'), path, z.int().min(0).max(0o777), id, id, path]),
]);

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
  const lines = [
    JSON.stringify({ version: 1, diffIds, leftOut: { special, xattrs, setid, metadata }, config: ordered }),
  ];
  for (const entry of flat.entries) lines.push(JSON.stringify(rowOf(entry)));
  return Buffer.from(`${lines.join('\n')}\n`);
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
  if (bytes.length > MAX_LISTING) return null;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    const end = text.indexOf('\n');
    const { diffIds, leftOut, config } = head.parse(JSON.parse(text.slice(0, end)));
    const entries: ImageEntry[] = [];
    const types = new Map<string, ImageEntry['type']>();
    for (let at = end + 1; at < text.length; ) {
      const next = text.indexOf('\n', at);
      if (next === -1 || entries.length === IMAGE_LIMITS.entries) return null;
      const entry = entryOf(row.parse(JSON.parse(text.slice(at, next))));
      if (!fits(entry, entries.at(-1), types, diffIds.length)) return null;
      types.set(entry.path, entry.type);
      entries.push(entry);
      at = next + 1;
    }
    return { flat: { entries, diffIds, leftOut, notes: notesOf(leftOut) }, config };
  } catch {
    return null;
  }
}

function entryOf(cells: z.infer<typeof row>): ImageEntry {
  const [type, path, mode, uid, gid] = cells;
  const common = { path, type, mode, uid, gid, size: 0 };
  if (cells[0] === 'dir') return common;
  if (cells[0] !== 'file') return { ...common, target: cells[5] };
  const [, , , , , size, sha256, layer, offset] = cells;
  return layer === undefined || offset === undefined
    ? { ...common, size, sha256 }
    : { ...common, size, sha256, layer, offset };
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
