import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { DebEntry } from '../../../src/image/lock-file.ts';
import { type NitroImage, parseMeasurements } from '../../../src/manifest/measurements.ts';
import { parseStatement } from '../../../src/manifest/statement.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { asOrdinaryUser, isRoot } from '../../ordinary-user.ts';
import { debEntry, sha256, type TinyProject, tinyProject } from './fixtures.ts';

const OUTPUTS = ['bom.cdx.json', 'build.intoto.json', 'digits.eif', 'measurements.json'];
const run = ({ dir: project, cacheDir, programPath }: TinyProject, more = {}) =>
  build({ project, cacheDir, programPath, ...more });
const dist = (project: TinyProject, name = '') => join(project.dir, 'dist', name);
const partial = (dir: string) => readdirSync(dir).filter((name) => name.endsWith('.partial'));
const read = (dir: string) =>
  Object.fromEntries(
    readdirSync(dir)
      .filter((name) => !name.endsWith('.partial'))
      .map((name) => [name, readFileSync(join(dir, name))]),
  );

function child(project: TinyProject, out: string, ...more: string[]) {
  const { dir, cacheDir, programPath } = project;
  return [join(import.meta.dirname, 'build-child.ts'), dir, out, cacheDir, programPath, ...more];
}

/** A file in the cache, by its content. */
const cached = ({ cacheDir }: TinyProject, content: string) => join(cacheDir, 'files', sha256(content));
const archive = ({ cacheDir, lock }: TinyProject, index: number) =>
  join(cacheDir, 'archives', `sha256-${lock.deb[index]?.sha256}`);

describe('a build', () => {
  test('writes image, measurements and manifest, which agree', async () => {
    const project = await tinyProject();
    const result = await run(project);
    expect(readdirSync(dist(project)).sort()).toEqual(OUTPUTS);
    const eif = readFileSync(dist(project, 'digits.eif'));
    const [image] = result.images;
    expect(image).toMatchObject({ target: 'nitro', path: dist(project, 'digits.eif'), sha256: sha256(eif) });

    const measurementsBytes = readFileSync(dist(project, 'measurements.json'));
    const measured = parseMeasurements(measurementsBytes).images.find(({ target }) => target === 'nitro') as NitroImage;
    expect(measured).toMatchObject({ file: 'digits.eif', size: eif.length, measurement: image?.measurement });
    expect(measured?.parts.map(({ name }) => name)).toEqual(['kernel', 'cmdline', 'ramdisk0', 'ramdisk1']);
    const init = measured?.parts[2]?.files ?? [];
    expect(init.map(({ path }) => path)).toEqual(['dev', 'init', 'modules', 'modules/nsm.ko']);
    const root = measured?.parts[3]?.files ?? [];
    expect(root.every(({ path }) => path === 'rootfs' || path.startsWith('rootfs/'))).toBe(true);
    expect(root.at(-1)?.path).toBe('rootfs/~complete');
    expect(root.find(({ path }) => path === 'rootfs/bin/tool')).toMatchObject({ mode: '0755', size: 6 });

    const statement = parseStatement(readFileSync(result.manifest));
    expect(statement.subject[0]?.digest.sha256).toBe(sha256(eif));
    const { buildDefinition, runDetails } = statement.predicate;
    expect(runDetails.byproducts[0]?.digest?.sha256).toBe(sha256(measurementsBytes));
    expect(buildDefinition.resolvedDependencies.map(({ uri }) => uri)).toContain(
      'pkg:deb/debian/libc6@1.0-1?arch=amd64',
    );
    expect(buildDefinition.internalParameters.SOURCE_DATE_EPOCH).toBe(1_700_000_000);
    expect(readFileSync(result.manifest, 'utf8')).not.toContain(dirname(project.dir));
  });

  test('is the same under another umask, time zone, locale and directory', async () => {
    const project = await tinyProject();
    await run(project);
    const elsewhere = { ...project, dir: join(dirname(project.dir), 'else where'), cacheDir: `${project.cacheDir}-2` };
    cpSync(project.dir, elsewhere.dir, { recursive: true, filter: (path) => !path.endsWith('dist') });
    const command = `umask 077; exec "$0" "$@"`;
    const env = { ...process.env, TZ: 'Pacific/Chatham', LC_ALL: 'tr_TR.UTF-8', HOME: elsewhere.cacheDir };
    const args = ['-c', command, process.execPath, ...child(elsewhere, join(elsewhere.dir, 'dist'))];
    // Not spawnSync: the mirror lives in this process.
    await new Promise((done) => spawn('sh', args, { env, stdio: 'inherit' }).on('exit', done));
    expect(read(join(elsewhere.dir, 'dist'))).toEqual(read(dist(project)));
  });

  test('needs no network once its inputs are cached', async () => {
    const project = await tinyProject();
    await run(project);
    const before = project.mirror.hits.length;
    project.files.clear();
    await run(project, { offline: true });
    expect(project.mirror.hits).toHaveLength(before);
  });

  test('two at once share a cache', async () => {
    const project = await tinyProject();
    const outs = ['one', 'two'].map((name) => join(dirname(project.dir), name));
    const codes = await Promise.all(
      outs.map(
        (out) =>
          new Promise((done) => spawn(process.execPath, child(project, out), { stdio: 'inherit' }).on('exit', done)),
      ),
    );
    expect(codes).toEqual([0, 0]);
    expect(read(outs[0] ?? '')).toEqual(read(outs[1] ?? ''));
    expect(readdirSync(join(project.cacheDir, 'tmp'))).toEqual([]);
  });

  test('leaves other files in the output directory alone', async () => {
    const project = await tinyProject();
    mkdirSync(dist(project));
    writeFileSync(dist(project, 'digits.sealed'), 'precious');
    await run(project);
    expect(readdirSync(dist(project)).sort()).toEqual([...OUTPUTS, 'digits.sealed'].sort());
  });
});

