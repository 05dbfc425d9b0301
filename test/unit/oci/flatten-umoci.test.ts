import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { flattenImage } from '../../../src/oci/flatten.ts';
import type { FlatImage } from '../../../src/oci/flatten-types.ts';
import { type OpenableReference, openImage } from '../../../src/oci/source.ts';
import { isRoot } from '../../ordinary-user.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import { Blobs, named } from './images.ts';
import { newCache, type TarEntry, tar } from './layer-bytes.ts';

const hasUmoci = spawnSync('umoci', ['--version']).status === 0;
const rootless = isRoot ? [] : ['--rootless'];
const umoci = (...args: string[]): void => void execFileSync('umoci', args, { stdio: 'pipe' });

/** What both sides can be asked: type, mode, owner, content or target, and which names are one file. */
type Listing = Record<string, string>;

function ofFlat({ entries }: FlatImage): Listing {
  const files = new Map(entries.map((entry) => [entry.path, entry]));
  return Object.fromEntries(
    entries.map(({ path, type, mode, uid, gid, target, sha256 }) => {
      const first = type === 'link' ? (target ?? '') : path;
      const owner = isRoot ? ` ${uid}:${gid}` : '';
      if (type === 'symlink') return [path, `symlink${owner} ${target}`];
      if (type === 'dir') return [path, `dir ${mode.toString(8)}${owner}`];
      return [path, `file ${mode.toString(8)}${owner} ${sha256 ?? files.get(first)?.sha256} ${first}`];
    }),
  );
}

function ofDisk(root: string): Listing {
  const listing: Listing = {};
  const first = new Map<number, string>();
  for (const path of walk(root, '').sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
    const at = join(root, path);
    const stat = lstatSync(at);
    const owner = isRoot ? ` ${stat.uid}:${stat.gid}` : '';
    if (stat.isSymbolicLink()) listing[path] = `symlink${owner} ${readlinkSync(at)}`;
    else if (stat.isDirectory()) listing[path] = `dir ${(stat.mode & 0o3777).toString(8)}${owner}`;
    else {
      const name = first.get(stat.ino) ?? path;
      first.set(stat.ino, name);
      const digest = createHash('sha256').update(readFileSync(at)).digest('hex');
      listing[path] = `file ${(stat.mode & 0o777).toString(8)}${owner} ${digest} ${name}`;
    }
  }
  return listing;
}

/** readdir's own recursion goes through symlinks to directories. */
const walk = (root: string, at: string): string[] =>
  readdirSync(join(root, at), { withFileTypes: true }).flatMap((item) => {
    const path = join(at, item.name);
    return item.isDirectory() ? [path, ...walk(root, path)] : [path];
  });

async function flattenLayout(layout: string): Promise<FlatImage> {
  const cache = await newCache();
  const reference: OpenableReference = { kind: 'oci-layout', path: layout, tag: 'latest' };
  const image = await openImage(reference, { platform: 'linux/amd64', cache, offline: true });
  try {
    return await flattenImage(image, cache);
  } finally {
    await image.close();
  }
}

function newLayout(dir: string): string {
  const layout = join(dir, 'layout');
  umoci('init', '--layout', layout);
  umoci('new', '--image', `${layout}:latest`);
  return layout;
}

/** Adds tars as layers, flattens, and compares with what umoci unpacks. */
async function compare(layers: TarEntry[][]): Promise<{ ours: Listing | string; theirs: Listing | string }> {
  const dir = temporaryDirectory();
  const blobs = new Blobs();
  const image = blobs.image(layers.map((entries) => tar(...entries)));
  const layout = blobs.write(join(dir, 'layout'), blobs.index([named(image, 'latest')]));
  const unpacked = spawnSync('umoci', [
    'raw',
    'unpack',
    ...rootless,
    '--image',
    `${layout}:latest`,
    join(dir, 'rootfs'),
  ]);
  const ours = await flattenLayout(layout).then(ofFlat, (error) => String(error.code));
  const theirs = unpacked.status === 0 ? ofDisk(join(dir, 'rootfs')) : 'refused';
  return { ours, theirs };
}

