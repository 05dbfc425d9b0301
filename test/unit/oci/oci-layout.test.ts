import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../image/fixtures.ts';
import {
  Blobs,
  bytesOf,
  configOf,
  digestOf,
  haveTool,
  layerTar,
  named,
  on,
  openText,
  refusal,
  run,
  skopeo,
  TYPES,
  umociImage,
} from './images.ts';

const fresh = () => new Blobs();
const layout = (blobs: Blobs, ...manifests: object[]) =>
  `oci-layout:${blobs.write(temporaryDirectory(), blobs.index(manifests))}`;

describe('layouts of real tools', () => {
  const tools = ['skopeo', 'umoci'].every(haveTool);

  test.skipIf(!tools)(
    'umoci, as a directory and as a tar, by tag, by digest and alone (umoci and skopeo needed)',
    async () => {
      const dir = temporaryDirectory();
      const made = umociImage(dir);
      const path = made.slice(0, made.lastIndexOf(':'));
      const { Digest } = JSON.parse(skopeo('inspect', `oci:${made}`));
      run('tar', '-C', path, '-cf', join(dir, 'layout.tar'), '.');
      run('tar', '-C', path, '-czf', join(dir, 'layout.tgz'), '.');
      const places = [made, path, `${path}:${Digest}`, `${dir}/layout.tar:made`, `${dir}/layout.tgz`];
      for (const place of places) {
        const image = await openText(`oci-layout:${place}`, { expect: Digest });
        expect(image).toMatchObject({ digest: Digest, platform: 'linux/amd64' });
        expect(image.config).toMatchObject({ entrypoint: ['/app/hello'], cmd: ['--port', '80'], user: '7:8' });
        expect(image.layers).toMatchObject([{ compression: 'gzip' }, { compression: 'gzip' }]);
        for (const layer of image.layers) expect(digestOf(await bytesOf(await layer.open()))).toBe(layer.digest);
        await image.close();
      }
    },
  );

  test.skipIf(!tools)('skopeo with zstd layers, two images in one layout (umoci and skopeo needed)', async () => {
    const dir = temporaryDirectory();
    const made = umociImage(dir);
    const path = join(dir, 'both');
    skopeo('copy', '-q', '--dest-compress-format', 'zstd', '--dest-compress', `oci:${made}`, `oci:${path}:zstd`);
    skopeo('copy', '-q', `oci:${made}`, `oci:${path}:gzip`);
    await refusal(openText(`oci-layout:${path}`), 'ERR_OCI_AMBIGUOUS', 2, /zstd, gzip/);
    await refusal(openText(`oci-layout:${path}:none`), 'ERR_OCI_NOT_FOUND', 2, /no image "none"; it has: zstd, gzip/);
    for (const kind of ['zstd', 'gzip']) {
      const image = await openText(`oci-layout:${path}:${kind}`);
      expect(image.layers.map(({ compression }) => compression)).toEqual([kind, kind]);
      for (const layer of image.layers) await bytesOf(await layer.open());
      await image.close();
    }
  });

  test.skipIf(!haveTool('buildah') || process.getuid?.() !== 0)(
    'buildah, from scratch (buildah and root needed)',
    async () => {
      const dir = temporaryDirectory();
      writeFileSync(join(dir, 'hello'), 'hello');
      writeFileSync(join(dir, 'Containerfile'), 'FROM scratch\nCOPY hello /hello\nENV A=b\nUSER 7\nCMD ["/hello"]\n');
      const store = ['--root', join(dir, 'root'), '--runroot', join(dir, 'run'), '--storage-driver', 'vfs'];
      run('buildah', ...store, 'build', '-q', '--isolation', 'chroot', '-t', `oci:${dir}/out:app`, dir);
      const image = await openText(`oci-layout:${dir}/out:app`);
      expect(image.config).toMatchObject({ cmd: ['/hello'], user: '7', env: expect.arrayContaining(['A=b']) });
      for (const layer of image.layers) expect(digestOf(await bytesOf(await layer.open()))).toBe(layer.digest);
      await image.close();
    },
  );
});