describe('what others have put in the way', () => {
  test('a directory in the place of an output: none of the outputs is replaced', async () => {
    const project = await tinyProject();
    mkdirSync(dist(project, 'measurements.json'), { recursive: true });
    writeFileSync(dist(project, 'digits.eif'), 'old');
    await expect(run(project)).rejects.toMatchObject({ code: 'ERR_OUTPUT_KIND', exitCode: 2 });
    expect(readFileSync(dist(project, 'digits.eif'), 'utf8')).toBe('old');
    expect(readdirSync(dist(project)).sort()).toEqual(['digits.eif', 'measurements.json']);
  });

  test('links in the output directory are replaced, not written through', async () => {
    const project = await tinyProject();
    const victim = join(project.dir, 'victim');
    writeFileSync(victim, 'precious');
    mkdirSync(dist(project));
    for (const name of OUTPUTS) symlinkSync(victim, dist(project, name));
    await run(project);
    expect(readFileSync(victim, 'utf8')).toBe('precious');
  });

  test.runIf(isRoot)("a dead build's directory that is another user's", async () => {
    const project = await tinyProject();
    const planted = join(project.dir, '.dist.999999999-000000000000.partial');
    mkdirSync(join(planted, 'inside'), { recursive: true });
    chmodSync(dirname(project.dir), 0o777);
    chmodSync(project.dir, 0o1777);
    const [file = '', ...args] = asOrdinaryUser([process.execPath, ...child(project, dist(project))]);
    const built = spawn(file, args, { stdio: 'inherit' });
    expect(await new Promise((done) => built.on('exit', done))).toBe(0);
    expect(readdirSync(dist(project)).sort()).toEqual(OUTPUTS);
  });

  test('an old directory among the temporary files of the cache', async () => {
    const project = await tinyProject();
    const stale = join(project.cacheDir, 'tmp', 'stale');
    mkdirSync(join(stale, 'inside'), { recursive: true });
    utimesSync(stale, 0, 0);
    await run(project);
    expect(readdirSync(dist(project)).sort()).toEqual(OUTPUTS);
  });
});

