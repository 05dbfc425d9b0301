import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect } from 'vitest';
import { AtomaError } from '../../../src/core/errors.ts';
import { Cache } from '../../../src/image/cache.ts';
import { parseReference } from '../../../src/oci/reference.ts';
import { openRegistryImage } from '../../../src/oci/registry.ts';
import { LIMITS, type RegistryLimits } from '../../../src/oci/registry-http.ts';
import { type OpenableReference, type OpenOptions, openImage } from '../../../src/oci/source.ts';
import { makeTar, temporaryDirectory } from '../image/fixtures.ts';

export const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export const TYPES = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
};

export interface TestDescriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
  platform?: Record<string, string>;
}

/** Blobs of hand-made images by digest, for what no tool would write. */
export class Blobs {
  readonly all = new Map<string, Buffer>();

  add(mediaType: string, content: Buffer | object): TestDescriptor {
    const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
    const digest = digestOf(bytes);
    this.all.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  /** A manifest with a configuration and one layer for each tar; the descriptors can be changed before it is made. */
  image(
    tars: Buffer[],
    change: {
      config?: object;
      layers?: (layer: TestDescriptor) => object;
      manifest?: object;
      compression?: 'gzip' | 'zstd';
      type?: string;
    } = {},
  ): TestDescriptor {
    const compress = { gzip: gzipSync, zstd: zstdCompressSync, none: (tar: Buffer) => tar };
    const suffix = change.compression ? `+${change.compression}` : '';
    const layers = tars.map((tar) => this.add(TYPES.layer + suffix, compress[change.compression ?? 'none'](tar)));
    const config = this.add(TYPES.config, configOf(tars, change.config));
    const document = { schemaVersion: 2, config, layers: layers.map(change.layers ?? ((layer) => layer)) };
    return this.add(change.type ?? TYPES.manifest, { ...document, ...change.manifest });
  }

  index = (manifests: object[], more: object = {}): object => ({ schemaVersion: 2, manifests, ...more });

  /** As an image layout. */
  write(dir: string, index: object): string {
    mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(join(dir, 'index.json'), JSON.stringify(index));
    for (const [digest, bytes] of this.all) writeFileSync(join(dir, 'blobs/sha256', digest.slice(7)), bytes);
    return dir;
  }
}

export const configOf = (tars: Buffer[], more: object = {}): object => ({
  architecture: 'amd64',
  os: 'linux',
  config: { Cmd: ['/app/hello'], Env: ['A=b'] },
  rootfs: { type: 'layers', diff_ids: tars.map(digestOf) },
  ...more,
});

export const layerTar = (content = 'hello'): Promise<Buffer> =>
  makeTar([{ name: 'app/hello', mtime: new Date(0), content }]);

export const named = (descriptor: TestDescriptor, name: string): TestDescriptor => ({
  ...descriptor,
  annotations: { 'org.opencontainers.image.ref.name': name },
});

export const on = (descriptor: TestDescriptor, os: string, architecture: string, variant?: string): TestDescriptor => ({
  ...descriptor,
  platform: { os, architecture, ...(variant ? { variant } : {}) },
});

export const newCache = (): Promise<Cache> => Cache.open(join(temporaryDirectory(), 'cache'));

/** Without the credentials of whoever runs the tests. */
export const cleanEnv = (): NodeJS.ProcessEnv => ({ HOME: temporaryDirectory(), PATH: process.env.PATH });

/** Seconds of waiting are milliseconds here; a test that depends on none of them says nothing of time. */
export const FAST: RegistryLimits = { ...LIMITS, backoff: 1, idle: 10_000 };

export async function openText(
  text: string,
  { limits = FAST, ...options }: Partial<OpenOptions> & { limits?: RegistryLimits } = {},
) {
  const reference = parseReference(text, '/') as OpenableReference;
  const cache = options.cache ?? (await newCache());
  const all = { platform: 'linux/amd64', offline: false, env: cleanEnv(), ...options, cache };
  return reference.kind === 'oci' ? openRegistryImage(reference, all, limits) : openImage(reference, all);
}

export async function bytesOf(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Expects a refusal with this code and exit code, whose text matches, and shows no more than a screen. */
export async function refusal(
  promise: Promise<unknown>,
  code: string,
  exit: number,
  text: RegExp,
): Promise<AtomaError> {
  const error = await promise.then(
    () => expect.unreachable(`expected ${code}`),
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(AtomaError);
  const ours = error as AtomaError;
  expect([ours.code, ours.exitCode, ours.message]).toEqual([code, exit, expect.stringMatching(text)]);
  expect(ours.message.length).toBeLessThan(2000);
  return ours;
}

export const haveTool = (name: string): boolean => spawnSync('sh', ['-c', 'command -v "$1"', 'sh', name]).status === 0;

/** Runs a tool that makes images. */
export function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr}`);
  return stdout;
}

export const skopeo = (...args: string[]): string => run('skopeo', '--insecure-policy', ...args);

/** An image of two layers, made by umoci in a layout; returns "DIR:TAG". */
export function umociImage(dir: string, content = 'hello'): string {
  const layout = join(dir, 'umoci');
  const image = `${layout}:made`;
  mkdirSync(join(dir, 'src'));
  writeFileSync(join(dir, 'src/hello'), content);
  run('umoci', 'init', '--layout', layout);
  run('umoci', 'new', '--image', image);
  run('umoci', 'insert', '--rootless', '--image', image, join(dir, 'src'), '/app');
  run('umoci', 'insert', '--rootless', '--image', image, join(dir, 'src/hello'), '/etc/hello');
  const settings = ['--config.entrypoint=/app/hello', '--config.cmd=--port', '--config.cmd=80', '--config.env=A=b c'];
  run(
    'umoci',
    'config',
    '--image',
    image,
    ...settings,
    '--config.workingdir=/app',
    '--config.user=7:8',
    '--architecture=amd64',
  );
  return image;
}
