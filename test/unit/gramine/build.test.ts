import { spawn } from 'node:child_process';
import { cpSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseManifest } from '../../../src/gramine/manifest.ts';
import { type GramineImage, parseMeasurements } from '../../../src/manifest/measurements.ts';
import { parseStatement } from '../../../src/manifest/statement.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { loadImages } from '../../../src/tasks/image.ts';
import { sha256, type TinyProject } from '../image/fixtures.ts';
import { fakeGramine, gramineProject, SMALL, setGramine } from './project.ts';

const run = ({ dir: project, cacheDir, programPath }: TinyProject, more = {}) =>
  build({ project, cacheDir, programPath, ...more });
const dist = (project: TinyProject, name = '') => join(project.dir, 'dist', name);
const OUTPUTS = [
  'bom.cdx.json',
  'build.intoto.json',
  'digits.gramine',
  'digits.manifest.sgx',
  'digits.oci',
  'digits.sig',
  'measurements.json',
];

/** Everything below a directory: type, mode, time and content. */
function listing(dir: string): Record<string, string> {
  const entries = readdirSync(dir, { recursive: true, withFileTypes: true });
  const line = (path: string) => {
    const stat = lstatSync(path);
    const time = /\.gramine\/|\.oci\//.test(path) ? `${stat.mtimeMs / 1000}` : '';
    return `${stat.mode.toString(8)} ${time} ${stat.isFile() ? sha256(readFileSync(path)) : ''}`;
  };
  const paths = entries.map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(paths.sort().map((path) => [path.slice(dir.length), line(path)]));
}

test('into the model, where it would be part of the next one: refused, and the model stays as it is', async () => {
  const project = await gramineProject(['gramine']);
  const model = join(project.dir, 'model');
  const before = listing(model);
  for (const out of [model, join(model, 'dist')]) {
    await expect(run(project, { out })).rejects.toMatchObject({ code: 'ERR_OUTPUT_INPUT', exitCode: 2 });
  }
  expect(listing(model)).toEqual(before);
});