describe('is refused, and leaves nothing, with', () => {
  const refused = async (project: TinyProject, expected: object, more = {}) => {
    await expect(run(project, more)).rejects.toMatchObject(expected);
    expect(existsSync(dist(project))).toBe(false);
    expect(readdirSync(project.dir).filter((name) => name.endsWith('.partial'))).toEqual([]);
  };

  test('a missing model', async () => {
    const project = await tinyProject();
    rmSync(join(project.dir, 'model'), { recursive: true });
    await refused(project, { code: 'ERR_MODEL_NOT_FOUND', exitCode: 2 });
  });

  test('a model that is not ONNX', async () => {
    const project = await tinyProject();
    for (const name of readdirSync(join(project.dir, 'model'))) {
      if (name.endsWith('.onnx')) writeFileSync(join(project.dir, 'model', name), 'PK\x03\x04 this is a zip');
    }
    await refused(project, { code: 'ERR_MODEL_NOT_ONNX', exitCode: 2 });
  });

  test('no lock', async () => {
    const project = await tinyProject();
    rmSync(join(project.dir, 'atoma-tee.lock'));
    await refused(project, { code: 'ERR_LOCK_MISSING', exitCode: 2, hint: expect.stringContaining('atoma-tee lock') });
  });

  test('another toolkit than the locked one', async () => {
    const project = await tinyProject();
    writeFileSync(project.programPath, 'console.log("another");\n');
    await refused(project, { code: 'ERR_LOCK_TOOLKIT', exitCode: 3, hint: expect.stringContaining('lock --toolkit') });
  });

  test('no enclave program', async () => {
    const project = await tinyProject();
    rmSync(project.programPath);
    await refused(project, { code: 'ERR_TOOLKIT_PROGRAM', exitCode: 5 });
  });

  test('a package whose digest is not the one in the lock', async () => {
    const project = await tinyProject();
    for (const [path, bytes] of project.files) {
      const flipped = Buffer.from(bytes);
      flipped[bytes.length >> 1] = (flipped[bytes.length >> 1] ?? 0) ^ 1;
      project.files.set(path, flipped);
    }
    await refused(project, { code: 'ERR_INPUT_DIGEST', exitCode: 3 });
    expect(readdirSync(join(project.cacheDir, 'archives'))).toEqual([]);
    expect(readdirSync(join(project.cacheDir, 'tmp'))).toEqual([]);
  });

  test('a package longer than the lock says: the rest is not read', async () => {
    const project = await tinyProject();
    for (const [path, bytes] of project.files) project.files.set(path, Buffer.concat([bytes, Buffer.alloc(1 << 20)]));
    await refused(project, { code: 'ERR_INPUT_DIGEST', exitCode: 3 });
  });

  test('rules in the lock that were edited to keep other files', async () => {
    const project = await tinyProject();
    const rule = project.lock.deb[1]?.keep[1];
    if (rule) rule.to = 'bin/other';
    project.writeLock();
    await refused(project, { code: 'ERR_INPUT_TREE', exitCode: 3 });
  });

  test('a pinned package that is gone: both mends are named', async () => {
    const project = await tinyProject();
    project.files.clear();
    await refused(project, {
      code: 'ERR_INPUT_GONE',
      exitCode: 5,
      message: expect.stringMatching(/(libc6|linux-image-6\.1\.0-tiny)@1\.0-1/),
      hint: expect.stringMatching(/ATOMA_TEE_DEBIAN_MIRROR.*lock --update/),
    });
  });

  test('a mirror that cannot be reached', async () => {
    const project = await tinyProject();
    process.env.ATOMA_TEE_DEBIAN_MIRROR = 'http://127.0.0.1:1';
    await refused(project, { code: 'ERR_INPUT_FETCH', exitCode: 5 });
  });

  test('--offline and an empty cache', async () => {
    const project = await tinyProject();
    await refused(project, { code: 'ERR_OFFLINE_MISSING', exitCode: 5 }, { offline: true });
    expect(project.mirror.hits).toEqual([]);
  });

  test('a file where the output directory should be', async () => {
    const project = await tinyProject();
    const out = join(project.dir, 'enclave.toml');
    await refused(project, { code: 'ERR_OUTPUT_KIND', exitCode: 2 }, { out });
  });

  test('what this version cannot build: a command for Gramine', async () => {
    const project = await tinyProject();
    const toml = join(project.dir, 'enclave.toml');
    writeFileSync(toml, readFileSync(toml, 'utf8').replace('kind = "onnx"', 'kind = "command"\ncommand = ["/x"]'));
    const expected = { code: 'ERR_CONFIG_UNSUPPORTED', exitCode: 2, hint: expect.stringContaining('gramine sign') };
    await refused(project, expected, { targets: ['gramine'] });
  });

  test('a target that the lock was not made for', async () => {
    const project = await tinyProject();
    const toml = join(project.dir, 'enclave.toml');
    writeFileSync(toml, readFileSync(toml, 'utf8').replace('targets = ["nitro"]', 'targets = ["nitro", "gramine"]'));
    await refused(project, { code: 'ERR_LOCK_STALE', exitCode: 2 });
  });
});

