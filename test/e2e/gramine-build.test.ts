/** One build for Nitro and Gramine by the command line: reproducible, valid for container tools, sealed to, judged. No SGX is needed. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, cpSync, lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fakeGramine, setGramine } from '../unit/gramine/project.ts';
import { atomaTee, digits, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
afterAll(remove);
const project = join(dir, 'project');
const dist = (name = '') => join(project, 'dist', name);
const manifest = dist('build.intoto.json');
let built: any;
const have = (program: string) => spawnSync(program, ['--version']).status === 0;

beforeAll(() => {
  cpSync(digits, project, { recursive: true, filter: (path) => !path.endsWith('/dist') });
  fakeGramine(join(project, 'gramine'));
  ok(atomaTee(['keygen', '--type', 'sgx', '--out', 'sgx.pem'], { cwd: project }));
  setGramine({ dir: project }, ['nitro', 'gramine'], 'from = "gramine"\nsign = { key = "sgx.pem" }\n');
  ok(atomaTee(['lock', project, '--toolkit']));
  built = ok(atomaTee(['build', project, '--json'], { env: { TZ: 'UTC', LC_ALL: 'C' } })).json;
}, 120_000);

/** Mode, time (of what has a fixed one) and digest of everything below a directory. */
function listing(path: string): Record<string, string> {
  const found: Record<string, string> = {};
  const walk = (at: string) => {
    for (const entry of readdirSync(join(path, at), { withFileTypes: true })) {
      const name = join(at, entry.name);
      const { mode, mtimeMs } = lstatSync(join(path, name));
      const time = at === '' && !entry.isDirectory() ? '' : mtimeMs;
      const digest =
        entry.isFile() &&
        createHash('sha256')
          .update(readFileSync(join(path, name)))
          .digest('hex');
      found[name] = `${mode.toString(8)} ${time} ${digest}`;
      if (entry.isDirectory()) walk(name);
    }
  };
  walk('');
  return found;
}

test('another umask, time zone, locale and directory: the same bytes, the OCI layout’s too', () => {
  const elsewhere = join(dir, 'ünder', 'else where');
  cpSync(project, elsewhere, { recursive: true, filter: (path) => !path.endsWith('/dist') });
  const out = join(dir, 'out');
  const via = ['sh', '-c', 'umask 077; cd /; exec "$@"', 'sh'];
  const env = { TZ: 'Pacific/Kiritimati', LC_ALL: 'tr_TR.UTF-8' };
  ok(atomaTee(['build', elsewhere, '--out', out, '--offline'], { env, via }));
  const theirs = listing(out);
  expect(theirs).toEqual(listing(dist()));
  expect(Object.keys(theirs)).toEqual(expect.arrayContaining(['digits.eif', 'digits.sig', 'digits.oci/index.json']));
  rmSync(out, { recursive: true });
});

describe('the OCI layout', () => {
  test.skipIf(!have('skopeo'))('is one that skopeo reads and copies (skipped without skopeo)', () => {
    const skopeo = (...args: string[]) => spawnSync('skopeo', args, { encoding: 'utf8' });
    const inspected = JSON.parse(skopeo('inspect', `oci:${dist('digits.oci')}`).stdout);
    expect([inspected.Architecture, inspected.Os, inspected.Layers.length]).toEqual(['amd64', 'linux', 2]);
    const byproducts = JSON.parse(readFileSync(manifest, 'utf8')).predicate.runDetails.byproducts;
    const listed = byproducts.find(({ name }: { name: string }) => name === 'digits.oci').digest.sha256;
    expect(inspected.Digest).toBe(`sha256:${listed}`);
    const { config } = JSON.parse(skopeo('inspect', '--config', `oci:${dist('digits.oci')}`).stdout);
    expect(config).toEqual({ Entrypoint: ['gramine-sgx', 'digits'], WorkingDir: '/atoma-tee' });
    expect(skopeo('copy', '-q', `oci:${dist('digits.oci')}`, `dir:${join(dir, 'copy')}`).status).toBe(0);
    rmSync(join(dir, 'copy'), { recursive: true });
  });

  test.skipIf(!have('umoci'))('unpacks to an image that verifies (skipped without umoci)', () => {
    const bundle = join(dir, 'bundle');
    // umoci wants a tag.
    cpSync(dist('digits.oci'), join(dir, 'named'), { recursive: true });
    const index = join(dir, 'named/index.json');
    const json = JSON.parse(readFileSync(index, 'utf8'));
    json.manifests[0].annotations = { 'org.opencontainers.image.ref.name': 'latest' };
    writeFileSync(index, JSON.stringify(json));
    const args = ['raw', 'unpack', '--rootless', '--image', `${join(dir, 'named')}:latest`, bundle];
    expect(spawnSync('umoci', args, { encoding: 'utf8' })).toMatchObject({ status: 0 });
    const place = join(bundle, 'atoma-tee');
    const result = ok(atomaTee(['verify', join(place, 'digits.manifest.sgx'), '--manifest', manifest, '--json']));
    expect(result.json.verdict).toBe('pass');
    const files = listing(join(place, 'digits.gramine'));
    const original = listing(dist('digits.gramine'));
    expect(Object.keys(files).sort()).toEqual(Object.keys(original).sort());
    const digestOf = (line = '') => line.split(' ')[2];
    for (const [name, line] of Object.entries(original)) expect(digestOf(files[name])).toBe(digestOf(line));
  });
});

