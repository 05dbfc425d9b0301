import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Cache } from '../../../src/image/cache.ts';
import { openInputsArchive } from '../../../src/image/inputs-archive-read.ts';
import { selfSignedCertificate } from '../../../src/keys/certificate.ts';
import { generateKey } from '../../../src/keys/generate.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { type VerifyOptions, verify } from '../../../src/tasks/verify/index.ts';
import { gramineProject } from '../gramine/project.ts';
import { sha256, type TinyProject, temporaryDirectory, tinyProject } from '../image/fixtures.ts';

let project: TinyProject;
const at = (...names: string[]) => join(project.dir, ...names);
const beside = (name: string) => join(dirname(project.dir), name);
const run = (more = {}) =>
  build({ project: project.dir, cacheDir: project.cacheDir, programPath: project.programPath, ...more });

/** Only with what is given: no cache, no mirror. Beside others' rebuilds on this machine, in a directory of its own. */
async function rebuild(options: Partial<VerifyOptions> = {}, manifest = at('dist/build.intoto.json')) {
  const { cacheDir, programPath } = project;
  const given = { files: [manifest], expect: [], allowSimulated: [], rebuild: true, offline: true };
  vi.stubEnv('TMPDIR', scratch());
  const report = await verify({ ...given, cacheDir, programPath, ...options }).finally(() => vi.unstubAllEnvs());
  const [result] = report.results;
  if (!result) throw new Error('no result');
  const failed = result.checks.filter(({ status }) => status === 'fail');
  return { ...result, verdict: report.verdict, failed: failed.map(({ id }) => id), text: JSON.stringify(failed) };
}

const toml = (change: (text: string) => string) =>
  writeFileSync(at('enclave.toml'), change(readFileSync(at('enclave.toml'), 'utf8')));
const manifestOf = (change: (json: any) => void) => {
  const path = at('dist/build.intoto.json');
  const json = JSON.parse(readFileSync(path, 'utf8'));
  change(json);
  writeFileSync(path, `${JSON.stringify(json, null, 2)}\n`);
};
const scratch = (): string => {
  mkdirSync(beside('tmp'), { recursive: true });
  return beside('tmp');
};
const leftovers = () => readdirSync(scratch());