describe('a build for Nitro and Gramine', () => {
  test('one manifest with both measurements; the manifest trusts exactly the files of the root', async () => {
    const project = await gramineProject();
    const result = await run(project);
    expect(readdirSync(dist(project)).sort()).toEqual([...OUTPUTS, 'digits.eif'].sort());
    const statement = parseStatement(readFileSync(result.manifest));
    expect(statement.subject.map(({ name }) => name)).toEqual(['digits.eif', 'digits.manifest.sgx', 'digits.sig']);
    for (const { name, digest } of statement.subject)
      expect(digest.sha256).toBe(sha256(readFileSync(dist(project, name))));
    const { buildDefinition } = statement.predicate;
    expect(buildDefinition.internalParameters.gramine).toMatchObject({
      enclaveSize: '16M',
      version: '1.9',
      debug: false,
    });
    const libpal = sha256(readFileSync(dist(project, 'digits.gramine/libpal.so')));
    expect(buildDefinition.resolvedDependencies).toContainEqual({
      uri: 'pkg:generic/gramine@1.9#sgx/libpal.so',
      digest: { sha256: libpal },
    });

    const measured = parseMeasurements(readFileSync(dist(project, 'measurements.json')));
    expect(measured.images.map(({ target }) => target)).toEqual(['nitro', 'gramine']);
    const [, image] = measured.images as [unknown, GramineImage];
    expect(image.parts.map(({ name }) => name)).toEqual([
      ...['manifest', 'ssa', 'tcs', 'tls', 'stack0', 'stack1', 'sig_stack0', 'sig_stack1', 'pal', 'free'],
    ]);
    const table = parseManifest(readFileSync(dist(project, 'digits.manifest.sgx'), 'utf8'), 'x') as any;
    const trusted = table.sgx.trusted_files.map(({ uri }: { uri: string }) => uri);
    const files = image.files.filter(({ type }) => type === 'file').map(({ path }) => path);
    expect(trusted).toEqual(files.map((path) => `file:digits.gramine/root/${path}`));
    for (const path of files) {
      const bytes = readFileSync(dist(project, `digits.gramine/root/${path}`));
      expect(image.files.find((file) => file.path === path)?.sha256).toBe(sha256(bytes));
    }

    const { images } = await loadImages(result.manifest);
    expect(images.map(({ target }) => target)).toEqual(['nitro', 'gramine']);
    expect(images.map(({ measurement }) => measurement)).toEqual(result.images.map(({ measurement }) => measurement));
    expect(images[1]?.config).toEqual(images[0]?.config);
  });

  test('lets nothing of the host in: no argument, no environment but one address, no file but trusted ones', async () => {
    const project = await gramineProject(['gramine']);
    await run(project);
    const table = parseManifest(readFileSync(dist(project, 'digits.manifest.sgx'), 'utf8'), 'x') as any;
    expect(table.loader.argv).toEqual(['/usr/bin/node', '/app/program.mjs']);
    const passed = Object.entries(table.loader.env).filter(([, value]) => typeof value !== 'string');
    expect(passed).toEqual([['ATOMA_TEE_HOST', { passthrough: true }]]);
    // onnxruntime would start a thread for every core of a large machine, and Gramine has no more than these.
    expect(table.loader.env.ATOMA_TEE_MOST_THREADS).toBe(String(Math.max(1, Number(table.sgx.max_threads) - 16)));
    expect(JSON.stringify(table, (_, value) => (typeof value === 'bigint' ? `${value}` : value))).not.toMatch(
      /insecure__|allowed_files|allow_all_but_log|"type":"encrypted"/,
    );
    expect(table.fs.mounts.map(({ type, path }: any) => `${type} ${path}`)).toEqual(['tmpfs /tmp', 'tmpfs /run']);
    expect(table.sgx).toMatchObject({ remote_attestation: 'dcap', debug: false });
  });

  test('for Gramine alone fetches no kernel; for Nitro alone needs no Gramine', async () => {
    const project = await gramineProject();
    const kernel = project.lock.deb[0]?.path;
    await run(project, { targets: ['gramine'] });
    expect(project.mirror.hits).not.toContain(`/${kernel}`);
    expect(readdirSync(dist(project)).sort()).toEqual(OUTPUTS);
    const { resolvedDependencies } = parseStatement(readFileSync(dist(project, 'build.intoto.json'))).predicate
      .buildDefinition;
    expect(resolvedDependencies.some(({ uri }) => uri?.includes('linux-image'))).toBe(false);

    rmSync(join(project.dir, 'gramine'), { recursive: true });
    rmSync(project.cacheDir, { recursive: true });
    await run(project, { targets: ['nitro'], out: join(project.dir, 'nitro') });
    expect(readdirSync(join(project.dir, 'nitro')).sort()).toEqual([
      'bom.cdx.json',
      'build.intoto.json',
      'digits.eif',
      'measurements.json',
    ]);
  });

  test('is the same under another umask, time zone, locale and directory, file by file', async () => {
    const project = await gramineProject(['gramine']);
    await run(project);
    const dir = join(dirname(project.dir), 'else where');
    cpSync(project.dir, dir, { recursive: true, filter: (path) => !path.endsWith('/dist') });
    const child = join(import.meta.dirname, '../image/build-child.ts');
    const args = [child, dir, join(dir, 'dist'), `${project.cacheDir}-2`, project.programPath];
    const env = { ...process.env, TZ: 'Pacific/Chatham', LC_ALL: 'tr_TR.UTF-8' };
    const sh = ['-c', 'umask 077; cd /; exec "$0" "$@"', process.execPath, ...args];
    // Not spawnSync: the mirror lives in this process.
    await new Promise((done) => spawn('sh', sh, { env, stdio: 'inherit' }).on('exit', done));
    const [theirs, ours] = [listing(join(dir, 'dist')), listing(dist(project))];
    expect(theirs).toEqual(ours);
    expect(Object.keys(ours).some((path) => path.startsWith('/digits.oci/blobs/sha256/'))).toBe(true);
  });

  test('works from the cache when Gramine is gone', async () => {
    const project = await gramineProject(['gramine']);
    await run(project);
    const before = listing(dist(project));
    rmSync(join(project.dir, 'gramine'), { recursive: true });
    await run(project, { offline: true });
    expect(listing(dist(project))).toEqual(before);
  });

  test('a debug enclave is built where enclave.toml asks for it, and called that', async () => {
    const project = await gramineProject(['gramine'], `${SMALL}debug = true\n`);
    const { warnings } = await run(project);
    expect(warnings.join()).toContain('DEBUG ENCLAVE');
    expect((await run(await gramineProject(['gramine']))).warnings.join()).not.toContain('DEBUG');
  });

  test('an external signer signs what the key would have signed', async () => {
    const project = await gramineProject(['gramine']);
    await run(project);
    const sig = readFileSync(dist(project, 'digits.sig'));
    const { createPublicKey } = await import('node:crypto');
    const spki = createPublicKey(readFileSync(join(project.dir, 'sgx.pem'))).export({ type: 'spki', format: 'pem' });
    writeFileSync(join(project.dir, 'sgx.pub'), spki);
    const signer = `openssl dgst -sha256 -sign ${join(project.dir, 'sgx.pem')}`;
    setGramine(
      project,
      ['gramine'],
      SMALL.replace('{ key = "sgx.pem" }', `{ signer = ${JSON.stringify(signer)}, public_key = "sgx.pub" }`),
    );
    await run(project);
    expect(readFileSync(dist(project, 'digits.sig'))).toEqual(sig);
  });
});

