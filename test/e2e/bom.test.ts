/** The bill of materials of real images: everything that the lock pins, what is bundled and found, and of the model only what was asked for. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Spec, Validation } from '@cyclonedx/cyclonedx-library';
import { afterAll, expect, test } from 'vitest';
import { parseLock } from '../../src/image/lock-file.ts';
import { atomaTee, digits, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
afterAll(remove);

const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6);
const bomOf = async (out: string) => {
  const text = readFileSync(join(out, 'bom.cdx.json'), 'utf8');
  expect(await validator.validate(text)).toBeNull();
  return JSON.parse(text);
};
const names = (parts: { name: string }[]) => parts.map(({ name }) => name);

test('examples/digits: all of the lock, with hash and licence; the model described on request; verify agrees', async () => {
  const out = join(dir, 'digits');
  const { manifest } = ok(atomaTee(['build', digits, '--out', out, '--json'])).json;
  const bom = await bomOf(out);
  const lock = parseLock(readFileSync(join(digits, 'atoma-tee.lock'), 'utf8'), 'lock');
  for (const { name, version } of [...lock.npm, ...lock.deb]) {
    const part = bom.components.find((one: { name: string }) => one.name === name);
    expect(part).toMatchObject({ name, version, purl: expect.stringMatching(/^pkg:(npm|deb\/debian)\//) });
    expect(part.hashes[0].content).toMatch(/^([0-9a-f]{64}|[0-9a-f]{128})$/);
    expect(part.licenses.length).toBeGreaterThan(0);
  }
  const program = bom.components.find((one: { name: string }) => one.name === 'enclave program');
  expect(program.hashes[0].content).toBe(lock.toolkit.program);
  expect(names(program.components)).toEqual(expect.arrayContaining(['cborg', 'hpke', 'zod']));
  expect(JSON.stringify(bom)).not.toMatch(/digits\.onnx|Gemm/);
  const report = ok(atomaTee(['verify', manifest, '--json'])).json;
  expect(report.results[0].checks).toContainEqual(expect.objectContaining({ id: 'bom.inputs', status: 'pass' }));

  const told = join(dir, 'disclosed');
  ok(atomaTee(['build', digits, '--out', told, '--disclose-model', '--offline']));
  const { components } = await bomOf(told);
  const model = components.find((one: { type: string }) => one.type === 'machine-learning-model');
  expect(model.modelCard.modelParameters.inputs).toEqual([{ format: 'image: FLOAT[batch, 64]' }]);
  expect(names(model.components)).toEqual(['digits.onnx']);
  // What is told of a model changes no image.
  expect(readFileSync(join(told, 'measurements.json'))).toEqual(readFileSync(join(out, 'measurements.json')));
  const rebuilt = ok(
    atomaTee(['verify', join(told, 'build.intoto.json'), '--rebuild', '--project', digits, '--json']),
  ).json;
  expect(rebuilt.results[0].checks).toContainEqual(
    expect.objectContaining({ id: 'rebuild.byte-equal', status: 'pass' }),
  );
});

test("a command's file system: the packages of its own databases", async () => {
  const project = join(dir, 'command');
  cpSync(digits, project, { recursive: true, filter: (path) => !/\/(dist|atoma-tee\.lock)$/.test(path) });
  const rootfs = (path: string, text: string) => {
    mkdirSync(join(project, 'rootfs', path, '..'), { recursive: true });
    writeFileSync(join(project, 'rootfs', path), text);
  };
  rootfs('etc/os-release', 'ID=debian\nVERSION_CODENAME=trixie\n');
  rootfs(
    'var/lib/dpkg/status',
    'Package: dash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 0.5.12-12\n',
  );
  rootfs(
    'usr/share/doc/dash/copyright',
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: BSD-3-clause\n',
  );
  mkdirSync(join(project, 'app/node_modules/left'), { recursive: true });
  writeFileSync(
    join(project, 'app/node_modules/left/package.json'),
    '{"name":"left","version":"1.0.0","license":"MIT OR ISC"}',
  );
  const toml = readFileSync(join(project, 'enclave.toml'), 'utf8');
  writeFileSync(
    join(project, 'enclave.toml'),
    `${toml.replace(
      'kind = "onnx"',
      'kind = "command"\ncommand = ["/bin/true"]\ninclude = [{ from = "app/", to = "/app" }]',
    )}\n[base]\nimage = "dir:rootfs"\n`,
  );
  ok(atomaTee(['lock', project]));
  const out = join(dir, 'command-out');
  const { manifest } = ok(atomaTee(['build', project, '--out', out, '--json'])).json;
  const { components } = await bomOf(out);
  const container = components.find((one: { type: string }) => one.type === 'container');
  expect(container).toMatchObject({
    name: 'dir:rootfs',
    components: [
      {
        purl: 'pkg:deb/debian/dash@0.5.12-12?arch=amd64&distro=trixie',
        licenses: [{ license: { id: 'BSD-3-Clause' } }],
      },
      { purl: 'pkg:npm/left@1.0.0', licenses: [{ expression: 'MIT OR ISC' }] },
    ],
  });
  ok(atomaTee(['verify', manifest]));
});