describe('platforms', () => {
  test('nested indexes, an attestation, other platforms; the variant that runs everywhere', async () => {
    const blobs = fresh();
    const make = async (text: string, config: object = {}) => blobs.image([await layerTar(text)], { config });
    const [v3, base, v2] = [await make('v3'), await make('base'), await make('v2')];
    const arm = await make('arm', { architecture: 'arm64' });
    const attestation = blobs.image([Buffer.from('{}')], { config: { architecture: 'unknown', os: 'unknown' } });
    const entries = [
      on(arm, 'linux', 'arm64', 'v8'),
      on(v3, 'linux', 'amd64', 'v3'),
      on(attestation, 'unknown', 'unknown'),
      on(v2, 'linux', 'amd64', 'v2'),
      on(base, 'linux', 'amd64'),
      { ...on(v3, 'linux', 'amd64'), annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } },
    ];
    const inner = blobs.add(TYPES.index, blobs.index(entries, { mediaType: TYPES.index }));
    const outer = blobs.add(TYPES.dockerList, blobs.index([inner], { mediaType: TYPES.dockerList }));
    const place = layout(blobs, named(outer, 'app'));
    for (const [platform, wanted] of [
      ['linux/amd64', base],
      ['linux/amd64/v2', v2],
      ['linux/amd64/v4', v3],
      ['linux/arm64', arm],
    ] as const) {
      const image = await openText(`${place}:app`, { platform });
      expect([platform, image.digest]).toEqual([platform, wanted.digest]);
    }
    const error = await refusal(
      openText(place, { platform: 'linux/riscv64' }),
      'ERR_OCI_PLATFORM',
      2,
      /linux\/riscv64, found linux\/arm64\/v8, linux\/amd64\/v3/,
    );
    expect(error.details?.found).toEqual(['linux/arm64/v8', 'linux/amd64/v3', 'linux/amd64/v2', 'linux/amd64']);
  });

  test('wrong architecture: no image for linux/amd64', async () => {
    const blobs = fresh();
    const image = blobs.image([await layerTar()], { config: { architecture: 'arm64' } });
    await refusal(openText(layout(blobs, on(image, 'linux', 'arm64'))), 'ERR_OCI_PLATFORM', 2, /found linux\/arm64$/);
    await refusal(
      openText(layout(blobs, on(image, 'windows', 'amd64'))),
      'ERR_OCI_PLATFORM',
      2,
      /found windows\/amd64$/,
    );
    await refusal(openText(layout(blobs, image)), 'ERR_OCI_PLATFORM', 2, /found linux\/arm64$/);
  });

  test('an index that lies about an architecture', async () => {
    const blobs = fresh();
    const image = blobs.image([await layerTar()], { config: { architecture: 'arm64' } });
    await refusal(openText(layout(blobs, on(image, 'linux', 'amd64'))), 'ERR_OCI_PLATFORM', 2, /found linux\/arm64/);
  });

  test('two images without names: which is meant?', async () => {
    const blobs = fresh();
    const [a, b] = [blobs.image([await layerTar('a')]), blobs.image([await layerTar('b')])];
    await refusal(openText(layout(blobs, a, b)), 'ERR_OCI_AMBIGUOUS', 2, /sha256:/);
    await refusal(
      openText(layout(blobs, on(a, 'linux', 'amd64'), on(b, 'linux', 'amd64'))),
      'ERR_OCI_AMBIGUOUS',
      2,
      /sha256:/,
    );
    const inner = blobs.add(TYPES.index, blobs.index([a, b]));
    await refusal(openText(layout(blobs, inner)), 'ERR_OCI_MALFORMED', 2, /does not say for which platforms/);
    // One image under two names is one image.
    expect((await openText(layout(blobs, named(a, 'x'), named(a, 'y')))).digest).toBe(a.digest);
  });
});

