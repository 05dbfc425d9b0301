import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress, gunzipSync } from 'node:zlib';
import { unxz } from '../image/xz.ts';

/** "unknown": the file does not tell. */
export type Feature = 'builtin' | 'module' | 'off' | 'unknown';

/** What our images ask of a kernel. */
export interface KernelFeatures {
  /** How it is known: the configuration inside the kernel (CONFIG_IKCONFIG), names in its code, or not at all. */
  source: 'config' | 'strings' | null;
  /** Devices that the hypervisor names on the command line: without it a Nitro enclave finds none. */
  virtioMmioCmdline: Feature;
  /** /dev/nsm. A module has to be loaded by the init. */
  nsm: Feature;
  vsock: Feature;
  devtmpfs: Feature;
  /** The init is a shell script. */
  scripts: Feature;
}

const SYMBOLS = {
  virtioMmioCmdline: 'VIRTIO_MMIO_CMDLINE_DEVICES',
  nsm: 'NSM',
  vsock: 'VIRTIO_VSOCKETS',
  devtmpfs: 'DEVTMPFS',
  scripts: 'BINFMT_SCRIPT',
} as const;

/** Text constants of drivers/virtio/virtio_mmio.c, drivers/misc/nsm.c, drivers/base/devtmpfs.c: in the kernel exactly when these are. */
const STRINGS = {
  virtioMmioCmdline: 'virtio-mmio-cmdline',
  nsm: 'nsm.vq.0',
  devtmpfs: 'devtmpfs: initialized',
} as const;

const MAX_UNPACKED = 512 * 2 ** 20;
const MAX_CONFIG = 4 << 20;
const START = Buffer.from('IKCFG_ST\x1f\x8b', 'latin1');
const END = Buffer.from('IKCFG_ED', 'latin1');

/**
 * What a kernel file, which readKernelFile has accepted, tells about its configuration. A string that is found proves the
 * feature; one that is missing proves nothing, for it may be in a module. A kernel packed by lz4, lzo, lzma or bzip2 tells
 * nothing. Never throws for what is inside.
 */
export async function kernelFeatures(path: string): Promise<KernelFeatures> {
  const image = await unpacked(path).catch(() => null);
  const config = image && embeddedConfig(image);
  const of = (name: keyof typeof SYMBOLS): Feature => {
    if (config) return fromConfig(config, SYMBOLS[name]);
    const text = (STRINGS as Partial<Record<string, string>>)[name];
    return image && text !== undefined && image.includes(text) ? 'builtin' : 'unknown';
  };
  const features = {
    virtioMmioCmdline: of('virtioMmioCmdline'),
    nsm: of('nsm'),
    vsock: of('vsock'),
    devtmpfs: of('devtmpfs'),
    scripts: of('scripts'),
  };
  const source = config ? 'config' : Object.values(features).includes('builtin') ? 'strings' : null;
  return { source, ...features };
}

function fromConfig(config: string, symbol: string): Feature {
  const value = new RegExp(`^CONFIG_${symbol}=(.*)$`, 'm').exec(config)?.[1];
  return value === 'y' ? 'builtin' : value === 'm' ? 'module' : 'off';
}

/** kernel/configs.c of Linux: the gzipped .config between two marks. */
function embeddedConfig(image: Buffer): string | null {
  const start = image.indexOf(START);
  const end = start < 0 ? -1 : image.indexOf(END, start);
  if (end < 0) return null;
  try {
    const packed = image.subarray(start + START.length - 2, end);
    return gunzipSync(packed, { maxOutputLength: MAX_CONFIG }).toString('utf8');
  } catch {
    return null;
  }
}

/** The kernel proper: of an x86 bzImage the payload, decompressed; an arm64 Image is not compressed. */
async function unpacked(path: string): Promise<Buffer | null> {
  const handle = await open(path, 'r');
  try {
    const head = Buffer.alloc(0x268);
    await handle.read(head, 0, head.length, 0);
    let [start, length] = [0, (await handle.stat()).size];
    if (head.toString('latin1', 0x202, 0x206) === 'HdrS') {
      start = ((head.readUInt8(0x1f1) || 4) + 1) * 512 + head.readUInt32LE(0x248);
      length = head.readUInt32LE(0x24c);
    }
    if (length === 0 || length > MAX_UNPACKED) return null;
    const payload = Buffer.alloc(length);
    await handle.read(payload, 0, length, start);
    return await collect(await decompress(payload));
  } finally {
    await handle.close();
  }
}

async function decompress(payload: Buffer): Promise<Readable> {
  const magic = payload.toString('latin1', 0, 4);
  const source = Readable.from([payload]);
  if (magic.startsWith('\x1f\x8b')) return source.pipe(createGunzip());
  if (magic === '\x28\xb5\x2f\xfd') return source.pipe(createZstdDecompress());
  if (magic === '\xfd7zX') return unxz(source);
  return source;
}

/** What came out before an error counts too: a payload has its length appended, which is not the decompressors'. */
function collect(stream: Readable): Promise<Buffer | null> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  return new Promise((resolve) => {
    const done = () => resolve(chunks.length > 0 ? Buffer.concat(chunks) : null);
    stream.on('data', (chunk: Uint8Array) => {
      size += chunk.length;
      chunks.push(chunk);
      if (size <= MAX_UNPACKED) return;
      stream.destroy();
      resolve(null);
    });
    stream.on('end', done);
    stream.on('error', done);
  });
}
