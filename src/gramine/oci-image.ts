import { createHash } from 'node:crypto';
import { mkdir, open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import { hex, sha256 } from '../core/bytes.ts';
import type { TreeEntry } from '../image/cpio.ts';
import { content, writeTree } from './image-tree.ts';

/** opencontainers/image-spec v1.1: media-types.md, image-layout.md. */
const MEDIA = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;
export const OCI_MANIFEST_TYPE = MEDIA.manifest;
/** All that a layout's directory holds. */
export const LAYOUT_ENTRIES = ['blobs', 'index.json', 'oci-layout'];
const PLATFORM = { architecture: 'amd64', os: 'linux' };

export interface OciImage {
  /** Bottom first; each ordered, parents included. */
  layers: TreeEntry[][];
  entrypoint: string[];
  workdir: string;
  /** Seconds since the epoch, of everything. */
  mtime: number;
}

interface Descriptor {
  mediaType: string;
  /** "sha256:" and hex. */
  digest: string;
  size: number;
}

/**
 * Writes an OCI image layout into `target`, an empty directory. Layers are tars without compression, for a compressor's
 * output changes with its version; the same image gives the same bytes. Returns the digest (hex) of the image's manifest, which covers all of it but the index.
 */
export async function writeOciLayout(target: string, image: OciImage): Promise<{ manifest: string }> {
  const blobs = join(target, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true, mode: 0o700 });
  const layers: Descriptor[] = [];
  for (const entries of image.layers) layers.push(await writeLayer(blobs, entries, image.mtime));
  const { entrypoint, workdir, mtime } = image;
  const made: [string, Buffer][] = [];
  const blob = (mediaType: string, value: object): Descriptor => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = hex(sha256(bytes));
    made.push([digest, bytes]);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
  };
  const config = blob(MEDIA.config, {
    created: new Date(mtime * 1000).toISOString().replace('.000', ''),
    ...PLATFORM,
    config: { Entrypoint: entrypoint, WorkingDir: workdir },
    // Without compression a layer's digest is its diff id.
    rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
  });
  const manifest = blob(MEDIA.manifest, { schemaVersion: 2, mediaType: MEDIA.manifest, config, layers });
  const index = { schemaVersion: 2, mediaType: MEDIA.index, manifests: [{ ...manifest, platform: PLATFORM }] };
  const file = (path: string, bytes: Buffer): TreeEntry => ({
    ...{ path, type: 'file', mode: 0o644, size: bytes.length, open: () => [bytes] },
  });
  await writeTree(
    blobs,
    made.map(([digest, bytes]) => file(digest, bytes)),
    mtime,
  );
  await writeTree(
    target,
    [
      file('index.json', Buffer.from(JSON.stringify(index))),
      file('oci-layout', Buffer.from(JSON.stringify({ imageLayoutVersion: '1.0.0' }))),
    ],
    mtime,
  );
  for (const path of [blobs, join(target, 'blobs'), target]) await settle(path, 0o755, mtime);
  return { manifest: manifest.digest.slice('sha256:'.length) };
}

async function settle(path: string, mode: number, mtime: number): Promise<void> {
  const handle = await open(path);
  try {
    await handle.chmod(mode);
    await handle.utimes(mtime, mtime);
  } finally {
    await handle.close();
  }
}

/** Owner 0, as in every image of ours. */
async function writeLayer(blobs: string, entries: TreeEntry[], mtime: number): Promise<Descriptor> {
  const partial = join(blobs, 'layer');
  const handle = await open(partial, 'wx', 0o600);
  const tar = pack();
  const hash = createHash('sha256');
  let size = 0;
  try {
    const written = (async () => {
      for await (const chunk of tar as AsyncIterable<Buffer>) {
        hash.update(chunk);
        size += chunk.length;
        for (let done = 0; done < chunk.length; ) done += (await handle.write(chunk, done)).bytesWritten;
      }
    })();
    await Promise.all([written, fill(tar, entries, new Date(mtime * 1000))]);
  } finally {
    await handle.close();
  }
  const digest = hash.digest('hex');
  const path = join(blobs, digest);
  await rename(partial, path);
  await settle(path, 0o644, mtime);
  return { mediaType: MEDIA.layer, digest: `sha256:${digest}`, size };
}

async function fill(tar: ReturnType<typeof pack>, entries: TreeEntry[], mtime: Date): Promise<void> {
  try {
    for (const entry of entries) {
      const { path, target = '', mode, uid = 0, gid = 0 } = entry;
      const header = { name: path, mode, uid, gid, mtime };
      if (entry.type === 'file') {
        await pipeline(content(entry), tar.entry({ ...header, type: 'file', size: entry.size }));
      } else {
        const kind = { dir: 'directory', symlink: 'symlink', link: 'link' } as const;
        const linkname = entry.type === 'dir' ? {} : { linkname: target };
        tar.entry({
          ...header,
          type: kind[entry.type],
          ...linkname,
          ...(entry.type === 'symlink' ? { mode: 0o777 } : {}),
        });
      }
    }
    tar.finalize();
  } catch (error) {
    tar.destroy(error instanceof Error ? error : new Error('cannot write a layer'));
    throw error;
  }
}
