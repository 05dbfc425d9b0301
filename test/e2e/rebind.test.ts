/** New images for a sealed model, without sealing again: a new header and epochs, or a policy that names the signer. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { atomaTeeAsync, startBroker, stopBrokers } from './brokers.ts';
import { atomaTee, digits, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
const at = (...names: string[]) => join(dir, ...names);
const env = { XDG_CONFIG_HOME: at('config') };
const owner = join(digits, 'demo-owner.key');
const model = join(digits, 'model');
const input = join(digits, 'inputs/00.json');
const manifest = (name: string) => at(name, 'build.intoto.json');
const cli = (...args: string[]) => atomaTee([...args, '--json'], { env });

const runArgs = (image: string, sealed: string) => ['run', manifest(image), '--model', at(sealed), '--input', input];
const run = (image: string, sealed: string, ...more: string[]) =>
  atomaTeeAsync([...runArgs(image, sealed), '--json', ...more], env);
/** With the broker in the same process. */
const runHere = (image: string, sealed: string) =>
  cli(...runArgs(image, sealed), '--broker-key', at('broker.key'), '--allow-simulated', 'local');
const sealArgs = (image: string, out: string, ...more: string[]) => [
  ...['seal', model, '--manifest', manifest(image), '--sign', owner, '--to', at('broker.key.pub')],
  ...['--recovery', at('recovery.key.pub'), '--allow-simulated', 'local', '--out', at(out), ...more],
];
const rebindArgs = (sealed: string, image: string, out: string, ...more: string[]) => [
  ...['rebind', at(sealed), '--manifest', manifest(image), '--sign', owner, '--key', at('recovery.key')],
  ...['--to', at('broker.key.pub'), '--allow-simulated', 'local', '--out', at(out), ...more],
];

/** Builds the example with another version, signed with a key. */
function build(out: string, version: string, signer: string): void {
  const project = at(`project-${out}`);
  cpSync(digits, project, { recursive: true, filter: (from) => !from.endsWith('/dist') });
  const path = join(project, 'enclave.toml');
  const text = readFileSync(path, 'utf8').replace('version = "1.0.0"', `version = "${version}"`);
  const sign = `sign = { cert = ${JSON.stringify(at(`${signer}.crt`))}, key = ${JSON.stringify(at(signer))} }`;
  writeFileSync(path, text.replace('[nitro]', `[nitro]\n${sign}`));
  expect(readFileSync(path, 'utf8')).toContain(sign);
  ok(cli('build', project, '--out', at(out)));
}

beforeAll(() => {
  for (const type of ['broker', 'recovery', 'owner']) ok(cli('keygen', '--type', type, '--out', at(`${type}.key`)));
  for (const name of ['signer.key', 'other.key']) ok(cli('keygen', '--type', 'eif', '--out', at(name)));
  build('one', '1.0.0', 'signer.key');
  build('two', '1.0.1', 'signer.key');
  build('foreign', '1.0.1', 'other.key');
  ok(cli(...sealArgs('one', 'm1.sealed')));
});
afterEach(stopBrokers);
afterAll(remove);

describe('a policy that names the signer', () => {
  test('opens a rebuilt image that the same key signed, with no new header; another signer gets exit 4', () => {
    const sealed = ok(cli(...sealArgs('one', 'signer.sealed', '--bind', 'signer')));
    const [{ of: named }] = sealed.json.policy.any;
    expect(Object.keys(named).sort()).toEqual(['pcr8', 'tee']);
    expect(sealed.stderr).toContain('whoever holds that signing key decides which programs can open this model');
    const [one, two] = ['one', 'two'].map((image) => ok(runHere(image, 'signer.sealed')).json.measurement.of);
    expect(one.pcr0).not.toBe(two.pcr0);
    expect(one.pcr8).toBe(two.pcr8);
    const foreign = runHere('foreign', 'signer.sealed');
    expect({ code: foreign.code, error: foreign.json.error.code }).toEqual({ code: 4, error: 'ERR_RELEASE_POLICY' });
    expect(foreign.json.error.message).toContain('pcr8');
  });
});