describe('a cache that another project has filled', () => {
  const built = async () => {
    const project = await tinyProject();
    await run(project);
    rmSync(dist(project), { recursive: true });
    return { project, entries: project.lock.deb };
  };

  test("the files of another package do not pass under this package's digest", async () => {
    const { project, entries } = await built();
    const evil = await debEntry('evil', [{ from: 'x', content: 'evil', rule: { to: 'lib/libc.so.6', part: 'root' } }]);
    project.files.set(`/${evil.entry.path}`, evil.bytes);
    project.lock.deb = [...entries.slice(0, 1), evil.entry];
    project.writeLock();
    await run(project);
    project.lock.deb = entries.with(1, { ...(entries[1] as DebEntry), tree: evil.entry.tree });
    project.writeLock();
    await expect(run(project)).rejects.toMatchObject({ code: 'ERR_INPUT_TREE', exitCode: 3 });
  });

  test('nor those that other rules took out of it', async () => {
    const { project, entries } = await built();
    const rule = entries[1]?.keep[1];
    if (rule) rule.to = 'bin/other';
    project.writeLock();
    await expect(run(project)).rejects.toMatchObject({ code: 'ERR_INPUT_TREE', exitCode: 3 });
  });
});

describe('a damaged cache', () => {
  const content = 'a library'.repeat(1000);

  test('a changed file is noticed and taken out of the package again', async () => {
    const project = await tinyProject();
    await run(project);
    const good = read(dist(project));
    writeFileSync(cached(project, content), content.replace('library', 'LIBRARY'));
    await run(project, { offline: true });
    expect(read(dist(project))).toEqual(good);
    expect(readFileSync(cached(project, content), 'utf8')).toBe(content);
  });

  test('a changed file and a changed package: the package is fetched again', async () => {
    const project = await tinyProject();
    await run(project);
    const good = read(dist(project));
    writeFileSync(cached(project, content), 'short');
    writeFileSync(archive(project, 1), 'not the package');
    await expect(run(project, { offline: true })).rejects.toMatchObject({ code: 'ERR_OFFLINE_MISSING' });
    await run(project);
    expect(read(dist(project))).toEqual(good);
  });

  test.each(['FIFO', 'directory'])(
    'a %s in the place of a file, a list or a package is not waited for',
    async (kind) => {
      const project = await tinyProject();
      await run(project);
      const good = read(dist(project));
      const lists = readdirSync(join(project.cacheDir, 'trees')).map((name) => join(project.cacheDir, 'trees', name));
      for (const path of [cached(project, content), archive(project, 1), ...lists]) {
        rmSync(path);
        if (kind === 'directory') mkdirSync(path);
        else expect(spawnSync('mkfifo', [path]).status).toBe(0);
      }
      await run(project);
      expect(read(dist(project))).toEqual(good);
    },
  );

  test('a forged list of files with a matching forged file is not believed', async () => {
    const project = await tinyProject();
    await run(project);
    const good = read(dist(project));
    const evil = 'evil'.padEnd(content.length);
    const trees = readdirSync(join(project.cacheDir, 'trees')).map((name) => join(project.cacheDir, 'trees', name));
    const list = trees.find((path) => sha256(readFileSync(path)) === project.lock.deb[1]?.tree) ?? '';
    writeFileSync(list, readFileSync(list, 'utf8').replace(sha256(content), sha256(evil)));
    writeFileSync(cached(project, evil), evil);
    await run(project, { offline: true });
    expect(read(dist(project))).toEqual(good);
  });
});