describe.runIf(hasUmoci)('beside umoci', () => {
  test('an image that umoci made, layer by layer, is the tree that umoci unpacks', async () => {
    const dir = temporaryDirectory();
    const layout = newLayout(dir);
    const image = `${layout}:latest`;
    const steps: ((root: string) => void)[] = [
      (root) => {
        for (const path of ['usr/lib/deep', 'etc', 'var/tmp', 'opt/app'])
          mkdirSync(join(root, path), { recursive: true });
        chmodSync(join(root, 'var/tmp'), 0o1777);
        for (let i = 0; i < 30; i++) writeFileSync(join(root, 'usr/lib/deep', `f${i}`), `content ${i}`.repeat(i * 100));
        writeFileSync(join(root, 'usr/lib/tool'), 'tool');
        chmodSync(join(root, 'usr/lib/tool'), 0o4755);
        linkSync(join(root, 'usr/lib/tool'), join(root, 'opt/app/tool'));
        symlinkSync('usr/lib', join(root, 'lib'));
        symlinkSync('/etc/../../../outside', join(root, 'etc/out'));
        writeFileSync(join(root, 'etc/ünï côdé'), 'x');
        writeFileSync(join(root, 'etc', `long-${'n'.repeat(200)}`), 'x');
        if (isRoot) lchownSync(join(root, 'opt/app'), 1000, 70_000);
      },
      (root) => {
        rmSync(join(root, 'usr/lib/deep'), { recursive: true });
        writeFileSync(join(root, 'usr/lib/deep'), 'now a file');
        rmSync(join(root, 'lib'));
        mkdirSync(join(root, 'lib'));
        writeFileSync(join(root, 'lib/own'), 'x');
        rmSync(join(root, 'usr/lib/tool'));
        chmodSync(join(root, 'etc'), 0o750);
      },
      (root) => {
        renameSync(join(root, 'opt'), join(root, 'srv'));
        rmSync(join(root, 'usr/lib/deep'));
        mkdirSync(join(root, 'usr/lib/deep'));
        writeFileSync(join(root, 'usr/lib/deep/again'), 'x');
      },
    ];
    for (const [i, step] of steps.entries()) {
      const bundle = join(dir, `bundle${i}`);
      umoci('unpack', ...rootless, '--image', image, bundle);
      step(join(bundle, 'rootfs'));
      umoci('repack', '--image', image, bundle);
    }
    umoci('unpack', ...rootless, '--image', image, join(dir, 'last'));
    const theirs = ofDisk(join(dir, 'last/rootfs'));
    expect(Object.keys(theirs).length).toBeGreaterThan(10);
    expect(ofFlat(await flattenLayout(layout))).toEqual(theirs);
  });

  test('layers of random entries are the trees that umoci unpacks', async () => {
    const outcomes = { equal: 0, refused: 0 };
    for (let seed = 1; seed <= Number(process.env.SEEDS ?? 30); seed++) {
      const layers = randomLayers(seed);
      const { ours, theirs } = await compare(layers);
      if (typeof theirs === 'string' || typeof ours === 'string') {
        expect(
          [typeof ours, typeof theirs],
          `seed ${seed}: ${JSON.stringify(ours)} ${JSON.stringify(theirs)} ${JSON.stringify(layers)}`,
        ).toEqual(['string', 'string']);
        outcomes.refused++;
        continue;
      }
      expect(ours, `seed ${seed}: ${JSON.stringify(layers)}`).toEqual(theirs);
      outcomes.equal++;
    }
    expect(outcomes.equal).toBeGreaterThan(20);
  });
});

const isWhiteout = ({ name }: TarEntry): boolean => String(name).includes('.wh.');

/**
 * Small layers over the same few names, so that they meet. A layer says what directories its entries are in, or it has its whiteouts
 * first: a directory that a layer has files in, does not speak of and then removes is umoci's as it was below, and a new one for us.
 */
function randomLayers(seed: number): TarEntry[][] {
  let state = seed;
  const explicit = seed % 2 === 0;
  // The minimal standard generator (Park and Miller).
  const random = (n: number): number => {
    state = (state * 48_271) % 2_147_483_647;
    return state % n;
  };
  const name = (): string => ['a', 'b', 'c', 'd'][random(4)] ?? 'a';
  /** Names that are files now, or may be. */
  const files = new Set<string>();
  return Array.from({ length: 4 }, (_, layer) => {
    const entries: TarEntry[] = [];
    /** Whether something can lie below it. */
    const known = new Map<string, boolean>();
    for (let i = 0; i < 8; i++) {
      const parts = Array.from({ length: 1 + random(3) }, name);
      const path = parts.join('/');
      if (known.has(path)) continue;
      const kind = random(10);
      const parents = parts.slice(1).map((_, depth) => parts.slice(0, depth + 1).join('/'));
      if (parents.some((parent) => known.get(parent) === false)) continue;
      for (const parent of parents) {
        if (known.has(parent)) continue;
        known.set(parent, true);
        // Not always: then it is a lower layer's directory, or link to one.
        if (layer === 0 || explicit || files.has(parent) || random(2) === 0)
          entries.push({ name: `${parent}/`, mode: 0o755 });
        files.delete(parent);
      }
      if (kind < 4 || kind === 9) files.add(path);
      known.set(path, kind === 4 || kind === 5 || kind === 6 || kind === 8);
      const owner = { uid: random(3), gid: random(3) };
      const parent = parts
        .slice(0, -1)
        .map((part) => `${part}/`)
        .join('');
      if (kind < 4) entries.push({ name: path, body: `${layer}${i}`, mode: 0o600 + random(64), ...owner });
      else if (kind < 6) entries.push({ name: `${path}/`, mode: 0o700 + random(64), ...owner });
      else if (kind === 6)
        entries.push({ name: path, link: [name(), `../${name()}`, `/${name()}/${name()}`][random(3)] ?? '', ...owner });
      else if (kind === 7 && layer > 0) entries.push({ name: `${parent}.wh.${parts.at(-1)}` });
      else if (kind === 8 && layer > 0)
        entries.push({ name: `${path}/`, mode: 0o755 }, { name: `${path}/.wh..wh..opq` });
      else if (kind === 9) {
        const targets = entries.filter(({ body }) => body !== undefined);
        const target = targets[random(Math.max(1, targets.length))];
        if (target !== undefined) entries.push({ ...target, name: path, type: '1', link: target.name, body: '' });
      }
    }
    return explicit ? entries : [...entries.filter(isWhiteout), ...entries.filter((entry) => !isWhiteout(entry))];
  });
}
