/** docs/reproduce.md: a stranger with a manifest, its artifacts and an archive of inputs, and no network. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fakeGramine, setGramine } from '../unit/gramine/project.ts';
import { atomaTee, digits, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
const project = join(dir, 'project');
const stranger = join(dir, 'stranger');
const manifest = join(stranger, 'dist/build.intoto.json');
const inputs = join(stranger, 'inputs');
const via = ['unshare', '--net', ...(process.getuid?.() === 0 ? [] : ['--map-root-user'])];
const cannot = spawnSync(via[0] as string, [...via.slice(1), 'true']).status !== 0;

beforeAll(() => {
  cpSync(digits, project, { recursive: true, filter: (path) => !path.endsWith('/dist') });
  fakeGramine(join(project, 'gramine'));
  ok(atomaTee(['keygen', '--type', 'sgx', '--out', 'sgx.pem'], { cwd: project }));
  ok(atomaTee(['keygen', '--type', 'eif', '--out', 'eif.key'], { cwd: project }));
  setGramine({ dir: project }, ['nitro', 'gramine'], 'from = "gramine"\nsign = { key = "sgx.pem" }\n');
  const toml = join(project, 'enclave.toml');
  const signed = 'kernel = "debian"\nsign = { cert = "eif.key.crt", key = "eif.key" }';
  writeFileSync(toml, readFileSync(toml, 'utf8').replace('kernel = "debian"', signed));
  ok(atomaTee(['lock', project, '--toolkit']));
  mkdirSync(stranger);
  ok(atomaTee(['build', project, '--out', join(stranger, 'dist'), '--save-inputs', inputs]));
  rmSync(project, { recursive: true });
}, 120_000);
afterAll(remove);

test.skipIf(cannot)(
  'gets PASS without project, keys, cache and network: both targets, both signed (skipped where namespaces are forbidden)',
  () => {
    const empty = join(dir, 'empty');
    const env = {
      XDG_CACHE_HOME: empty,
      ATOMA_TEE_DEBIAN_MIRROR: 'http://127.0.0.1:1',
      npm_config_registry: 'http://127.0.0.1:1',
    };
    const run = atomaTee(['verify', manifest, '--rebuild', '--inputs', inputs, '--json'], { env, via });
    ok(run);
    const [result] = run.json.results;
    expect(result.rebuild).toMatchObject({ measurementEqual: true, byteEqual: true, differences: [] });
    expect(result.rebuild.outputs.map(({ name }: { name: string }) => name)).toEqual(
      expect.arrayContaining([
        'digits.eif',
        'digits.sig',
        'digits.manifest.sgx',
        'digits.gramine',
        'digits.oci',
        'bom.cdx.json',
      ]),
    );
    const ids = result.checks.map(({ id }: { id: string }) => id);
    expect(ids).toEqual(expect.arrayContaining(['rebuild.pcr8', 'rebuild.mrenclave', 'rebuild.node']));
  },
  120_000,
);

test('is told each bad blob, and gets no verdict where one is missing', () => {
  const { blobs } = JSON.parse(readFileSync(join(inputs, 'inputs.json'), 'utf8'));
  const [bad, gone] = ['busybox-static@', 'libgcc-s1@'].map((name) =>
    blobs.find((blob: { name: string }) => blob.name.startsWith(name)),
  );
  const place = (digest: string) => join(inputs, 'blobs', digest.replace(':', '/'));
  const bytes = readFileSync(place(bad.digest));
  bytes[1000] = (bytes[1000] ?? 0) ^ 1;
  writeFileSync(place(bad.digest), bytes);
  const args = ['verify', manifest, '--rebuild', '--inputs', inputs, '--json'];
  const damaged = atomaTee(args);
  expect(damaged.code).toBe(3);
  expect(damaged.stdout).toMatch(/ERR_INPUTS_DAMAGED/);
  expect(damaged.stdout).toContain(bad.name);
  bytes[1000] = (bytes[1000] ?? 0) ^ 1;
  writeFileSync(place(bad.digest), bytes);
  rmSync(place(gone.digest));
  const missing = atomaTee(args);
  expect([missing.code, missing.json.error.code]).toEqual([5, 'ERR_INPUTS_INCOMPLETE']);
  expect(missing.json.error.message).toContain(gone.name);
}, 60_000);