describe('an interrupted build', () => {
  test('killed while it writes, it leaves the old outputs; the next build clears up', async () => {
    const project = await tinyProject();
    await run(project);
    const before = read(dist(project));
    writeFileSync(
      join(project.dir, 'enclave.toml'),
      readFileSync(join(project.dir, 'enclave.toml'), 'utf8').replace('version = "1.0.0"', 'version = "1.0.1"'),
    );
    const result = spawnSync(process.execPath, child(project, dist(project), 'writing'));
    expect(result.signal).toBe('SIGKILL');
    expect(read(dist(project))).toEqual(before);
    const leftovers = () => [...partial(project.dir), ...partial(dist(project))];
    expect(leftovers()).toHaveLength(1);
    await run(project);
    expect(leftovers()).toEqual([]);
    expect(read(dist(project))).not.toEqual(before);
  });

  test('a lock that is exchanged while it is used: the manifest names the one that was', async () => {
    const project = await tinyProject();
    const path = join(project.dir, 'atoma-tee.lock');
    const used = sha256(readFileSync(path));
    const { manifest } = await run(project, {
      onProgress: ({ phase }: { phase: string }) => {
        if (phase === 'writing') writeFileSync(path, 'version = 2\n');
      },
    });
    const { resolvedDependencies } = parseStatement(readFileSync(manifest)).predicate.buildDefinition;
    expect(sha256(readFileSync(path))).not.toBe(used);
    expect(resolvedDependencies.find(({ name }) => name === 'atoma-tee.lock')?.digest).toEqual({ sha256: used });
  });

  const namespaces = spawnSync('unshare', ['--user', '--map-root-user', '--mount', 'true']).status === 0;
  test.skipIf(!namespaces)('on a full disk it says so and leaves the old outputs (needs namespaces)', async () => {
    const project = await tinyProject();
    await run(project);
    const small = join(dirname(project.dir), 'small');
    mkdirSync(small);
    const script = `set -e; mount -t tmpfs -o size=16k tmpfs "$0"; mkdir "$0/dist"; echo old >"$0/dist/digits.eif"
      "$@" || true; cat "$0/dist/digits.eif"; ls -A "$0" "$0/dist"`;
    const args = ['--user', '--map-root-user', '--mount', 'sh', '-c', script, small, process.execPath];
    const result = spawnSync('unshare', [...args, ...child(project, join(small, 'dist'))], { encoding: 'utf8' });
    expect(result.stdout).toBe(`ERR_DISK_FULL\nold\n${small}:\ndist\n\n${small}/dist:\ndigits.eif\n`);
  });

  test.skipIf(!namespaces)(
    'the output directory can be a mount point, as a volume of a container (needs namespaces)',
    async () => {
      const project = await tinyProject();
      // The mirror is in this process, which waits.
      await run(project, { out: join(project.dir, 'first') });
      mkdirSync(dist(project));
      const script = `set -e; mount -t tmpfs tmpfs "$0"; "$@"; ls -A "$0"`;
      const args = ['--user', '--map-root-user', '--mount', 'sh', '-c', script, dist(project), process.execPath];
      const result = spawnSync('unshare', [...args, ...child(project, dist(project))], { encoding: 'utf8' });
      expect(result.stdout.trim().split('\n').slice(-OUTPUTS.length)).toEqual(OUTPUTS);
    },
  );
});
