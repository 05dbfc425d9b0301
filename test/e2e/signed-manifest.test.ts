/** Who made it: a signed model, a signed build of it, both through sealing and back, through the command line. */
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atomaTee, digits, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
const at = (...names: string[]) => join(dir, ...names);
const env = { XDG_CONFIG_HOME: at('config') };
const cli = (...args: string[]) => atomaTee([...args, '--json'], { env });
const [manifest, bundle] = [at('dist/build.intoto.json'), at('dist/build.sigstore.json')];
const model = at('project/model');
const pub = at('build.key.pub');

const seal = (out: string, ...more: string[]) => [
  ...['seal', model, '--manifest', manifest, '--sign', join(digits, 'demo-owner.key'), '--to', at('broker.key.pub')],
  ...['--recovery', at('recovery.key.pub'), '--allow-simulated', 'local', '--out', at(out), ...more],
];

beforeAll(() => {
  for (const type of ['build', 'broker', 'recovery']) ok(cli('keygen', '--type', type, '--out', at(`${type}.key`)));
  ok(cli('keygen', '--type', 'build', '--out', at('other.key')));
  cpSync(digits, at('project'), { recursive: true, filter: (from) => !from.endsWith('/dist') });
  // First the model: its signature is one of its files, which the image measures.
  ok(cli('model', 'sign', model, '--key', at('build.key')));
  // Left out by every signature, and yet a file of the model.
  mkdirSync(join(model, '.github'));
  writeFileSync(join(model, '.github/unsigned'), 'x');
  const built = ok(cli('build', at('project'), '--out', at('dist'), '--sign', at('build.key'))).json;
  expect(built.signature).toBe(bundle);
});
afterAll(remove);

describe('a signed build', () => {
  test('is verified by its manifest or its signature; another key is exit 3', () => {
    for (const file of [manifest, bundle]) {
      expect(ok(cli('verify', file, '--key', pub)).json.verdict).toBe('pass');
      expect(cli('verify', file, '--key', at('other.key.pub'))).toMatchObject({ code: 3, json: { verdict: 'fail' } });
    }
  });

  test('says to whoever gives no key that one is needed', () => {
    expect(ok(atomaTee(['verify', manifest], { env })).stdout).toContain('no key was given that says by whom: --key');
    expect(cli('verify', bundle)).toMatchObject({ code: 2, json: { error: { code: 'ERR_NO_EXPECTATION' } } });
  });

  test('leaves no secret in what it writes', () => {
    const secret = readFileSync(at('build.key'), 'utf8').split('\n')[1] as string;
    for (const name of readdirSync(at('dist')).filter((file) => file.endsWith('.json')))
      expect(readFileSync(at('dist', name), 'utf8')).not.toContain(secret);
  });
});

describe('a signed model', () => {
  test('is sealed with its signature, answers in an enclave, and verifies when it is unsealed', () => {
    const { stderr } = ok(cli(...seal('model.sealed', '--model-key', pub)));
    expect(stderr).toMatch(/warning: sealed all the same: .*"\.github\/unsigned"/);
    const run = ['run', manifest, '--model', at('model.sealed'), '--input', join(digits, 'inputs/03.json')];
    const answer = ok(cli(...run, '--broker-key', at('broker.key'), '--allow-simulated', 'local')).json;
    expect(answer.outputs.length).toBeGreaterThan(0);
    ok(cli('unseal', at('model.sealed'), '--key', at('recovery.key'), '--out', at('opened')));
    expect(ok(cli('model', 'verify', at('opened'), '--key', pub)).json.verdict).toBe('pass');
    expect(ok(cli('verify', at('opened/model.sig'), '--key', pub)).json.results[0].kind).toBe('model-signature');
    writeFileSync(at('opened/digits.onnx'), 'x');
    expect(cli('model', 'verify', at('opened'), '--key', pub)).toMatchObject({ code: 3, json: { verdict: 'fail' } });
  });

  test('is not sealed where another key was to have signed it', () => {
    const sealed = cli(...seal('never.sealed', '--model-key', at('other.key.pub')));
    expect(sealed).toMatchObject({ code: 3, json: { error: { code: 'ERR_MODEL_SIGNATURE' } } });
    expect(readdirSync(dir).filter((name) => name.startsWith('never'))).toEqual([]);
  });

  test('and a manifest are judged in one go, the sealed model with the recovery key besides', () => {
    const both = ok(cli('verify', manifest, join(model, 'model.sig'), '--key', pub)).json;
    expect(both.results.map((result: { kind: string }) => result.kind)).toEqual(['build-manifest', 'model-signature']);
    const sealed = ['verify', at('model.sealed'), manifest, '--manifest', manifest, '--allow-simulated', 'local'];
    const opened = ok(cli(...sealed, '--key', at('recovery.key'))).json.results;
    expect(opened[1].notChecked.join()).toContain('no key was given');
    expect(opened[0].notChecked.join()).not.toContain('what is inside');
  });
});

describe('sealing to a build whose image is elsewhere', () => {
  const eif = at('dist/digits.eif');
  beforeAll(() => renameSync(eif, at('away.eif')));
  afterAll(() => renameSync(at('away.eif'), eif));

  test('takes the manifest at its word only with the key of who signed it, or if told so', () => {
    expect(cli(...seal('no.sealed'))).toMatchObject({ code: 2, json: { error: { code: 'ERR_FILE_NOT_FOUND' } } });
    const other = cli(...seal('no.sealed', '--manifest-key', at('other.key.pub')));
    expect(other).toMatchObject({ code: 3, json: { error: { code: 'ERR_MANIFEST_SIGNATURE' } } });
    const sealed = ok(cli(...seal('signed.sealed', '--manifest-key', pub)));
    expect(sealed.stderr).toContain('its measurement is what the signed manifest says');
    rmSync(bundle);
    expect(ok(cli(...seal('trusted.sealed', '--trust-manifest'))).stderr).toContain('UNSIGNED manifest');
    const policy = (out: string) => ok(cli('inspect', at(out))).json.policy.any;
    expect(policy('signed.sealed')).toEqual(policy('model.sealed'));
    expect(policy('trusted.sealed')).toEqual(policy('model.sealed'));
  });
});