test("Docker's own media types, and the name that containerd gives", async () => {
  const blobs = fresh();
  const tar = await layerTar();
  const config = blobs.add(TYPES.dockerConfig, configOf([tar]));
  const layer = blobs.add(`${TYPES.dockerLayer}.gzip`, gzipSync(tar));
  const manifest = blobs.add(TYPES.dockerManifest, {
    schemaVersion: 2,
    mediaType: TYPES.dockerManifest,
    config,
    layers: [layer],
  });
  const entry = {
    ...manifest,
    annotations: { 'io.containerd.image.name': 'docker.io/library/app:1', 'org.opencontainers.image.ref.name': '1' },
  };
  for (const tag of ['app:1', 'docker.io/library/app:1', '1']) {
    const image = await openText(`${layout(blobs, entry)}:${tag}`);
    expect(image.layers).toMatchObject([{ digest: layer.digest, compression: 'gzip', diffId: digestOf(tar) }]);
  }
});

test('digests by SHA-512', async () => {
  const dir = temporaryDirectory();
  mkdirSync(join(dir, 'blobs/sha512'), { recursive: true });
  const add = (mediaType: string, bytes: Buffer) => {
    const hex = createHash('sha512').update(bytes).digest('hex');
    writeFileSync(join(dir, 'blobs/sha512', hex), bytes);
    return { mediaType, digest: `sha512:${hex}`, size: bytes.length };
  };
  const tar = await layerTar();
  const config = add(TYPES.config, Buffer.from(JSON.stringify(configOf([tar]))));
  const document = { schemaVersion: 2, config, layers: [add(TYPES.layer, tar)] };
  const manifest = add(TYPES.manifest, Buffer.from(JSON.stringify(document)));
  new Blobs().write(dir, { schemaVersion: 2, manifests: [manifest] });
  const image = await openText(`oci-layout:${dir}`);
  expect(image.digest).toBe(manifest.digest);
  const [layer] = image.layers;
  expect(layer && (await bytesOf(await layer.open()))).toEqual(tar);
  writeFileSync(join(dir, 'blobs/sha512', manifest.digest.slice(7)), JSON.stringify(document).replace('2', '1'));
  await refusal(openText(`oci-layout:${dir}`), 'ERR_OCI_DIGEST', 3, /found sha512:/);
});

