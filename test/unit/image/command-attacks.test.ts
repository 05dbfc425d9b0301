import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../../src/image/cache.ts';
import type { Lock } from '../../../src/image/lock-file.ts';
import { storeImage } from '../../../src/oci/flatten-cache.ts';
import { encodeListing, listingDigest } from '../../../src/oci/flatten-listing.ts';
import { NOTHING_LEFT_OUT } from '../../../src/oci/flatten-types.ts';
import { parseConfig } from '../../../src/project/config.ts';
import { commandRoot } from '../../../src/tasks/build/command.ts';
import { pinFile } from '../../../src/tasks/lock/pin-file.ts';
import { temporaryDirectory } from './fixtures.ts';

let root = '';
let dir = '';
let cache: Cache;
beforeEach(async () => {
  root = temporaryDirectory();
  dir = join(root, 'project');
  mkdirSync(join(dir, 'inc'), { recursive: true });
  writeFileSync(join(dir, 'inc/f'), 'a file');
  cache = await Cache.open(join(root, 'cache'));
});

const toml = (runtime: string, base = '') =>
  `name = "p"\nversion = "1"\n[model]\npath = "m"\nowner = "o"\n[runtime]\nkind = "command"\ncommand = ["/a"]\n${runtime}\n${base}`;
/** The root of a command whose base is nothing, or what a lock names. */
function rootOf(runtime: string, oci: Lock['oci'] = []) {
  const config = parseConfig(toml(runtime), 'enclave.toml');
  const project = { dir, config } as Parameters<typeof commandRoot>[0];
  const lock = { oci } as unknown as Lock;
  return commandRoot(project, lock, [], cache, { dir, offline: true, onProgress: undefined });
}

describe('enclave.toml of a command', () => {
  test.each(['//', '///', '/.', '/..', '/a/../b', '/a//b', '/./a'])(
    'the model at %s, another name for the root or for somewhere else',
    (model) => {
      expect(() => parseConfig(toml(`model = "${model}"`), 'enclave.toml')).toThrow(
        expect.objectContaining({ code: 'ERR_CONFIG_VALUE', exitCode: 2 }),
      );
    },
  );

  test.each(['/dev', '/proc/', '/sys/x', '/dev/model'])('the model at %s, which the enclave mounts over', (model) => {
    expect(() => parseConfig(toml(`model = "${model}"`), 'enclave.toml')).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_VALUE', exitCode: 2 }),
    );
  });

  test.each(['/model', '/model/', '/run/model', '/device'])('the model at %s is fine', (model) => {
    expect(parseConfig(toml(`model = "${model}"`), 'enclave.toml').runtime.model).toBe(model);
  });

  test.each([
    ['/proc/x', ''],
    ['/dev/null', ''],
    ['/model/f', ''],
    ['/weights/deep/f', 'model = "/weights"'],
  ])('a file included at %s, where nobody would see it', async (to, more) => {
    await expect(rootOf(`include = [{ from = "inc/f", to = "${to}" }]\n${more}`)).rejects.toMatchObject({
      code: 'ERR_IMAGE_MOUNT_POINT',
      exitCode: 2,
    });
  });

  test('what is included beside a mount point is there', async () => {
    const { entries } = await rootOf('include = [{ from = "inc", to = "/model-cards" }]');
    expect(entries.map(({ path }) => path)).toContain('rootfs/image/model-cards/f');
  });

  test('an include that leaves the project through a link', async () => {
    mkdirSync(join(root, 'secret'));
    writeFileSync(join(root, 'secret/key'), 'a key');
    symlinkSync(join(root, 'secret'), join(dir, 'assets'));
    await expect(rootOf('include = [{ from = "assets/key", to = "/k" }]')).rejects.toMatchObject({
      code: 'ERR_CONFIG_VALUE',
      exitCode: 2,
    });
  });

  test('an include that is a link or a pipe says so, and not that it changed', async () => {
    symlinkSync('inc/f', join(dir, 'link'));
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    for (const from of ['link', 'pipe'])
      await expect(rootOf(`include = [{ from = "${from}", to = "/k" }]`)).rejects.toMatchObject({
        code: 'ERR_FILE_KIND',
        exitCode: 2,
      });
  });
});

test('a container image whose WorkingDir is relative is refused, unless enclave.toml has another', async () => {
  const config = {
    ...{ entrypoint: ['/a'], cmd: null, env: [], workingDir: 'app', user: '' },
    ...{ architecture: 'amd64', os: 'linux', raw: null },
  };
  const flat = { entries: [], diffIds: [], leftOut: NOTHING_LEFT_OUT, notes: [] };
  const digest = `sha256:${'1'.repeat(64)}`;
  const tree = await storeImage(digest, flat, config, cache);
  expect(tree).toBe(listingDigest(encodeListing(flat, config)));
  const pin = { reference: 'oci-layout:none', platform: 'linux/amd64' as const, digest, tree };
  await expect(rootOf('', [pin])).rejects.toMatchObject({ code: 'ERR_IMAGE_WORKDIR', exitCode: 2 });
  expect((await rootOf('workdir = "/app"', [pin])).runtime.cwd).toBe('/app');
});

test('an empty kernel file is refused by lock: no lock could be read that names it', async () => {
  writeFileSync(join(dir, 'empty'), '');
  await expect(pinFile(join(dir, 'empty'))).rejects.toMatchObject({ code: 'ERR_FILE_KIND', exitCode: 2 });
});