describe('what others have put in the way of a Gramine build', () => {
  test('links planted in the output directory are replaced, not followed', async () => {
    const project = await gramineProject(['gramine']);
    const victim = join(project.dir, 'victim');
    mkdirSync(join(victim, 'root'), { recursive: true });
    writeFileSync(join(victim, 'libpal.so'), 'precious');
    mkdirSync(dist(project));
    for (const name of OUTPUTS) symlinkSync(victim, dist(project, name));
    await run(project);
    expect(readdirSync(victim).sort()).toEqual(['libpal.so', 'root']);
    expect(readFileSync(join(victim, 'libpal.so'), 'utf8')).toBe('precious');
    for (const name of OUTPUTS) expect(lstatSync(dist(project, name)).isSymbolicLink()).toBe(false);
    expect(readdirSync(dist(project)).sort()).toEqual(OUTPUTS);
  });

  test('a link inside an older root: what it leads to is left alone, and gone from the root', async () => {
    const project = await gramineProject(['gramine']);
    await run(project);
    const before = listing(dist(project));
    const victim = join(project.dir, 'victim');
    mkdirSync(victim);
    writeFileSync(join(victim, 'libc.so.6'), 'precious');
    rmSync(dist(project, 'digits.gramine/root/lib'), { recursive: true });
    symlinkSync(victim, dist(project, 'digits.gramine/root/lib'));
    await run(project);
    expect(readFileSync(join(victim, 'libc.so.6'), 'utf8')).toBe('precious');
    expect(listing(dist(project))).toEqual(before);
  });

  test("somebody's own directory of an output's name is not taken for an old build: nothing is replaced", async () => {
    const project = await gramineProject(['gramine']);
    mkdirSync(dist(project, 'digits.gramine'), { recursive: true });
    writeFileSync(dist(project, 'digits.gramine/thesis.txt'), 'precious');
    writeFileSync(dist(project, 'digits.sig'), 'old');
    await expect(run(project)).rejects.toMatchObject({ code: 'ERR_OUTPUT_KIND', exitCode: 2 });
    expect(readdirSync(dist(project)).sort()).toEqual(['digits.gramine', 'digits.sig']);
    expect(readFileSync(dist(project, 'digits.sig'), 'utf8')).toBe('old');
    expect(readFileSync(dist(project, 'digits.gramine/thesis.txt'), 'utf8')).toBe('precious');
  });

  test('a file of the name of an output that is a directory', async () => {
    const project = await gramineProject(['gramine']);
    mkdirSync(dist(project));
    writeFileSync(dist(project, 'digits.oci'), 'precious');
    await expect(run(project)).rejects.toMatchObject({ code: 'ERR_OUTPUT_KIND', exitCode: 2 });
    expect(readdirSync(dist(project))).toEqual(['digits.oci']);
  });
});

describe('a Gramine build is refused, and leaves nothing, with', () => {
  const refused = async (project: TinyProject, expected: object, more = {}) => {
    await expect(run(project, more)).rejects.toMatchObject(expected);
    expect(readdirSync(project.dir).filter((name) => name === 'dist' || name.endsWith('.partial'))).toEqual([]);
  };

  test('no key to sign with', async () => {
    const project = await gramineProject(['gramine'], 'from = "gramine"\n');
    const hint = expect.stringContaining('atoma-tee keygen --type sgx --out sgx.pem');
    await refused(project, { code: 'ERR_GRAMINE_UNSIGNED', exitCode: 2, hint });
  });

  test('a lock that pins no Gramine, for --target gramine', async () => {
    const project = await gramineProject(['nitro']);
    await refused(project, { code: 'ERR_LOCK_GRAMINE', exitCode: 2 }, { targets: ['gramine'] });
  });

  test('Gramine gone, and no cache', async () => {
    const project = await gramineProject(['gramine']);
    rmSync(join(project.dir, 'gramine'), { recursive: true });
    rmSync(project.cacheDir, { recursive: true });
    await refused(project, { code: 'ERR_GRAMINE_MISSING', exitCode: 5, hint: expect.stringContaining('gramine.from') });
  });

  test('another libpal.so than the lock pins', async () => {
    const project = await gramineProject(['gramine']);
    const { libpal } = fakeGramine(join(project.dir, 'gramine'));
    libpal[0x2000] = 0xee;
    fakeGramine(join(project.dir, 'gramine'), libpal);
    rmSync(project.cacheDir, { recursive: true });
    await refused(project, { code: 'ERR_INPUT_DIGEST', exitCode: 3, hint: expect.stringContaining('lock --local') });
  });

  test('a damaged copy in the cache, unless the source still has the right one', async () => {
    const project = await gramineProject(['gramine']);
    const cached = join(project.cacheDir, 'files', project.lock.gramine?.libpal.sha256 ?? '');
    const damaged = readFileSync(cached).fill(1, 0x1000);
    writeFileSync(cached, damaged);
    await run(project);
    expect(sha256(readFileSync(dist(project, 'digits.gramine/libpal.so')))).toBe(project.lock.gramine?.libpal.sha256);
    rmSync(dist(project), { recursive: true });
    writeFileSync(cached, damaged);
    rmSync(join(project.dir, 'gramine'), { recursive: true });
    await refused(project, { code: 'ERR_GRAMINE_MISSING', exitCode: 5 });
  });

  test('an enclave too small for its threads', async () => {
    const project = await gramineProject(
      ['gramine'],
      SMALL.replace('"16M"', '"1M"').replace('max_threads = 2', 'max_threads = 64'),
    );
    await refused(project, { exitCode: 2, message: expect.stringMatching(/enclave_size|large enough|too small/) });
  });
});
