/** SGX HARDWARE WAS NOT AVAILABLE: Gramine images by gramine-direct where it is installed, else by a stand-in that runs what was measured. */
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fakeGramine, sgxKey } from '../unit/gramine/project.ts';
import { atomaTee, digits, ok, scratch, sealCommand } from './cli.ts';

const installed = process.env.ATOMA_TEE_GRAMINE ?? '';
const haveGramine = existsSync(join(installed, 'bin/gramine-direct'));
if (!haveGramine) console.warn('no Gramine: ATOMA_TEE_GRAMINE names no installation with bin/gramine-direct');

const { dir, remove } = scratch();
const at = (...path: string[]) => join(dir, ...path);
const input = join(digits, 'inputs/03.json');
const LABEL = JSON.parse(readFileSync(join(digits, 'labels.json'), 'utf8'))['03'] as number;
const env = { XDG_CONFIG_HOME: at('config'), TMPDIR: at('tmp') };
const cli = (args: string[]) => atomaTee(args, { env });

/**
 * The measured root as "/" of the measured Node with the measured program, as Gramine makes it, by namespaces: what is not
 * there is Gramine itself. /dev/attestation holds what it does without SGX.
 */
const STAND_IN = `#!/bin/sh
LIBPAL_PATH=none
if [ "$1" = --version ]; then
    echo "Gramine 1.9 (stand-in)"
fi
[ -e "$1.manifest" ] || exit 9
exec unshare --user --map-root-user --mount -- sh -ec '
  cd "$1"
  mount -t tmpfs tmpfs dev
  mkdir -p dev/attestation/keys
  for device in null zero random urandom; do : > dev/$device; mount --bind /dev/$device dev/$device; done
  mount -t tmpfs tmpfs run
  mount -t tmpfs tmpfs tmp
  mount --rbind /proc proc
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin ATOMA_TEE_HOST="$ATOMA_TEE_HOST" chroot . /usr/bin/node /app/program.mjs
' sh "$PWD/$1.gramine/root"
`;

/** The digits project for Gramine alone, with its libraries from `from`, built and sealed. */
function project(name: string, from: string) {
  const dir = at(name);
  cpSync(digits, dir, { recursive: true });
  const toml = readFileSync(join(dir, 'enclave.toml'), 'utf8').replace(/^targets = .*$/m, 'targets = ["gramine"]');
  writeFileSync(join(dir, 'enclave.toml'), `${toml}\n[gramine]\nfrom = "${from}"\nsign = { key = "sgx.pem" }\n`);
  writeFileSync(join(dir, 'sgx.pem'), sgxKey(), { mode: 0o600 });
  const [manifest, sealed] = [join(dir, 'out/build.intoto.json'), join(dir, 'digits.sealed')];
  ok(cli(['lock', dir, '--toolkit']));
  ok(cli(['build', dir, '--out', join(dir, 'out')]));
  const [owner, model, broker] = [join(digits, 'demo-owner.key'), join(digits, 'model'), at('broker.key.pub')];
  ok(cli(sealCommand({ model, manifest, owner, broker, out: sealed })));
  const run = (gramine: string, ...more: string[]) =>
    cli([
      ...['run', manifest, '--model', sealed, '--input', input, '--broker-key', at('broker.key')],
      ...['--allow-simulated', 'local', '--tee', 'gramine', '--gramine', gramine, '--json', ...more],
    ]);
  return { dir, manifest, run };
}

/** One inference from launch to a verified receipt. */
function checkRun({ dir, manifest, run }: ReturnType<typeof project>, gramine: string): void {
  const out = (name: string) => join(dir, name);
  const before = readdirSync(out('out'), { recursive: true }).sort();
  const ran = ok(
    run(gramine, '--receipt', out('receipt'), '--evidence', out('evidence'), '--response', out('response')),
  ).json;
  const measurement = JSON.parse(readFileSync(manifest, 'utf8')).subject;
  expect(measurement.map(({ name }: { name: string }) => name)).toContain('digits.manifest.sgx');
  expect(ran).toMatchObject({
    simulated: true,
    launcher: { kind: 'gramine', mode: 'direct', debug: false },
    measurement: { tee: 'simulated', of: { tee: 'sgx', isvprodid: 0, isvsvn: 0 } },
    outputs: [{ name: 'label', data: [LABEL] }, {}],
  });
  expect(readdirSync(out('out'), { recursive: true }).sort()).toEqual(before);
  expect(readdirSync(at('tmp'))).toEqual([]);
  const verified = cli([
    ...['verify', out('receipt'), '--evidence', out('evidence'), '--request', input, '--response', out('response')],
    ...['--manifest', manifest, '--allow-simulated', 'local'],
  ]);
  expect(ok(verified).stdout).toMatch(/PASS +SIMULATED/);
}

let standIn: ReturnType<typeof project>;
beforeAll(() => {
  mkdirSync(at('tmp'), { mode: 0o700 });
  ok(cli(['keygen', '--type', 'broker', '--out', at('broker.key')]));
  fakeGramine(at('gramine'));
  writeFileSync(at('gramine/bin/gramine-direct'), STAND_IN);
  chmodSync(at('gramine/bin/gramine-direct'), 0o755);
  standIn = project('stand-in', at('gramine'));
});
afterAll(remove);

describe('run --tee gramine with a stand-in for gramine-direct', () => {
  test('answers, with a receipt that verifies, SIMULATED; the build is left as it is', () => {
    checkRun(standIn, at('gramine'));
  });

  test('without Gramine: exit 5, and what to install', () => {
    mkdirSync(at('nothing'));
    const outcome = standIn.run(at('nothing'));
    expect(outcome.code).toBe(5);
    expect(outcome.json.error).toMatchObject({
      code: 'ERR_GRAMINE_MISSING',
      message: expect.stringContaining('gramine-direct'),
      hint: expect.stringMatching(/install Gramine/),
    });
  });

  test('a file that was changed after the build: exit 3, by its name, before anything runs', () => {
    const changed = at('changed');
    cpSync(join(standIn.dir, 'out'), changed, { recursive: true, verbatimSymlinks: true });
    appendFileSync(join(changed, 'digits.gramine/root/app/program.mjs'), '\n');
    const outcome = cli([
      ...['run', join(changed, 'build.intoto.json'), '--model', join(standIn.dir, 'digits.sealed'), '--input', input],
      ...['--broker-key', at('broker.key'), '--tee', 'gramine', '--gramine', at('gramine'), '--json'],
    ]);
    expect(outcome.code).toBe(3);
    expect(outcome.json.error).toMatchObject({
      code: 'ERR_GRAMINE_FILE_DIGEST',
      message: expect.stringContaining('app/program.mjs'),
    });
    rmSync(changed, { recursive: true });
  });

  test('an image for Gramine is none for the others, and the other way round', () => {
    for (const tee of ['simulated', 'qemu']) {
      const outcome = cli([
        ...['run', standIn.manifest, '--model', join(standIn.dir, 'digits.sealed'), '--input', input],
        ...['--broker-key', at('broker.key'), '--tee', tee, '--json'],
      ]);
      expect(outcome.json.error.code).toBe('ERR_MANIFEST_NO_IMAGE');
    }
    const flag = standIn.run(at('gramine'), '--cpus', '2');
    expect([flag.code, flag.json.error.code]).toEqual([2, 'ERR_USAGE']);
  });
});

describe('run --tee gramine with the Gramine that ATOMA_TEE_GRAMINE names', () => {
  test.skipIf(!haveGramine)('answers from real Gramine, with a receipt that verifies, SIMULATED', () => {
    checkRun(project('real', installed), installed);
  });
});