describe('a rebuild', () => {
  beforeEach(async () => {
    project = await tinyProject();
    await run();
  });

  test('of the same project is equal in measurement and in bytes, and leaves nothing behind', async () => {
    const before = leftovers();
    const result = await rebuild();
    expect(result).toMatchObject({ verdict: 'pass', failed: [] });
    expect(result.rebuild).toMatchObject({ measurementEqual: true, byteEqual: true, differences: [] });
    const names = ['bom.cdx.json', 'build.intoto.json', 'digits.eif', 'measurements.json'];
    expect(result.rebuild?.outputs.map(({ name, equal }) => [name, equal])).toEqual(names.map((name) => [name, true]));
    expect(leftovers()).toEqual(before);
    expect(result.notChecked.join()).not.toContain('--rebuild');
  });

  test('needs no model: its digest is what is measured; another model is refused', async () => {
    rmSync(at('model'), { recursive: true });
    expect(await rebuild()).toMatchObject({ verdict: 'pass' });
    mkdirSync(at('model'));
    writeFileSync(at('model/digits.onnx'), 'another');
    expect(await rebuild()).toMatchObject({ verdict: 'fail', failed: ['rebuild.model'] });
  });

  test('without a model, of a build that discloses it, says what is missing', async () => {
    await run({ discloseModel: true });
    expect(await rebuild()).toMatchObject({ verdict: 'pass' });
    rmSync(at('model'), { recursive: true });
    expect(await rebuild()).toMatchObject({ failed: ['rebuild.model'] });
  });

  test('names a changed setting, another owner, another lock, another toolkit', async () => {
    const owner = readFileSync(at('demo-owner.pub'));
    writeFileSync(at('demo-owner.pub'), generateKey('owner').publicPem);
    expect(await rebuild()).toMatchObject({ failed: ['rebuild.owner'] });
    writeFileSync(at('demo-owner.pub'), owner);

    toml((text) => `${text}memory_mib = 2048\n`);
    const setting = await rebuild();
    expect(setting.failed).toEqual(['rebuild.project']);
    expect(setting.text).toContain('nitro.memory_mib');
    toml((text) => text.replace('memory_mib = 2048\n', ''));

    const program = readFileSync(project.programPath);
    appendFileSync(project.programPath, '//');
    expect(await rebuild()).toMatchObject({ failed: ['rebuild.toolkit'] });
    writeFileSync(project.programPath, program);

    const [, libc] = project.lock.deb;
    if (libc) libc.version = '1.1-1';
    project.writeLock();
    const lock = await rebuild();
    expect(lock.failed).toEqual(['rebuild.lock']);
    expect(lock.text).toMatch(/libc6@1\.0-1[^"]*libc6@1\.1-1/);
  });

  test('names an input that is missing (exit 5), and one that has changed', async () => {
    const cacheDir = beside('empty');
    await expect(rebuild({ cacheDir })).rejects.toMatchObject({ code: 'ERR_OFFLINE_MISSING', exitCode: 5 });
    const [path] = [...project.files.keys()];
    project.files.set(String(path), Buffer.from('another'));
    const changed = await rebuild({ cacheDir, offline: false });
    expect(changed.failed).toEqual(['rebuild.build']);
    expect(changed.text).toMatch(/ERR_INPUT_DIGEST/);
  });

  test('of another image under the same manifest tells measurement from bytes, and names the file', async () => {
    const eif = readFileSync(at('dist/digits.eif'));
    eif.write('A LIBRARY', eif.indexOf('a librarya library') + 18);
    writeFileSync(at('dist/digits.eif'), eif);
    const result = await rebuild();
    expect(result.failed).toEqual(
      expect.arrayContaining([
        'image.sha256',
        'measurement.pcr2',
        'rebuild.bytes',
        'rebuild.measurement-equal',
        'rebuild.byte-equal',
        'rebuild.first-file',
      ]),
    );
    // measurements.json beside it still says what it said: the image is what counts.
    expect(result.rebuild).toMatchObject({ measurementEqual: false, byteEqual: false });
    expect(result.text).toMatch(/ramdisk1 rootfs\/lib\/libc\.so\.6: content, first at byte 18/);
  });

  test('of a manifest with an altered subject, byproduct or build type fails', async () => {
    const manifest = readFileSync(at('dist/build.intoto.json'));
    manifestOf((json) => {
      json.subject[0].digest.sha256 = '0'.repeat(64);
    });
    expect((await rebuild()).failed).toEqual(expect.arrayContaining(['image.sha256', 'rebuild.byte-equal']));
    writeFileSync(at('dist/build.intoto.json'), manifest);
    writeFileSync(at('dist/extra.bin'), 'x');
    manifestOf((json) => {
      json.predicate.runDetails.byproducts.push({ name: 'extra.bin', digest: { sha256: sha256('x') } });
    });
    const extra = await rebuild();
    expect(extra.text).toContain('extra.bin differs: not built');
    writeFileSync(at('dist/build.intoto.json'), manifest);
    manifestOf((json) => {
      json.predicate.buildDefinition.buildType = 'urn:another';
    });
    expect((await rebuild()).failed).toContain('manifest.statement');
  });

  test('of a manifest that names settings nobody can build with is malformed, not a crash', async () => {
    manifestOf((json) => {
      json.predicate.buildDefinition.externalParameters.project.nitro.kernel = 7;
    });
    const result = await rebuild();
    expect(result.failed).toEqual(['rebuild.parameters']);
    expect(result.text).toMatch(/ERR_MANIFEST_MALFORMED/);
  });

  test('without a project says how to name one', async () => {
    renameSync(at('dist'), beside('moved'));
    const manifest = join(beside('moved'), 'build.intoto.json');
    await expect(rebuild({}, manifest)).rejects.toMatchObject({ code: 'ERR_CONFIG_NOT_FOUND' });
    expect(await rebuild({ project: project.dir }, manifest)).toMatchObject({ verdict: 'pass' });
  });

  test('--project and --inputs are refused where nothing is rebuilt', async () => {
    const { programPath } = project;
    const given = { files: [at('dist/digits.eif')], expect: ['none'], allowSimulated: [], programPath };
    await expect(verify({ ...given, rebuild: true })).rejects.toMatchObject({ code: 'ERR_USAGE' });
  });
});

test('signed images of both targets are rebuilt without any key: every byte, the signatures set aside', async () => {
  project = await gramineProject();
  const { privatePem, publicPem } = generateKey('eif');
  writeFileSync(at('eif.key'), privatePem);
  writeFileSync(at('eif.crt'), await selfSignedCertificate(privatePem, publicPem, new Date()));
  toml((text) => text.replace('kernel = "debian"', 'kernel = "debian"\nsign = { cert = "eif.crt", key = "eif.key" }'));
  await run();
  for (const name of ['eif.key', 'sgx.pem']) rmSync(at(name));
  const result = await rebuild();
  expect(result).toMatchObject({ verdict: 'pass', rebuild: { measurementEqual: true, byteEqual: true } });
  expect(result.checks.map(({ id }) => id)).toEqual(expect.arrayContaining(['rebuild.pcr8', 'rebuild.mrsigner']));

  // Another program under the same signatures: the signed bytes and the image behind them differ, not only the signature.
  const program = readFileSync(at('dist/digits.gramine/root/app/program.mjs'));
  writeFileSync(at('dist/digits.gramine/root/app/program.mjs'), 'evil()');
  const changed = await rebuild();
  expect(changed.text).toContain('digits.gramine differs: root/app/program.mjs: byte 0');
  writeFileSync(at('dist/digits.gramine/root/app/program.mjs'), program);

  const [, libc] = project.lock.deb;
  if (libc?.keep[0]) libc.keep[0].mode = '0755';
  expect(libc).toBeDefined();
  const { treeDigest } = await import('../../../src/image/tree.ts');
  if (libc) {
    const content = 'a library'.repeat(1000);
    libc.tree = treeDigest([
      { part: 'root', path: 'lib/libc.so.6', mode: '0755', size: content.length, sha256: sha256(content) },
      { part: 'root', path: 'bin/tool', mode: '0755', size: 6, sha256: sha256('a tool') },
    ]);
  }
  project.writeLock();
  manifestOf((json) => {
    const [lock] = json.predicate.buildDefinition.resolvedDependencies;
    lock.digest.sha256 = sha256(readFileSync(at('atoma-tee.lock')));
  });
  const other = await rebuild();
  expect(other.rebuild).toMatchObject({ measurementEqual: false, byteEqual: false });
  expect(other.failed).toEqual(
    expect.arrayContaining(['rebuild.pcr0', 'rebuild.measurement-equal', 'rebuild.first-file']),
  );
  expect(other.rebuild?.differences.map(({ name }) => name)).toContain('ramdisk1/rootfs/lib/libc.so.6');
});

describe('an archive of inputs', () => {
  // The first three tests are of both targets; what is wrong with an archive is wrong for one.
  let made = 0;
  const archive = () => beside('inputs');
  const blob = (content: Buffer) => join(archive(), 'blobs/sha256', sha256(content));
  const inDir = (dir: string) =>
    Object.fromEntries(
      readdirSync(dir, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => [
          join(entry.parentPath, entry.name).slice(dir.length),
          readFileSync(join(entry.parentPath, entry.name), 'latin1'),
        ]),
    );

  beforeEach(async () => {
    project = await (made++ < 3 ? gramineProject() : tinyProject());
    await run({ saveInputs: archive() });
  });

  test('is enough: neither project nor cache nor network, and the same bytes', async () => {
    cpSync(at('dist'), beside('alone'), { recursive: true });
    rmSync(project.dir, { recursive: true });
    rmSync(project.cacheDir, { recursive: true });
    project.mirror.hits.length = 0;
    const result = await rebuild({ inputs: archive() }, join(beside('alone'), 'build.intoto.json'));
    expect(result).toMatchObject({ verdict: 'pass', rebuild: { measurementEqual: true, byteEqual: true } });
    expect(project.mirror.hits).toEqual([]);
    expect(existsSync(project.cacheDir)).toBe(false);
  });

  test('builds too: `build --inputs`, from an empty cache', async () => {
    const [out, cacheDir] = [beside('out'), beside('empty')];
    rmSync(at('gramine'), { recursive: true });
    project.mirror.hits.length = 0;
    await run({ out, cacheDir, inputs: archive() });
    expect(inDir(out)).toEqual(inDir(at('dist')));
    expect(project.mirror.hits).toEqual([]);
  });

  test('is the same bytes each time, holds no key and no model, and replaces an older one', async () => {
    const first = inDir(archive());
    await run({ saveInputs: archive() });
    expect(inDir(archive())).toEqual(first);
    const all = Object.values(first).join('\n');
    expect(all).not.toContain('PRIVATE KEY');
    const model = readFileSync(at('model/digits.onnx'));
    expect(all).not.toContain(model.toString('latin1', 0, 64));
    expect(Object.keys(first)).toContain(`/blobs/sha256/${project.lock.gramine?.libpal.sha256}`);
  });

  test('never takes the place of somebody else’s directory', async () => {
    const mine = beside('mine');
    mkdirSync(join(mine, 'blobs/photos'), { recursive: true });
    await expect(run({ saveInputs: mine })).rejects.toMatchObject({ code: 'ERR_OUTPUT_KIND' });
    expect(readdirSync(mine)).toEqual(['blobs']);
  });

  test('does not go over the lock of another project', async () => {
    const mine = beside('another-project');
    mkdirSync(mine);
    writeFileSync(join(mine, 'atoma-tee.lock'), 'mine');
    await expect(run({ saveInputs: mine })).rejects.toMatchObject({ code: 'ERR_OUTPUT_KIND', exitCode: 2 });
    expect(readFileSync(join(mine, 'atoma-tee.lock'), 'utf8')).toBe('mine');
  });

  test('that lacks one input of the lock fails for that one, and leaves nothing behind', async () => {
    const index = join(archive(), 'inputs.json');
    const json = JSON.parse(readFileSync(index, 'utf8'));
    json.blobs.pop();
    writeFileSync(index, JSON.stringify(json));
    const before = leftovers();
    for (let i = 0; i < 3; i++)
      await expect(rebuild({ inputs: archive() })).rejects.toMatchObject({ code: 'ERR_OFFLINE_MISSING', exitCode: 5 });
    expect(leftovers()).toEqual(before);
  });

  test('names every bad blob, and uses none', async () => {
    const [kernel, libc] = [...project.files.values()] as [Buffer, Buffer];
    appendFileSync(blob(kernel), 'x');
    writeFileSync(blob(libc), Buffer.from(libc).fill(1, 100, 101));
    const before = readdirSync(join(project.cacheDir, 'archives'));
    const result = await rebuild({ inputs: archive() });
    expect(result.failed).toEqual(['rebuild.inputs']);
    // In the order of their digests, which is that of nobody.
    for (const name of ['libc6@1.0-1', 'linux-image-6.1.0-tiny@1.0-1']) expect(result.text).toContain(name);
    await expect(run({ inputs: archive(), cacheDir: beside('fresh') })).rejects.toMatchObject({
      code: 'ERR_INPUTS_DAMAGED',
      details: { blobs: [expect.any(String), expect.any(String)] },
    });
    expect(readdirSync(join(beside('fresh'), 'archives'))).toEqual([]);
    expect(readdirSync(join(beside('fresh'), 'tmp'))).toEqual([]);
    expect(readdirSync(join(project.cacheDir, 'archives'))).toEqual(before);
  });

  test('that lacks a blob says which, as a missing prerequisite', async () => {
    const [kernel] = [...project.files.values()] as [Buffer];
    rmSync(blob(kernel));
    await expect(rebuild({ inputs: archive() })).rejects.toMatchObject({
      code: 'ERR_INPUTS_INCOMPLETE',
      exitCode: 5,
      message: expect.stringContaining('linux-image-6.1.0-tiny@1.0-1'),
    });
  });

  test('with links for blobs, directories or documents is refused', async () => {
    const [kernel] = [...project.files.values()] as [Buffer];
    writeFileSync(beside('elsewhere'), kernel);
    rmSync(blob(kernel));
    symlinkSync(beside('elsewhere'), blob(kernel));
    const result = await rebuild({ inputs: archive() });
    expect(result.text).toMatch(/ERR_INPUTS_DAMAGED/);
    expect(result.text).toContain('not a regular file');
    for (const name of ['blobs', 'inputs.json', 'atoma-tee.lock']) {
      renameSync(join(archive(), name), beside('moved'));
      symlinkSync(beside('moved'), join(archive(), name));
      await expect(openInputsArchive(archive())).rejects.toMatchObject({ code: 'ERR_FILE_KIND' });
      rmSync(join(archive(), name));
      renameSync(beside('moved'), join(archive(), name));
    }
  });

  test('with files that it does not list is no different', async () => {
    writeFileSync(join(archive(), 'README'), 'hello');
    writeFileSync(join(archive(), 'blobs/sha256/evil'), 'evil');
    symlinkSync('/etc/passwd', join(archive(), 'blobs/sha256', 'f'.repeat(64)));
    expect(await rebuild({ inputs: archive() })).toMatchObject({ verdict: 'pass' });
  });

  test('whose index writes below a link, out of its directory or twice is malformed', async () => {
    const path = join(archive(), 'inputs.json');
    const index = JSON.parse(readFileSync(path, 'utf8'));
    const file = index.project[0];
    const link = { path: 'a', type: 'symlink', target: '/tmp' };
    for (const bad of [
      [link, { ...file, path: 'a/b' }],
      [{ ...file, path: '../b' }],
      [{ ...file, path: '/b' }],
      [file, file],
    ]) {
      writeFileSync(path, JSON.stringify({ ...index, project: bad }));
      await expect(openInputsArchive(archive())).rejects.toMatchObject({ code: 'ERR_INPUTS_MALFORMED', exitCode: 2 });
    }
    expect(await rebuild({ inputs: archive() })).toMatchObject({ failed: ['rebuild.archive'] });
  });

  test('with another lock, or another project, is not the manifest’s', async () => {
    const index = JSON.parse(readFileSync(join(archive(), 'inputs.json'), 'utf8'));
    const lock = Buffer.concat([readFileSync(at('atoma-tee.lock')), Buffer.from('# edited\n')]);
    writeFileSync(join(archive(), 'atoma-tee.lock'), lock);
    expect((await rebuild({ inputs: archive() })).text).toMatch(/ERR_INPUTS_DAMAGED/);
    const reindex = (changes: object) =>
      writeFileSync(join(archive(), 'inputs.json'), JSON.stringify({ ...index, ...changes }));
    reindex({ lock: sha256(lock) });
    expect((await rebuild({ inputs: archive() })).failed).toEqual(['rebuild.lock']);
    writeFileSync(join(archive(), 'atoma-tee.lock'), readFileSync(at('atoma-tee.lock')));
    const config = Buffer.from(readFileSync(at('enclave.toml'), 'utf8').replace('1.0.0', '1.0.1'));
    writeFileSync(blob(config), config);
    const entry = {
      path: 'enclave.toml',
      type: 'file',
      executable: false,
      size: config.length,
      sha256: sha256(config),
    };
    reindex({ project: [entry] });
    const result = await rebuild({ inputs: archive() });
    expect(result.failed).toEqual(['rebuild.project']);
    expect(result.text).toContain('version');
  });
});

test('what others write into a cache outlives a process whose clock is years ahead', async () => {
  const dir = temporaryDirectory();
  const cache = await Cache.open(dir);
  const file = cache.temporary();
  writeFileSync(file, 'half');
  vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2031, 4, 5) });
  onTestFinished(() => void vi.useRealTimers());
  await Cache.open(dir);
  expect(readFileSync(file, 'utf8')).toBe('half');
});