test('a rebuilt image strands a model that names the image, until rebind: then the new one opens, and after advance the old header is refused', async () => {
  const state = ['--state', at('broker.db'), '--audit', at('audit.jsonl')];
  let broker = await startBroker(at('broker.key'), env, state);
  const code = async (image: string, sealed: string) => {
    const outcome = await run(image, sealed, '--broker', broker.url);
    return outcome.code === 0 ? 'released' : outcome.json.error.code;
  };
  expect(await code('two', 'm1.sealed')).toBe('ERR_RELEASE_POLICY');

  const rebound = ok(atomaTee(rebindArgs('m1.sealed', 'two', 'm2.sealed'), { env }));
  expect(rebound.stdout).toMatch(/^ {2}epoch +2 \(was 1\)$/m);
  expect(rebound.stdout).toContain('Not in force until every broker was advanced');
  expect(rebound.stdout).toContain(`broker advance ${at('m2.sealed')} --broker URL`);

  // Not in force yet: the old header is released to still.
  expect(await code('one', 'm1.sealed')).toBe('released');
  const advanced = await atomaTeeAsync(['broker', 'advance', at('m2.sealed'), '--broker', broker.url, '--json'], env);
  expect(advanced.json).toMatchObject({ epoch: 2, brokers: [{ url: broker.url, previous: 0, epoch: 2 }] });
  expect(await code('one', 'm1.sealed')).toBe('ERR_RELEASE_EPOCH');
  // A crash forgets nothing, and a second process with the same state knows it too.
  await broker.stop('SIGKILL');
  broker = await startBroker(at('broker.key'), env, state);
  const twin = await startBroker(at('broker.key'), env, state);
  expect(await code('one', 'm1.sealed')).toBe('ERR_RELEASE_EPOCH');
  expect(await code('two', 'm2.sealed')).toBe('released');

  const old = await atomaTeeAsync(
    ['broker', 'advance', at('m1.sealed'), '--broker', twin.url, '--broker', 'http://127.0.0.1:1', '--json'],
    env,
  );
  expect(old.code).toBe(4);
  expect(old.json.error).toMatchObject({
    code: 'ERR_RELEASE_EPOCH',
    details: { brokers: [{ url: twin.url, code: 'ERR_RELEASE_EPOCH' }, { code: 'ERR_BROKER_UNREACHABLE' }] },
  });
  const events = readFileSync(at('audit.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(events.map(({ event, epoch, index }) => `${index} ${event} ${epoch}`)).toEqual([
    '0 release 1',
    '1 advance 2',
    '2 release 2',
  ]);
});

test('what rebind and the broker refuse', () => {
  const refused = (...args: string[]) => {
    const { code, json } = cli(...args);
    return { code, error: json.error.code };
  };
  const stranger = rebindArgs('m1.sealed', 'one', 'never.sealed').map((arg) => (arg === owner ? at('owner.key') : arg));
  expect(refused(...stranger)).toEqual({ code: 3, error: 'ERR_SEAL_OWNER' });
  expect(refused(...rebindArgs('m1.sealed', 'one', 'm1.sealed'))).toEqual({ code: 2, error: 'ERR_REBIND_OUT' });
  const enclave = rebindArgs('m1.sealed', 'one', 'never.sealed', '--min-isvsvn', '1');
  expect(refused(...enclave)).toEqual({ code: 2, error: 'ERR_USAGE' });
  const serve = ['broker', 'serve', '--listen', '127.0.0.1:0', '--key'];
  ok(cli('keygen', '--type', 'broker', '--out', at('another.key')));
  expect(refused(...serve, at('another.key'), '--state', at('broker.db'))).toEqual({
    code: 2,
    error: 'ERR_BROKER_STATE',
  });
  expect(refused(...serve, at('another.key'), '--audit', at('audit.jsonl'))).toEqual({
    code: 3,
    error: 'ERR_BROKER_AUDIT',
  });
});
