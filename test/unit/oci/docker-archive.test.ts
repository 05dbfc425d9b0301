import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type Entry, makeTar, temporaryDirectory } from '../image/fixtures.ts';
import {
  bytesOf,
  configOf,
  digestOf,
  haveTool,
  layerTar,
  newCache,
  openText,
  refusal,
  skopeo,
  umociImage,
} from './images.ts';

/** `docker save` of before version 25: a directory for each layer, and links between those of equal content. */
async function legacy(
  tars: Buffer[],
  change: { config?: object; list?: object; entries?: Entry[] } = {},
): Promise<Entry[]> {
  const config = Buffer.from(JSON.stringify(configOf(tars, change.config)));
  const name = `${digestOf(config).slice(7)}.json`;
  const ids = tars.map((_, i) => `${i}`.repeat(64));
  const layers = tars.flatMap((tar, i): Entry[] => {
    const same = tars.indexOf(tar);
    const layer = { name: `${ids[i]}/layer.tar` };
    return [
      { name: `${ids[i]}/`, type: 'directory' },
      { name: `${ids[i]}/VERSION`, content: '1.0' },
      { name: `${ids[i]}/json`, content: '{}' },
      same < i ? { ...layer, type: 'symlink', linkname: `../${ids[same]}/layer.tar` } : { ...layer, content: tar },
    ];
  });
  const list = [{ Config: name, RepoTags: ['app:1'], Layers: ids.map((id) => `${id}/layer.tar`), ...change.list }];
  return [
    ...layers,
    { name, content: config },
    ...(change.entries ?? []),
    { name: 'manifest.json', content: JSON.stringify(list) },
  ];
}

async function saved(entries: Entry[], pack = (tar: Buffer) => tar): Promise<string> {
  const path = join(temporaryDirectory(), 'app.tar');
  writeFileSync(path, pack(await makeTar(entries)));
  return path;
}

