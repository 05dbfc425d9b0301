/** NITRO HARDWARE WAS NOT AVAILABLE: `run --tee nitro` up to a stand-in script named nitro-cli, which starts nothing. */
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { E26, ENCLAVE, standIn } from '../unit/launch/nitro-cli-stand-in.ts';
import { atomaTee, digits, ok, root, scratch, sealCommand } from './cli.ts';

const { dir, remove } = scratch();
const at = (...path: string[]) => join(dir, ...path);
const manifest = at('dist/build.intoto.json');
const env = (cli: string) => ({ XDG_CONFIG_HOME: at('config'), TMPDIR: at('tmp'), PATH: `${cli}:${process.env.PATH}` });
const runArgs = (...more: string[]) => [
  ...['run', manifest, '--model', at('digits.sealed'), '--input', join(digits, 'inputs/03.json')],
  ...['--broker-key', at('broker.key'), '--allow-simulated', 'local', '--tee', 'nitro', '--force', ...more],
];
/** Without the questions after its state. */
const verbs = (calls: string[][]) => calls.map(([verb]) => verb).filter((verb) => verb !== 'describe-enclaves');

beforeAll(() => {
  mkdirSync(at('tmp'), { mode: 0o700 });
  ok(atomaTee(['build', digits, '--out', at('dist')]));
  ok(atomaTee(['keygen', '--type', 'broker', '--out', at('broker.key')]));
  const [owner, model] = [join(digits, 'demo-owner.key'), join(digits, 'model')];
  ok(
    atomaTee(sealCommand({ model, manifest, owner, broker: at('broker.key.pub'), out: at('digits.sealed') }), {
      env: env(at('none')),
    }),
  );
});
afterAll(remove);

describe('run --tee nitro with a stand-in for nitro-cli (no hardware)', () => {
  test('nitro-cli refuses: its own words under our code, and nothing is left', () => {
    const cli = standIn(at('fails'), 'fails');
    const outcome = atomaTee(runArgs('--json', '--memory', '2048', '--cpus', '4'), { env: env(at('fails')) });
    expect(outcome.code).toBe(1);
    expect(outcome.json.error.code).toBe('ERR_NITRO_CLI');
    expect(outcome.json.error.message).toContain(E26);
    const [run = []] = cli.calls();
    expect(run.slice(3, 7)).toEqual(['--memory', '2048', '--cpu-count', '4']);
    expect(readdirSync(at('tmp'))).toEqual([]);
  });

  test('an enclave that cannot be reached: said, and terminated', () => {
    const cli = standIn(at('runs'), 'runs');
    const outcome = atomaTee(runArgs('--json', '--debug-mode', '--boot-timeout', '1'), { env: env(at('runs')) });
    expect(outcome.json.error).toMatchObject({
      code: 'ERR_ENCLAVE_SILENT',
      details: { console: ['init: hello from the console'] },
    });
    expect(verbs(cli.calls())).toEqual(['run-enclave', 'console', 'terminate-enclave']);
    expect(readdirSync(at('tmp'))).toEqual([]);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s while it boots: terminated exactly once, by its ID', async (signal) => {
    const cli = standIn(at(signal), 'runs');
    const child = spawn(join(root, 'bin/atoma-tee'), runArgs('--boot-timeout', '600'), {
      env: { ...process.env, ...env(at(signal)) },
      stdio: 'ignore',
    });
    const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
    // Its state is asked after once its ID is known.
    while (!cli.calls().some(([verb]) => verb === 'describe-enclaves')) await sleep(20);
    child.kill(signal);
    expect(await exit).toBe(1);
    expect(verbs(cli.calls())).toEqual(['run-enclave', 'terminate-enclave']);
    expect(cli.calls().findLast(([verb]) => verb === 'terminate-enclave')).toEqual([
      'terminate-enclave',
      '--enclave-id',
      ENCLAVE.id,
    ]);
    expect(readdirSync(at('tmp'))).toEqual([]);
  });

  test('less memory than nitro-cli’s four times the image: said before it is called', () => {
    const cli = standIn(at('memory'), 'runs');
    const args = runArgs('--json', '--memory', '700').filter((word) => word !== '--force');
    // Another manifest of the same image, which does not say that its kernel is for QEMU only.
    const statement = JSON.parse(readFileSync(manifest, 'utf8'));
    delete statement.predicate.buildDefinition.internalParameters.nitro;
    const silent = at('dist/silent.json');
    writeFileSync(silent, JSON.stringify(statement));
    const outcome = atomaTee(
      args.map((word) => (word === manifest ? silent : word)),
      { env: env(at('memory')) },
    );
    expect(outcome.code).toBe(2);
    expect(outcome.json.error.code).toBe('ERR_MEMORY_TOO_SMALL');
    expect(outcome.json.error.message).toContain('nitro-cli wants 4 times');
    expect(cli.calls()).toEqual([]);
  });

  test('a kernel that is for QEMU only is refused without --force', () => {
    const cli = standIn(at('kernel'), 'fails');
    const run = (args: string[]) => atomaTee(args, { env: env(at('kernel')) });
    const refused = run(runArgs('--json').filter((word) => word !== '--force'));
    expect(refused.json.error).toMatchObject({ code: 'ERR_NITRO_KERNEL', hint: expect.stringContaining('small') });
    expect(refused.code).toBe(2);
    expect(cli.calls()).toEqual([]);
    expect(run(runArgs('--json')).json.error.code).toBe('ERR_NITRO_CLI');
  });
});

test('no nitro-cli: exit 5 and the mend', () => {
  const outcome = atomaTee(runArgs('--json'), { env: env(at('none')) });
  expect(outcome).toMatchObject({ code: 5, json: { error: { code: 'ERR_NITRO_CLI_MISSING' } } });
});