describe('attacks', () => {
  const openLayer = async (place: string) => {
    const image = await openText(place);
    const [layer] = image.layers;
    if (layer === undefined) throw new Error('no layer');
    return bytesOf(await layer.open());
  };

  test('digest mismatch: manifest, configuration, layer', async () => {
    const tar = await layerTar();
    const swap = async (pick: (blobs: Blobs, manifest: { digest: string }) => string, what: RegExp) => {
      const blobs = fresh();
      const manifest = blobs.image([tar]);
      const digest = pick(blobs, manifest);
      const bytes = Buffer.from(blobs.all.get(digest) ?? '');
      // One bit of a text, so that the size and the form stay.
      bytes[bytes.length - 3] = (bytes.at(-3) ?? 0) ^ 1;
      blobs.all.set(digest, bytes);
      const error = await refusal(openLayer(layout(blobs, manifest)), 'ERR_OCI_DIGEST', 3, what);
      expect(error.details).toEqual({ expected: digest, found: digestOf(bytes) });
    };
    await swap((_, manifest) => manifest.digest, /blob/);
    await swap((blobs) => [...blobs.all.keys()][1] ?? '', /blob/);
    await swap(() => digestOf(tar), /layer/);
  });

  test('another image than the lock pins', async () => {
    const blobs = fresh();
    const place = layout(blobs, blobs.image([await layerTar()]));
    const expected = `sha256:${'0'.repeat(64)}`;
    const error = await refusal(
      openText(place, { expect: expected }),
      'ERR_OCI_DIGEST',
      3,
      /expected sha256:0+, found sha256:/,
    );
    expect(error.details?.expected).toBe(expected);
  });

  test('size lie: smaller and larger than declared', async () => {
    for (const by of [-1, 1]) {
      const blobs = fresh();
      const lying = blobs.image([await layerTar()], { layers: (layer) => ({ ...layer, size: layer.size + by }) });
      await refusal(openLayer(layout(blobs, lying)), 'ERR_OCI_SIZE', 3, /layer .* expected \d+ bytes, found \d+/);
      const image = blobs.image([await layerTar()]);
      await refusal(openText(layout(blobs, { ...image, size: image.size + by })), 'ERR_OCI_SIZE', 3, /expected/);
    }
    const blobs = fresh();
    const negative = blobs.image([await layerTar()], { layers: (layer) => ({ ...layer, size: -1 }) });
    await refusal(openText(layout(blobs, negative)), 'ERR_OCI_MALFORMED', 2, /layers\.0\.size/);
  });

  test('path traversal in a blob digest', async () => {
    for (const digest of [
      'sha256:../../x',
      'sha256:../../../../etc/passwd',
      `../sha256:${'0'.repeat(64)}`,
      `sha256:${'A'.repeat(64)}`,
      `sha512:${'0'.repeat(64)}`,
    ]) {
      const blobs = fresh();
      const image = blobs.image([await layerTar()], { layers: (layer) => ({ ...layer, digest }) });
      await refusal(openText(layout(blobs, image)), 'ERR_OCI_MALFORMED', 2, /layers\.0\.digest: not a digest/);
      await refusal(
        openText(layout(blobs, { ...image, digest })),
        'ERR_OCI_MALFORMED',
        2,
        /manifests\.0\.digest: not a digest/,
      );
    }
  });

  test('manifest bomb: too large, too deep, too many', async () => {
    const blobs = fresh();
    const huge = blobs.add(TYPES.manifest, Buffer.alloc(5 << 20, ' '));
    await refusal(openText(layout(blobs, huge)), 'ERR_OCI_TOO_LARGE', 2, /at most 4194304 bytes/);
    await refusal(openText(layout(blobs, { ...huge, size: 10 })), 'ERR_OCI_SIZE', 3, /expected 10 bytes/);
    let deep = blobs.image([await layerTar()]);
    for (let i = 0; i < 10; i++) deep = blobs.add(TYPES.index, blobs.index([deep]));
    await refusal(openText(layout(blobs, deep)), 'ERR_OCI_MALFORMED', 2, /nested/);
    const image = blobs.image([await layerTar()]);
    const many = blobs.add(TYPES.index, blobs.index(Array(10_001).fill(image)));
    await refusal(openText(layout(blobs, many)), 'ERR_OCI_MALFORMED', 2, /manifests/);
    const config = blobs.add(TYPES.config, Buffer.alloc(9 << 20, ' '));
    const fat = blobs.add(TYPES.manifest, { schemaVersion: 2, config, layers: [] });
    await refusal(openText(layout(blobs, fat)), 'ERR_OCI_TOO_LARGE', 2, /at most 8388608 bytes/);
    const layers = blobs.image([await layerTar()], { manifest: { layers: Array(600).fill(image) } });
    await refusal(openText(layout(blobs, layers)), 'ERR_OCI_MALFORMED', 2, /layers/);
  });

  test.each([
    ['schema 1', { schemaVersion: 1, fsLayers: [], config: undefined, layers: undefined }, 'UNSUPPORTED', /schema 1/],
    [
      'schema 1 by its media type',
      { mediaType: 'application/vnd.docker.distribution.manifest.v1+prettyjws' },
      'UNSUPPORTED',
      /schema 1/,
    ],
    ['schema 3', { schemaVersion: 3 }, 'MALFORMED', /schemaVersion/],
    ['an index and a manifest at once', { manifests: [] }, 'MALFORMED', /at once/],
    ['neither', { config: undefined, layers: undefined }, 'MALFORMED', /neither/],
    ['a manifest that calls itself an index', { mediaType: TYPES.index }, 'MALFORMED', /is called/],
    [
      'an artifact',
      {
        config: { mediaType: 'application/vnd.cncf.helm.config.v1+json', digest: `sha256:${'0'.repeat(64)}`, size: 1 },
      },
      'UNSUPPORTED',
      /is an artifact .*helm/,
    ],
    ['fewer layers than diff_ids', { layers: [] }, 'MALFORMED', /0 layers, its configuration 1/],
    ['no layers', { layers: undefined }, 'MALFORMED', /layers/],
    ['layers that are text', { layers: ['x'] }, 'MALFORMED', /layers\.0/],
  ] as [string, object, string, RegExp][])('a manifest that is %s', async (_, manifest, code, why) => {
    const blobs = fresh();
    await refusal(openText(layout(blobs, blobs.image([await layerTar()], { manifest }))), `ERR_OCI_${code}`, 2, why);
  });

  test('an index that is called a manifest by who refers to it', async () => {
    const blobs = fresh();
    const index = blobs.add(TYPES.manifest, blobs.index([blobs.image([await layerTar()])]));
    await refusal(openText(layout(blobs, index)), 'ERR_OCI_MALFORMED', 2, /is called/);
  });

  test.each([
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', /does not distribute/],
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', /does not distribute/],
    ['application/vnd.oci.image.layer.v1.tar+gzip+encrypted', /not known/],
    ['application/vnd.in-toto+json', /not known/],
    ['x'.repeat(200), /not known/],
  ])('a layer of the kind %s', async (mediaType, why) => {
    const blobs = fresh();
    const image = blobs.image([await layerTar()], { layers: (layer) => ({ ...layer, mediaType }) });
    await refusal(openText(layout(blobs, image)), 'ERR_OCI_UNSUPPORTED', 2, why);
  });

  test('a media type that names another compression than the bytes', async () => {
    for (const [compression, mediaType] of [
      ['gzip', TYPES.layer],
      ['gzip', `${TYPES.layer}+zstd`],
      [undefined, `${TYPES.layer}+gzip`],
      ['zstd', `${TYPES.layer}+gzip`],
    ] as const) {
      const blobs = fresh();
      const change = { layers: (layer: object) => ({ ...layer, mediaType }), ...(compression ? { compression } : {}) };
      await refusal(
        openLayer(layout(blobs, blobs.image([await layerTar()], change))),
        'ERR_OCI_MALFORMED',
        2,
        /its media type says compression/,
      );
    }
  });

  test('no layout, a missing blob, a blob that is a directory, JSON that is none', async () => {
    const blobs = fresh();
    const image = blobs.image([await layerTar()]);
    const dir = layout(blobs, image).slice('oci-layout:'.length);
    const blob = join(dir, 'blobs', image.digest.replace(':', '/'));
    await refusal(openText(`oci-layout:${temporaryDirectory()}`), 'ERR_OCI_MALFORMED', 2, /no file "oci-layout"/);
    rmSync(blob);
    await refusal(openText(`oci-layout:${dir}`), 'ERR_OCI_MALFORMED', 2, /lacks the blob sha256:/);
    symlinkSync('/', blob);
    await refusal(openText(`oci-layout:${dir}`), 'ERR_FILE_KIND', 2, /not a regular file/);
    writeFileSync(join(dir, 'index.json'), Buffer.from([0xff, 0xfe]));
    await refusal(openText(`oci-layout:${dir}`), 'ERR_OCI_MALFORMED', 2, /not JSON/);
    writeFileSync(join(dir, 'index.json'), '['.repeat(200_000));
    await refusal(openText(`oci-layout:${dir}`), 'ERR_OCI_MALFORMED', 2, /not JSON/);
    writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"9"}');
    await refusal(openText(`oci-layout:${dir}`), 'ERR_OCI_MALFORMED', 2, /imageLayoutVersion/);
  });
});
