import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { CpioReader } from '../../src/image/cpio-read.ts';
import { inspectEif, measureEif, requireCrc } from '../../src/nitro/index.ts';
import { bytesSource } from '../../src/nitro/source.ts';
import { parseConfig } from '../../src/oci/config.ts';
import { Budget, LayerIndexer } from '../../src/oci/layer-index.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { DIR, LINK, rawArchive } from '../../test/unit/image/cpio-bytes.ts';
import { smallEif } from '../../test/unit/nitro/small.ts';
import { haveVectors, vector } from './evidence-targets.ts';
import { must, type Seed, type Target } from './target.ts';

async function eifSeeds(): Promise<Seed[]> {
  const accepts = async (input: Buffer) => {
    const measured = await measureEif(bytesSource(input));
    await inspectEif(bytesSource(input));
    requireCrc(measured);
    return true;
  };
  const genuine = haveVectors ? ['v1-one-ramdisk', 'v3-three-ramdisks-empty-cmdline'] : [];
  return [
    { name: 'own', bytes: await smallEif(), accepts },
    ...genuine.map((name) => ({ name, bytes: vector('eif', `${name}.eif`), accepts })),
  ];
}

/** Reads an archive in pieces: where they end must not matter. */
function readCpio(input: Buffer, piece: number): string {
  const seen: string[] = [];
  let content = 0;
  const reader = new CpioReader({
    entry: (entry) => seen.push(JSON.stringify(entry)),
    data: (chunk) => {
      content += chunk.length;
    },
    done: () => {},
  });
  for (let at = 0; at < input.length; at += piece) reader.write(input.subarray(at, at + piece));
  reader.end();
  must(content <= input.length, 'no more content than bytes');
  return seen.join('\n');
}

const ARCHIVE = rawArchive(
  { name: 'etc', mode: DIR, nlink: 2 },
  { name: 'etc/passwd', body: 'root:x:0:0::/:/bin/sh\n' },
  { name: 'etc/link', mode: LINK, body: 'passwd', inode: 2 },
  { name: 'etc/a', body: 'two names', nlink: 2, inode: 3 },
  { name: 'etc/b', body: '', nlink: 2, inode: 3 },
);

const cpioSeeds = (): Seed[] => [
  {
    name: 'archive',
    bytes: rawArchive(
      { name: 'etc', mode: DIR, nlink: 2 },
      { name: 'etc/passwd', body: 'root:x:0:0::/:/bin/sh\n' },
      { name: 'etc/link', mode: LINK, body: 'passwd', inode: 2 },
    ),
    accepts: (input) => {
      must(readCpio(input, 1 << 20) === readCpio(input, 61), 'pieces do not matter');
      return true;
    },
  },
  { name: 'hard links', bytes: ARCHIVE, accepts: (input) => readCpio(input, 512).length >= 0 },
];

/** A layer of each kind of entry; the name beyond 100 bytes makes an extended header. */
async function layerBytes(): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: 'etc/', type: 'directory' });
  tar.entry({ name: 'etc/passwd' }, 'root:x:0:0::/:/bin/sh\n');
  tar.entry({ name: 'etc/link', type: 'symlink', linkname: 'passwd' });
  tar.entry({ name: 'etc/other', type: 'link', linkname: 'etc/passwd' });
  tar.entry({ name: 'etc/.wh.gone' }, '');
  tar.entry({ name: `usr/${'x'.repeat(120)}/${'y'.repeat(120)}` }, 'text');
  tar.finalize();
  return buffer(tar);
}

async function layerSeeds(): Promise<Seed[]> {
  const bytes = await layerBytes();
  const read = (input: Buffer, piece: number) => {
    const indexer = new LayerIndexer('layer', input.length, new Budget());
    for (let at = 0; at < input.length; at += piece) indexer.write(input.subarray(at, at + piece));
    return JSON.stringify(indexer.end());
  };
  return [
    {
      name: 'layer',
      bytes,
      accepts: (input) => {
        must(read(input, 1 << 20) === read(input, 200), 'pieces do not matter');
        return true;
      },
    },
  ];
}

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
const MANIFEST = {
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digest('a'), size: 100 },
  layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digest('b'), size: 1000 }],
};
const INDEX = {
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.index.v1+json',
  manifests: [
    { mediaType: MANIFEST.mediaType, digest: digest('c'), size: 500, platform: { os: 'linux', architecture: 'amd64' } },
  ],
};
const CONFIG = {
  architecture: 'amd64',
  os: 'linux',
  config: { Entrypoint: ['/bin/app'], Env: ['PATH=/bin'], User: '1000:1000', WorkingDir: '/' },
  rootfs: { type: 'layers', diff_ids: [digest('d')] },
};

const manifestSeeds = (): Seed[] =>
  [MANIFEST, INDEX].map((document) => ({
    name: document.mediaType,
    bytes: Buffer.from(JSON.stringify(document)),
    accepts: (input) => parseManifest(input, 'manifest').kind.length > 0,
  }));

export const imageTargets: Target[] = [
  { name: 'eif', genuine: true, share: 0.1, seeds: eifSeeds },
  { name: 'cpio', genuine: false, share: 1, seeds: async () => cpioSeeds() },
  { name: 'oci-layer', genuine: false, share: 0.6, seeds: layerSeeds },
  { name: 'oci-manifest', genuine: false, share: 1, seeds: async () => manifestSeeds() },
  {
    name: 'oci-config',
    genuine: false,
    share: 1,
    seeds: async () => [
      {
        name: 'config',
        bytes: Buffer.from(JSON.stringify(CONFIG)),
        accepts: (input) => parseConfig(input, 'config').diffIds.length > 0,
      },
    ],
  },
];
