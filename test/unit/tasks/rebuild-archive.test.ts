import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Cache } from '../../../src/image/cache.ts';
import { MEASUREMENTS_FILE, parseMeasurements } from '../../../src/manifest/measurements.ts';
import { loadConfig } from '../../../src/project/load.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { pinProject } from '../../../src/tasks/lock/pins.ts';
import { selectBase } from '../../../src/tasks/lock/select.ts';
import { verify } from '../../../src/tasks/verify/index.ts';
import { makeTar, sha256, temporaryDirectory, tinyProject } from '../image/fixtures.ts';
import { tinyBzImage } from '../kernel/tiny.ts';
import { Blobs, configOf, digestOf, on, skopeo, TYPES } from '../oci/images.ts';
import { haveRegistry, startRegistry } from '../oci/registries.ts';

/** Every kind of input but packages: an archive of them is enough, wherever the image, the directory or the kernel came from. */

const kernel = tinyBzImage('6.1.2');

/** Two layers: the second removes a file of the first, and there are links of both kinds, an owner, an empty file. */
async function layers(): Promise<Buffer[]> {
  const own = { mtime: new Date(0), uid: 7, gid: 8 };
  return [
    await makeTar([
      { ...own, name: 'app/', type: 'directory', mode: 0o755 },
      { ...own, name: 'app/hello', mode: 0o755, content: '#!/bin/sh\n' },
      { ...own, name: 'app/gone', content: 'gone' },
    ]),
    await makeTar([
      { ...own, name: 'app/.wh.gone', content: '' },
      { ...own, name: 'app/again', type: 'link', linkname: 'app/hello' },
      { ...own, name: 'app/link', type: 'symlink', linkname: 'hello' },
      { ...own, name: 'app/empty', content: '' },
      { ...own, name: 'app/empty-too', type: 'link', linkname: 'app/empty' },
    ]),
  ];
}

async function writeLayout(dir: string, compression?: 'gzip' | 'zstd'): Promise<void> {
  const blobs = new Blobs();
  blobs.write(dir, blobs.index([blobs.image(await layers(), compression ? { compression } : {})]));
}

/** As `docker save` writes it. */
async function writeDockerArchive(path: string): Promise<void> {
  const tars = await layers();
  const config = Buffer.from(JSON.stringify(configOf(tars)));
  const name = `${digestOf(config).slice(7)}.json`;
  const list = [{ Config: name, RepoTags: ['app:1'], Layers: tars.map((_, i) => `${i}/layer.tar`) }];
  writeFileSync(
    path,
    await makeTar([
      ...tars.map((content, i) => ({ name: `${i}/layer.tar`, content })),
      { name, content: config },
      { name: 'manifest.json', content: JSON.stringify(list) },
    ]),
  );
}

/** An image for two platforms in a registry that runs until `stop`. */
async function publishImage(): Promise<{ runtime: string; stop(): Promise<void> }> {
  const storage = temporaryDirectory();
  const registry = await startRegistry(storage);
  onTestFinished(() => registry.stop());
  const blobs = new Blobs();
  const arm = blobs.image([await makeTar([{ name: 'arm', content: 'arm' }])], { config: { architecture: 'arm64' } });
  const images = [
    on(arm, 'linux', 'arm64'),
    on(blobs.image(await layers(), { compression: 'gzip' }), 'linux', 'amd64'),
  ];
  const index = blobs.add(TYPES.index, blobs.index(images, { mediaType: TYPES.index }));
  const layout = blobs.write(join(storage, 'layout'), blobs.index([index]));
  const reference = `${registry.host}/team/app:1`;
  skopeo('copy', '-q', '--dest-tls-verify=false', '--all', `oci:${layout}`, `docker://${reference}`);
  return { runtime: command(`oci:${reference}`), stop: registry.stop };
}

/** A kernel as `atoma-tee nitro kernel` leaves it in the cache. */
function storeKernel(cache: Cache): void {
  const inputs = {
    ...{ recipe: 1, config: 'c'.repeat(64), variables: {} },
    source: { name: 'linux-source', version: '6.1.2', sha256: 'b'.repeat(64) },
    tools: { gcc: '', ld: '', make: '', flex: '', bison: '', gzip: '' },
  };
  const record = {
    version: '6.1.2',
    size: kernel.length,
    sha256: sha256(kernel),
    configSha256: sha256('config'),
    inputs,
  };
  const dir = join(cache.dir, 'kernels', 'a'.repeat(64));
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'bzImage'), kernel);
  writeFileSync(join(dir, 'config'), 'config');
  writeFileSync(join(dir, 'kernel.json'), JSON.stringify(record));
}

interface Case {
  /** Of enclave.toml. */
  runtime?: string;
  kernel?: string;
  /** What enclave.toml calls it, where only now that is known, and how what it came from goes away. */
  make(dir: string, cache: Cache): void | Promise<void | { runtime: string; stop(): Promise<void> }>;
  /** What of the project a build with the archive does without. */
  without: string[];
  /** Files that the image then has. */
  has: string[];
  /** Pins that no test can make as its tool does. */
  kernelPin?: { version: string; size: number; sha256: string; inputs: string };
}

const command = (image: string, more = '') => `kind = "command"\n${more}[base]\nimage = "${image}"\n`;
const FILES =
  'command = ["/app/hello"]\ninclude = [{ from = "extra", to = "/opt/extra" }, { from = "notes.txt", to = "/etc/" }]\n';

