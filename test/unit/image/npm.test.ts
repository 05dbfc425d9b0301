import { appendFileSync, existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { NpmEntry } from '../../../src/image/lock-file.ts';
import { npmNewest } from '../../../src/image/npm.ts';
import { parseCredentials } from '../../../src/image/npm-config.ts';
import { treeDigest } from '../../../src/image/tree.ts';
import { type NitroImage, parseMeasurements } from '../../../src/manifest/measurements.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { integrity, makeNpm, serve, sha256, temporaryDirectory, tinyProject } from './fixtures.ts';

const REGISTRY_TOKEN = 'npm_not_a_secret';

/** A registry with one package, and a project whose lock has it and whose .npmrc names the registry. */
async function registryProject() {
  const tarball = await makeNpm([{ name: 'package/index.js', mode: 0o644, content: 'module.exports = 1;' }]);
  const entry: NpmEntry = {
    name: 'thing',
    version: '1.2.3',
    allow: '^1.0.0',
    integrity: integrity(tarball),
    keep: [{ from: 'index.js', to: 'app/thing/', part: 'root' }],
    tree: treeDigest([
      { part: 'root', path: 'app/thing/index.js', mode: '0644', size: 19, sha256: sha256('module.exports = 1;') },
    ]),
  };
  const files = new Map<string, Buffer>([['/thing/-/thing-1.2.3.tgz', tarball]]);
  const registry = await serve(files);
  const publish = (...versions: string[]) => {
    const manifest = (version: string) => ({
      name: 'thing',
      version,
      dist: { tarball: `${registry.url}/thing/-/thing-${version}.tgz`, integrity: entry.integrity },
    });
    const all = Object.fromEntries(versions.map((version) => [version, manifest(version)]));
    files.set(
      '/thing',
      Buffer.from(JSON.stringify({ name: 'thing', 'dist-tags': { latest: versions[0] }, versions: all })),
    );
  };
  publish('1.2.3');
  const project = await tinyProject([entry]);
  appendFileSync(
    join(project.dir, '.npmrc'),
    `registry=${registry.url}/\n//${new URL(registry.url).host}/:_authToken=${REGISTRY_TOKEN}\n`,
  );
  process.env.npm_config_cache = temporaryDirectory();
  const run = () => build({ project: project.dir, cacheDir: project.cacheDir, programPath: project.programPath });
  return { project, registry, files, publish, entry, run };
}

test('a package comes from the registry that the .npmrc names', async () => {
  const { project, registry, run } = await registryProject();
  await run();
  expect(registry.hits).toContain('/thing/-/thing-1.2.3.tgz');
  const measurements = parseMeasurements(await readFile(join(project.dir, 'dist/measurements.json')));
  const paths = (measurements.images[0] as NitroImage).parts[3]?.files?.map(({ path }) => path);
  expect(paths).toContain('rootfs/app/thing/index.js');
});

test('a version that the registry no longer has is gone', async () => {
  const { publish, run } = await registryProject();
  publish('1.2.4');
  await expect(run()).rejects.toMatchObject({
    code: 'ERR_INPUT_GONE',
    exitCode: 5,
    message: expect.stringContaining('thing@1.2.3'),
  });
});

test('a registry that swaps a tarball, and its own integrity with it, is found out', async () => {
  const { project, files, registry, run } = await registryProject();
  const evil = await makeNpm([{ name: 'package/index.js', content: 'module.exports = evil;' }]);
  files.set('/thing/-/thing-1.2.3.tgz', evil);
  const dist = { tarball: `${registry.url}/thing/-/thing-1.2.3.tgz`, integrity: integrity(evil) };
  const versions = { '1.2.3': { name: 'thing', version: '1.2.3', dist } };
  files.set('/thing', Buffer.from(JSON.stringify({ name: 'thing', 'dist-tags': { latest: '1.2.3' }, versions })));
  await expect(run()).rejects.toMatchObject({ code: 'ERR_INPUT_DIGEST', exitCode: 3 });
  expect(existsSync(join(project.dir, 'dist'))).toBe(false);
});

test('an update takes the newest version that the range allows', async () => {
  const { project, publish, entry } = await registryProject();
  publish('2.0.0', '1.9.0', '1.2.3');
  const found = await npmNewest({ kind: 'npm', ...entry }, { dir: project.dir });
  expect(found).toEqual({ version: '1.9.0', integrity: entry.integrity });
});

test('credentials are read as npm reads them, and nothing else is', () => {
  const text = `registry=https://r.example/
; //c.example/:_authToken=comment
//r.example/:_authToken=\${TOKEN}
//r.example/npm/:_auth = "abc"
//r.example/:username=\${MISSING?}
`;
  expect(parseCredentials(text, { TOKEN: 'secret' })).toEqual({
    '//r.example/:_authToken': 'secret',
    '//r.example/npm/:_auth': 'abc',
    '//r.example/:username': '',
  });
});