test('build --json names both images; verify judges both; seal makes an alternative of each', () => {
  expect(built.images.map(({ target }: { target: string }) => target)).toEqual(['nitro', 'gramine']);
  const [nitro, gramine] = built.images;
  expect(gramine).toMatchObject({ path: dist('digits.manifest.sgx'), sigstruct: dist('digits.sig') });
  expect(ok(atomaTee(['verify', manifest, '--json'])).json.verdict).toBe('pass');

  for (const type of ['broker', 'owner'] as const) {
    ok(atomaTee(['keygen', '--type', type, '--out', join(dir, `${type}.key`)]));
  }
  const sealed = join(dir, 'digits.sealed');
  const seal = ['seal', join(project, 'model'), '--manifest', manifest, '--to', join(dir, 'broker.key.pub')];
  const signed = (key: string) => [...seal, '--sign', key, '--out', sealed, '--json'];
  expect(atomaTee(signed(join(dir, 'owner.key')))).toMatchObject({ code: 3 });
  const { policy } = ok(atomaTee(signed(join(project, 'demo-owner.key')))).json;
  const { mrenclave, mrsigner } = gramine.measurement;
  expect(policy.any).toEqual([nitro.measurement, { tee: 'sgx', mrenclave, mrsigner, isvprodid: 0, min_isvsvn: 0 }]);
  expect(ok(atomaTee(['verify', sealed, '--manifest', manifest, '--json'])).json.verdict).toBe('pass');

  const program = dist('digits.gramine/root/app/program.mjs');
  const before = readFileSync(program);
  appendFileSync(program, 'evil()');
  const judged = atomaTee(['verify', manifest, '--json']);
  writeFileSync(program, before);
  expect(judged.code).toBe(3);
  const failed = judged.json.results[0].checks.filter(({ status }: { status: string }) => status === 'fail');
  expect(JSON.stringify(failed)).toContain('app/program.mjs');
});

test('without Gramine: exit 5 and what to install; without a key: the command that makes one', () => {
  const other = join(dir, 'other');
  cpSync(project, other, { recursive: true, filter: (path) => !/\/(dist|gramine)$/.test(path) });
  rmSync(join(other, 'atoma-tee.lock'));
  const missing = atomaTee(['lock', other, '--toolkit']);
  expect(missing.code).toBe(5);
  expect(missing.stderr).toMatch(/ERR_GRAMINE_MISSING[\s\S]*install Gramine/);
  fakeGramine(join(other, 'gramine'));
  setGramine({ dir: other }, ['gramine'], 'from = "gramine"\n');
  ok(atomaTee(['lock', other, '--toolkit']));
  const unsigned = atomaTee(['build', other]);
  expect(unsigned.code).toBe(2);
  expect(unsigned.stderr).toMatch(/ERR_GRAMINE_UNSIGNED[\s\S]*atoma-tee keygen --type sgx --out sgx\.pem/);
});
