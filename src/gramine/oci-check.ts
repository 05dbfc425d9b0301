import { createHash } from 'node:crypto';
import { constants, readdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { hex, sha256 } from '../core/bytes.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { ioError, readSmallFile } from '../core/files.ts';
import { LAYOUT_ENTRIES } from './oci-image.ts';

const MAX_JSON = 1 << 20;
const CHUNK = 1 << 20;
const descriptor = z.object({ digest: z.string().regex(/^sha256:[0-9a-f]{64}$/), size: z.int().min(0) });
const version = z.strictObject({ imageLayoutVersion: z.literal('1.0.0') });
const annotations = z.record(z.string(), z.unknown()).default({});
const index = z.object({ manifests: z.array(descriptor.extend({ annotations })).length(1), annotations });
const manifest = z.object({ config: descriptor, layers: z.array(descriptor).max(16) });
type Descriptor = z.infer<typeof descriptor>;

/** What was found in a layout. */
export interface CheckedLayout {
  /** Digest (hex) of the image's manifest, which is to be compared with what is expected: it covers the whole image. */
  manifest: string;
  /** What no digest covers: files that belong to no image of it, by their paths inside the layout; annotations of its index. */
  extra: string[];
}

/**
 * Checks an OCI image layout as `writeOciLayout` makes it: its version, and that every blob has its digest and size. Throws `ERR_OCI_MALFORMED` (exit 2), `ERR_OCI_DIGEST` (exit 3).
 */
export async function checkOciLayout(directory: string): Promise<CheckedLayout> {
  parse(version, await readSmallFile(join(directory, 'oci-layout'), 'OCI layout version', MAX_JSON));
  const listed = parse(index, await readSmallFile(join(directory, 'index.json'), 'OCI index', MAX_JSON));
  const [image] = listed.manifests;
  const blobs = join(directory, 'blobs', 'sha256');
  const { digest } = image as Descriptor;
  const names = [listed, image].flatMap((of) => Object.keys(of?.annotations ?? {}).map((key) => `index.json#${key}`));
  const name = digest.slice('sha256:'.length);
  const bytes = await readSmallFile(join(blobs, name), 'OCI manifest', MAX_JSON);
  if (hex(sha256(bytes)) !== name) throw wrong(digest, hex(sha256(bytes)));
  const { config, layers } = parse(manifest, bytes);
  for (const blob of [config, ...layers]) await checkBlob(blobs, blob);
  const known = new Set([digest, config.digest, ...layers.map((layer) => layer.digest)]);
  return { manifest: name, extra: [...unknown(directory, known), ...names] };
}

/** What lies in a layout besides what was checked; nothing is opened, and no link followed. */
function unknown(directory: string, known: Set<string>): string[] {
  const names = (at: string, expected: (name: string) => boolean) =>
    list(join(directory, at)).flatMap((name) => (expected(name) ? [] : [join(at, name)]));
  return [
    ...names('', (name) => LAYOUT_ENTRIES.includes(name)),
    ...names('blobs', (name) => name === 'sha256'),
    ...names('blobs/sha256', (name) => known.has(`sha256:${name}`)),
  ];
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    throw ioError(error, `cannot read ${directory}`);
  }
}

function parse<T>(schema: z.ZodType<T>, bytes: Buffer): T {
  try {
    return schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw usageError('ERR_OCI_MALFORMED', 'expected an OCI layout of one image, as `atoma-tee build` makes it', {
      cause,
    });
  }
}

async function checkBlob(blobs: string, { digest, size }: Descriptor): Promise<void> {
  const path = join(blobs, digest.slice('sha256:'.length));
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error) => {
    if (error.code === 'ENOENT') throw wrong(digest, 'no such blob');
    throw ioError(error, `cannot read ${path}`);
  });
  try {
    const stat = await handle.stat();
    if (!stat.isFile() || stat.size !== size) throw wrong(digest, `${stat.size} bytes instead of ${size}`);
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(CHUNK);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, CHUNK, null);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
    }
    const found = hash.digest('hex');
    if (`sha256:${found}` !== digest) throw wrong(digest, found);
  } finally {
    await handle.close();
  }
}

const wrong = (digest: string, found: string) =>
  negativeError('ERR_OCI_DIGEST', `a blob of the OCI layout is another: expected ${digest}, found ${found}`);