function writeFiles(dir: string): void {
  mkdirSync(join(dir, 'rootfs/app'), { recursive: true });
  writeFileSync(join(dir, 'rootfs/app/hello'), '#!/bin/sh\n');
  chmodSync(join(dir, 'rootfs/app/hello'), 0o755);
  symlinkSync('hello', join(dir, 'rootfs/app/link'));
  mkdirSync(join(dir, 'extra/empty'), { recursive: true });
  writeFileSync(join(dir, 'extra/run.sh'), 'exec true\n', { mode: 0o755 });
  symlinkSync('../etc/notes.txt', join(dir, 'extra/notes'));
  writeFileSync(join(dir, 'notes.txt'), 'notes\n');
}

const cases: Record<string, Case> = {
  'an OCI layout whose layers are compressed': {
    runtime: command('oci-layout:base'),
    make: (dir) => writeLayout(join(dir, 'base'), 'zstd'),
    without: ['base'],
    has: ['rootfs/image/app/empty-too', 'rootfs/image/app/link'],
  },
  ...(haveRegistry
    ? {
        'an image for two platforms in a registry': {
          runtime: command('there'),
          make: publishImage,
          without: [],
          has: ['rootfs/image/app/again'],
        },
      }
    : {}),
  'a docker archive': {
    runtime: command('docker-archive:base.tar'),
    make: (dir) => writeDockerArchive(join(dir, 'base.tar')),
    without: ['base.tar'],
    has: ['rootfs/image/app/again'],
  },
  'a directory as the base, and included files': {
    runtime: command('dir:rootfs', FILES),
    make: writeFiles,
    without: [],
    has: ['rootfs/image/app/link', 'rootfs/image/etc/notes.txt', 'rootfs/image/opt/extra/run.sh'],
  },
  'files included into an image': {
    runtime: command('oci-layout:base', FILES),
    make: async (dir) => {
      writeFiles(dir);
      await writeLayout(join(dir, 'base'));
    },
    without: ['base'],
    has: ['rootfs/image/app/again', 'rootfs/image/opt/extra/empty', 'rootfs/image/etc/notes.txt'],
  },
  'a kernel of one’s own with a module': {
    kernel: '{ file = "boot/bzImage", modules = ["boot/nsm.ko"] }',
    make: (dir) => {
      mkdirSync(join(dir, 'boot'));
      writeFileSync(join(dir, 'boot/bzImage'), kernel);
      writeFileSync(join(dir, 'boot/nsm.ko'), 'a module');
    },
    without: ['boot'],
    has: ['modules/010.ko'],
  },
  'the small kernel': {
    kernel: '"small"',
    make: (_, cache) => storeKernel(cache),
    without: [],
    has: ['init'],
    kernelPin: { version: '6.1.2', size: kernel.length, sha256: sha256(kernel), inputs: 'd'.repeat(64) },
  },
};

async function makeProject({ kernel, make, kernelPin, ...one }: Case) {
  const project = await tinyProject();
  const { dir, cacheDir, lock } = project;
  const cache = await Cache.open(cacheDir);
  const made = await make(dir, cache);
  const runtime = made?.runtime ?? one.runtime;
  const toml = join(dir, 'enclave.toml');
  let text = readFileSync(toml, 'utf8');
  if (runtime) text = text.replace('kind = "onnx"\n', runtime);
  if (kernel) text = text.replace('kernel = "debian"', `kernel = ${kernel}`);
  writeFileSync(toml, text);
  const config = await loadConfig(dir);
  const keep = kernelPin ? { ...lock, kernel: kernelPin } : null;
  const pins = await pinProject(config, { dir, keep, cache, onProgress: undefined });
  Object.assign(lock, selectBase(lock, config), pins, runtime ? { runtime: 'command' } : {});
  project.writeLock();
  return { ...project, stop: made?.stop };
}

const contents = (dir: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => [
        join(parentPath, name).slice(dir.length),
        sha256(readFileSync(join(parentPath, name))),
      ]),
  );

test.each(Object.entries(cases))('%s: an archive of the inputs is enough', async (_, one) => {
  const { dir, cacheDir, programPath, mirror, stop } = await makeProject(one);
  const [archive, dist] = [join(dirname(dir), 'inputs'), join(temporaryDirectory(), 'dist')];
  await build({ project: dir, cacheDir, programPath, saveInputs: archive });
  cpSync(join(dir, 'dist'), dist, { recursive: true });
  const { images } = parseMeasurements(readFileSync(join(dist, MEASUREMENTS_FILE)));
  const paths = images.flatMap((image) => image.parts.flatMap((part) => ('files' in part ? (part.files ?? []) : [])));
  expect(paths.map(({ path }) => path)).toEqual(expect.arrayContaining(one.has));
  mirror.hits.length = 0;

  await stop?.();
  for (const name of one.without) rmSync(join(dir, name), { recursive: true });
  const [out, empty] = [join(dirname(dir), 'out'), join(dirname(dir), 'empty')];
  await build({ project: dir, out, cacheDir: empty, programPath, inputs: archive, offline: true });
  expect(contents(out)).toEqual(contents(dist));

  for (const path of [dir, cacheDir, empty, out]) rmSync(path, { recursive: true });
  // rebuild.test.ts looks for what a rebuild leaves in the common one, perhaps at this moment.
  vi.stubEnv('TMPDIR', temporaryDirectory());
  onTestFinished(() => void vi.unstubAllEnvs());
  const report = await verify({
    ...{ files: [join(dist, 'build.intoto.json')], expect: [], allowSimulated: [], rebuild: true, offline: true },
    ...{ inputs: archive, cacheDir: empty, programPath },
  });
  const failed = report.results.flatMap(({ checks }) => checks.filter(({ status }) => status === 'fail'));
  expect(failed).toEqual([]);
  expect(report).toMatchObject({
    verdict: 'pass',
    results: [{ rebuild: { measurementEqual: true, byteEqual: true } }],
  });
  expect(existsSync(empty)).toBe(false);
  expect(readdirSync(tmpdir())).toEqual([]);
  expect(mirror.hits).toEqual([]);
});