describe('what docker save writes', () => {
  test.each([
    ['plain', (tar: Buffer) => tar],
    ['gzip', (tar: Buffer) => gzipSync(tar)],
    ['zstd', (tar: Buffer) => zstdCompressSync(tar)],
  ])('the legacy layout with links between layers, %s', async (_, pack) => {
    const [a, b] = [await layerTar('a'), await layerTar('b')];
    const tars = [a, b, a];
    const path = await saved(await legacy(tars), pack);
    const cache = await newCache();
    const image = await openText(`docker-archive:${path}:app:1`, { cache });
    expect(image.layers.map(({ diffId, size, compression }) => ({ diffId, size, compression }))).toEqual(
      tars.map((tar) => ({ diffId: digestOf(tar), size: tar.length, compression: 'none' })),
    );
    // At once, and twice.
    const streams = await Promise.all([...image.layers, ...image.layers].map((layer) => layer.open()));
    expect((await Promise.all(streams.map(bytesOf))).map(digestOf)).toEqual([...tars, ...tars].map(digestOf));
    expect(image.config).toMatchObject({ cmd: ['/app/hello'], entrypoint: null, env: ['A=b'], os: 'linux' });
    await image.close();
    expect(readdirSync(join(cache.dir, 'tmp'))).toEqual([]);
  });

  test('the layout of Docker 25 and later', async () => {
    const tar = await layerTar();
    const packed = gzipSync(tar);
    const config = Buffer.from(JSON.stringify(configOf([tar])));
    const blob = (content: Buffer) => ({ name: `blobs/sha256/${digestOf(content).slice(7)}`, content });
    const list = [{ Config: blob(config).name, RepoTags: ['app:1'], Layers: [blob(packed).name], LayerSources: {} }];
    const entries = [
      { name: 'blobs/', type: 'directory' as const },
      blob(config),
      blob(packed),
      { name: 'index.json', content: '{"schemaVersion":2,"manifests":[]}' },
      { name: 'manifest.json', content: JSON.stringify(list) },
      { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    ];
    const image = await openText(`docker-archive:${await saved(entries)}`);
    expect(image.digest).toBe(digestOf(config));
    expect(image.layers).toMatchObject([{ compression: 'gzip', digest: digestOf(packed), diffId: digestOf(tar) }]);
    await image.close();

    // Attack: a layer that is not what its name says.
    const other = gzipSync(await layerTar('evil'));
    const forged = entries.map((entry) => (entry.name === blob(packed).name ? { ...entry, content: other } : entry));
    const bad = await openText(`docker-archive:${await saved(forged)}`);
    await refusal(
      Promise.resolve(bad.layers[0]?.open()).then((s) => s && bytesOf(s)),
      'ERR_OCI_DIGEST',
      3,
      /layer/,
    );
    await bad.close();
  });

  test('several images: a tag or an image ID chooses, and without one all are listed', async () => {
    const tars = [await layerTar('a'), await layerTar('b')];
    const configs = tars.map((tar) => Buffer.from(JSON.stringify(configOf([tar]))));
    const list = tars.map((_, i) => ({
      Config: `${digestOf(configs[i] ?? Buffer.alloc(0)).slice(7)}.json`,
      RepoTags: i === 0 ? ['app:1', 'localhost:5000/app:1'] : null,
      Layers: [`${i}/layer.tar`],
    }));
    const path = await saved([
      ...tars.map((content, i) => ({ name: `${i}/layer.tar`, content })),
      ...configs.map((content, i) => ({ name: String(list[i]?.Config), content })),
      { name: 'manifest.json', content: JSON.stringify(list) },
    ]);
    const ids = configs.map(digestOf);
    const error = await refusal(
      openText(`docker-archive:${path}`),
      'ERR_OCI_AMBIGUOUS',
      2,
      /app:1, localhost:5000\/app:1, sha256:/,
    );
    expect(error.details?.images).toEqual(['app:1', 'localhost:5000/app:1', ids[1]]);
    await refusal(
      openText(`docker-archive:${path}:other:1`),
      'ERR_OCI_NOT_FOUND',
      2,
      /no image "other:1"; it has: app:1/,
    );
    for (const [tag, id] of [
      ['app:1', ids[0]],
      ['localhost:5000/app:1', ids[0]],
      [ids[1], ids[1]],
    ]) {
      const image = await openText(`docker-archive:${path}:${tag}`);
      expect(image.digest).toBe(id);
      await image.close();
    }
  });

  test.skipIf(!haveTool('skopeo') || !haveTool('umoci'))(
    'skopeo writes one of an image of umoci (both needed)',
    async () => {
      const dir = temporaryDirectory();
      const layout = umociImage(dir);
      const path = join(dir, 'saved.tar');
      skopeo('copy', '-q', `oci:${layout}`, `docker-archive:${path}:app:1`);
      const image = await openText(`docker-archive:${path}:docker.io/library/app:1`);
      expect(image.layers).toHaveLength(2);
      for (const layer of image.layers) expect(digestOf(await bytesOf(await layer.open()))).toBe(layer.diffId);
      expect(image.config).toMatchObject({
        entrypoint: ['/app/hello'],
        cmd: ['--port', '80'],
        env: ['A=b c'],
        workingDir: '/app',
        user: '7:8',
        architecture: 'amd64',
      });
      await image.close();
    },
  );
});

describe('attacks', () => {
  test('another image than the lock pins', async () => {
    const path = await saved(await legacy([await layerTar()]));
    const expected = `sha256:${'0'.repeat(64)}`;
    const error = await refusal(
      openText(`docker-archive:${path}`, { expect: expected }),
      'ERR_OCI_DIGEST',
      3,
      /expected sha256:0+, found sha256:/,
    );
    expect(error.details).toMatchObject({ expected });
  });

  test('a configuration that is not what its name says', async () => {
    const entries = await legacy([await layerTar()]);
    const config = JSON.stringify(configOf([await layerTar()], { author: 'evil' }));
    const forged = entries.map((entry) =>
      entry.name.endsWith('.json') && entry.name.length > 60 ? { ...entry, content: config } : entry,
    );
    await refusal(openText(`docker-archive:${await saved(forged)}`), 'ERR_OCI_DIGEST', 3, /configuration/);
  });

  test.each([
    ['a layer outside the archive', { Layers: ['../../../etc/passwd'] }, [], /lacks the layer/],
    ['a layer by an absolute path', { Layers: ['/etc/passwd'] }, [], /lacks the layer/],
    [
      'a layer that is a link out of the archive',
      { Layers: ['l'] },
      [{ name: 'l', type: 'symlink', linkname: '../../etc/passwd' }],
      /leaves the archive/,
    ],
    [
      'a layer that is an absolute link',
      { Layers: ['l'] },
      [{ name: 'l', type: 'symlink', linkname: '/etc/passwd' }],
      /leaves the archive/,
    ],
    ['a link to itself', { Layers: ['l'] }, [{ name: 'l', type: 'symlink', linkname: 'l' }], /leads nowhere/],
    ['a name outside the archive', {}, [{ name: '../x', content: 'x' }], /leaves the archive/],
    [
      'the same name twice',
      {},
      [
        { name: 'x', content: 'x' },
        { name: './x', content: 'y' },
      ],
      /twice/,
    ],
    [
      'more layers than the configuration knows',
      { Layers: ['x', 'x'] },
      [{ name: 'x', content: 'x' }],
      /2 layers, its configuration 1/,
    ],
    ['no layer list', { Layers: null }, [], /0\.Layers/],
    ['a configuration outside the archive', { Config: '../../../etc/passwd' }, [], /lacks/],
  ] as [string, object, Entry[], RegExp][])('%s', async (_, list, entries, why) => {
    const path = await saved(await legacy([await layerTar()], { list, entries }));
    await refusal(openText(`docker-archive:${path}`), 'ERR_OCI_MALFORMED', 2, why);
  });

  test('an archive of nothing, of text, that ends early, of another kind', async () => {
    const dir = temporaryDirectory();
    const whole = await makeTar(await legacy([await layerTar()]));
    const cases: [string, Buffer, string, RegExp][] = [
      ['empty', Buffer.alloc(0), 'MALFORMED', /no manifest\.json/],
      ['text', Buffer.alloc(4096, 'not a tar '), 'MALFORMED', /not a tar archive/],
      ['short', whole.subarray(0, 2000), 'MALFORMED', /ends early|inside a header/],
      ['bits', Buffer.concat([whole.subarray(0, 512), Buffer.alloc(512, 1), whole.subarray(1024)]), 'MALFORMED', /./],
      ['gzip', gzipSync(whole).subarray(0, 200), 'MALFORMED', /gzip compression is broken/],
      ['zstd', zstdCompressSync(whole).subarray(0, 100), 'MALFORMED', /zstd compression is broken/],
      ['xz', Buffer.from('fd377a585a0000', 'hex'), 'UNSUPPORTED', /compressed by xz/],
      ['cpio', await makeTar([{ name: 'x', content: 'x' }]), 'MALFORMED', /no manifest\.json/],
      ['layout', await makeTar([{ name: 'oci-layout', content: '{}' }]), 'MALFORMED', /oci-layout:PATH/],
    ];
    const cache = await newCache();
    for (const [name, bytes, code, why] of cases) {
      writeFileSync(join(dir, name), bytes);
      await refusal(openText(`docker-archive:${join(dir, name)}`, { cache }), `ERR_OCI_${code}`, 2, why);
    }
    mkdirSync(join(dir, 'directory'));
    await refusal(openText(`docker-archive:${dir}/directory`), 'ERR_FILE_KIND', 2, /not a regular file/);
    await refusal(openText(`docker-archive:${dir}/none`), 'ERR_FILE_NOT_FOUND', 2, /none/);
    spawnSync('mkfifo', [join(dir, 'fifo')]);
    await refusal(openText(`docker-archive:${dir}/fifo`), 'ERR_FILE_KIND', 2, /not a regular file/);
    expect(readdirSync(join(cache.dir, 'tmp'))).toEqual([]);
  });

  test('a size that is not there, in every form that a header can give it', async () => {
    const entries = await legacy([await layerTar()]);
    const forms: Entry[] = [
      { name: 'big', size: 1 },
      { name: 'big', pax: { size: '999999999999' } },
      { name: 'big', pax: { size: '-1' } },
    ];
    for (const [i, entry] of forms.entries()) {
      const tar = await makeTar([...entries, { ...entry, content: 'x' }]);
      if (i === 0) {
        // GNU's binary form, far beyond 2^53; the checksum is made right again.
        const at = tar.indexOf('big\0');
        tar.fill(0xff, at + 124, at + 136);
        let sum = 8 * 32;
        for (let k = 0; k < 512; k++) if (k < 148 || k >= 156) sum += tar[at + k] ?? 0;
        tar.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148);
      }
      const path = join(temporaryDirectory(), 'x.tar');
      writeFileSync(path, tar);
      await refusal(openText(`docker-archive:${path}`), 'ERR_OCI_MALFORMED', 2, /larger than it|size that is none/);
    }
  });

  test('wrong architecture, in the configuration', async () => {
    const path = await saved(await legacy([await layerTar()], { config: { architecture: 'arm64' } }));
    await refusal(
      openText(`docker-archive:${path}`),
      'ERR_OCI_PLATFORM',
      2,
      /expected an image for linux\/amd64, found linux\/arm64/,
    );
  });

  test.each([
    ['a NUL in an argument', { config: { Cmd: ['a\0b'] } }, /NUL/],
    ['a command of numbers', { config: { Entrypoint: [1] } }, /config\.Entrypoint/],
    [
      'a layer by another name than a digest',
      { rootfs: { type: 'layers', diff_ids: ['sha256:../../x'] } },
      /not a digest/,
    ],
    ['no layers at all', { rootfs: undefined }, /rootfs/],
  ])('a configuration with %s', async (_, config, why) => {
    const path = await saved(await legacy([await layerTar()], { config }));
    await refusal(openText(`docker-archive:${path}`), 'ERR_OCI_MALFORMED', 2, why);
  });
});

test('long names, as GNU tar and pax write them, are found', async () => {
  const dir = temporaryDirectory();
  const tar = await layerTar();
  const long = `${'d'.repeat(90)}/${'e'.repeat(90)}/${'f'.repeat(90)}`;
  const config = Buffer.from(JSON.stringify(configOf([tar])));
  mkdirSync(join(dir, 'in', long), { recursive: true });
  writeFileSync(join(dir, 'in', long, 'layer.tar'), tar);
  writeFileSync(join(dir, 'in/c.json'), config);
  writeFileSync(join(dir, 'in/manifest.json'), JSON.stringify([{ Config: 'c.json', Layers: [`${long}/layer.tar`] }]));
  for (const format of ['gnu', 'pax', 'oldgnu']) {
    const path = join(dir, `${format}.tar`);
    expect(spawnSync('tar', ['-C', join(dir, 'in'), `--format=${format}`, '-cf', path, '.']).status).toBe(0);
    const image = await openText(`docker-archive:${path}`);
    const [layer] = image.layers;
    expect(layer && (await bytesOf(await layer.open()))).toEqual(readFileSync(join(dir, 'in', long, 'layer.tar')));
    await image.close();
  }
});
