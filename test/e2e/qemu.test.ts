/** The built image boots: by QEMU's emulation everywhere, by KVM and as a whole EIF where the machine can. */
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSimulatedRoot } from '../../src/attest/simulated-root.ts';
import { findProgram } from '../../src/launch/programs.ts';
import { launchQemu } from '../../src/launch/qemu.ts';
import { kvmOpens } from '../../src/launch/qemu-find.ts';
import { createPrivateDirectory } from '../../src/launch/runtime-directory.ts';
import { partsOf, processesNaming, writeImage } from './boot.ts';
import { atomaTee, digits, ok, root, scratch, sealCommand } from './cli.ts';

const { dir, remove } = scratch();
const at = (...path: string[]) => join(dir, ...path);
const manifest = at('dist/build.intoto.json');
const input = join(digits, 'inputs/03.json');
const label = JSON.parse(readFileSync(join(digits, 'labels.json'), 'utf8'))['03'];

// Debian's QEMU from PATH, whatever the developer's environment names; the other one has its own tests below.
const { ATOMA_TEE_QEMU_NITRO: nitroQemu, ATOMA_TEE_VHOST_VSOCK: vhostVsock } = process.env;
for (const name of ['ATOMA_TEE_QEMU', 'ATOMA_TEE_VHOST_VSOCK']) delete process.env[name];
const env = { XDG_CONFIG_HOME: at('config'), TMPDIR: at('tmp') };
const found = findProgram('qemu-system-x86_64');

const runArgs = (...more: string[]) => [
  ...['run', manifest, '--model', at('digits.sealed'), '--input', input],
  ...['--broker-key', at('broker.key'), '--allow-simulated', 'local', '--tee', 'qemu', ...more],
];
const outputs = (name: string) =>
  ['receipt', 'evidence', 'response'].flatMap((kind) => [`--${kind}`, at(`${name}.${kind}`)]);

/** Everything that `run` left is verified; nothing is left in the temporary directory. */
function verifyRun(name: string): void {
  const verdict = atomaTee(
    [
      ...['verify', at(`${name}.receipt`), '--evidence', at(`${name}.evidence`), '--manifest', manifest],
      ...['--request', input, '--response', at(`${name}.response`), '--allow-simulated', 'local', '--json'],
    ],
    { env },
  );
  expect(ok(verdict).json).toMatchObject({ verdict: 'pass', simulated: true });
  expect(readdirSync(at('tmp'))).toEqual([]);
}
const answered = (result: { outputs: { name: string; data: unknown[] }[] }) =>
  result.outputs.find(({ name }) => name === 'label')?.data[0];

let built: any;
beforeAll(() => {
  mkdirSync(at('tmp'), { mode: 0o700 });
  built = ok(atomaTee(['build', digits, '--out', at('dist'), '--json'])).json;
  ok(atomaTee(['keygen', '--type', 'broker', '--out', at('broker.key')]));
  const owner = join(digits, 'demo-owner.key');
  const model = join(digits, 'model');
  ok(
    atomaTee(sealCommand({ model, manifest, owner, broker: at('broker.key.pub'), out: at('digits.sealed') }), { env }),
  );
});
afterAll(remove);

describe.skipIf(found === undefined)("QEMU's microvm, emulated", () => {
  const emulated = ['--machine', 'microvm', '--accel', 'tcg'];

  test('the image boots to an attested, verified answer', () => {
    const outcome = ok(atomaTee(runArgs(...emulated, ...outputs('tcg'), '--json'), { env }));
    expect(answered(outcome.json)).toBe(label);
    expect(outcome.json).toMatchObject({
      simulated: true,
      measurement: { tee: 'simulated', of: built.images[0].measurement },
      launcher: {
        kind: 'qemu',
        machine: 'microvm',
        accel: 'tcg',
        version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
        memoryMib: 1024,
        cpus: 2,
      },
    });
    expect(outcome.stderr).toMatch(/QEMU \d+\.\d+\.\d+, machine microvm, tcg/);
    verifyRun('tcg');
  });

  test('too little memory is said before anything boots, with the figure', () => {
    const outcome = atomaTee(runArgs(...emulated, '--memory', '512', '--console', '--json'), { env });
    expect(outcome.code).toBe(2);
    expect(outcome.json.error).toMatchObject({ code: 'ERR_MEMORY_TOO_SMALL', details: { memoryMib: 512 } });
    expect(outcome.json.error.message).toContain(String(outcome.json.error.details.neededMib));
    expect(outcome.stderr).not.toContain('  | ');
    expect(readdirSync(at('tmp'))).toEqual([]);
  });

  test('booted all the same with too little memory: called that, and the console is shown', () => {
    const args = runArgs(...emulated, '--memory', '256', '--force', '--response', at('never'), '--no-color');
    const outcome = atomaTee(args, { env });
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain('ERR_ENCLAVE_MEMORY');
    expect(outcome.stderr).toContain('--memory MIB');
    expect(outcome.stderr).toMatch(/^ {2}\| init: the image was not unpacked whole/m);
    expect(readdirSync(at('tmp'))).toEqual([]);
    expect(readdirSync(dir).filter((name) => name.startsWith('never'))).toEqual([]);
  });

  describe('broken images', async () => {
    const simulated = await createSimulatedRoot();
    let parts: Awaited<ReturnType<typeof partsOf>>;
    beforeAll(async () => {
      parts = await partsOf(at('dist/digits.eif'));
    });
    const bootError = async (
      name: string,
      of: Partial<{ kernel: Buffer; ramdisks: Buffer[] }>,
      bootTimeoutMs?: number,
    ) => {
      const { kernel, cmdline, init, root } = parts;
      const eif = at(`${name}.eif`);
      await writeImage(eif, { kernel, cmdline, ramdisks: [init, root], ...of });
      const machine = { memoryMib: 1024, cpus: 2, acpi: true, machine: 'microvm', accel: 'tcg' } as const;
      const options = { eif, root: simulated, host: { model: eif, brokers: [] }, bootTimeoutMs, ...machine };
      return launchQemu(options).catch((error) => error);
    };

    test('a root that was cut off: the init says so, and the stage is told', async () => {
      const error = await bootError('cut', { ramdisks: [parts.init, parts.root.subarray(0, 1 << 20)] });
      expect(error).toMatchObject({
        code: 'ERR_ENCLAVE_MEMORY',
        exitCode: 2,
        details: { stage: 'init', status: null },
      });
      expect(error.details.console).toContainEqual(expect.stringContaining('not unpacked whole'));
    });

    test('no init: the kernel panics, and its words are told', async () => {
      // Padding, which unpacks to nothing.
      const error = await bootError('panic', { ramdisks: [Buffer.alloc(512)] });
      expect(error).toMatchObject({ code: 'ERR_ENCLAVE_BOOT', exitCode: 1, details: { stage: 'kernel' } });
      expect(error.message).toContain('Kernel panic');
      expect(error.hint).toContain('/init');
    });

    test('a kernel that is none: QEMU says so', async () => {
      const error = await bootError('garbage', { kernel: Buffer.alloc(1 << 20, 'x'), ramdisks: [parts.init] });
      expect(error).toMatchObject({ code: 'ERR_QEMU', exitCode: 1, message: expect.stringContaining('kernel') });
    });

    test('a kernel that hangs: the time is up, and nothing goes on running', async () => {
      const kernel = Buffer.from(parts.kernel);
      kernel.fill(0x55, 1 << 20, 5 << 20);
      const error = await bootError('hangs', { kernel, ramdisks: [parts.init] }, 3000);
      expect(error).toMatchObject({ code: 'ERR_ENCLAVE_SILENT', details: { stage: 'nothing' } });
      expect(processesNaming(`atoma-tee-launch.${process.pid}.`)).toEqual([]);
    });
  });

  /** A launch that has started to boot, and the processes that belong to it. */
  async function booting() {
    const child = spawn(join(root, 'bin/atoma-tee'), runArgs(...emulated, '--console'), {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
    let said = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (text) => {
        said += text;
        if (said.includes('  | ')) resolve();
      });
      child.once('exit', () => reject(new Error(said)));
    });
    const machines = () => processesNaming(`atoma-tee-launch.${child.pid}.`);
    expect(machines()).not.toEqual([]);
    return { child, exit, machines, said: () => said };
  }

  test.each(['SIGINT', 'SIGTERM'] as const)('%s ends QEMU, and nothing is left', async (signal) => {
    const { child, exit, machines, said } = await booting();
    child.kill(signal);
    expect(await exit).toBe(1);
    expect(said()).toContain('ERR_INTERRUPTED');
    while (machines().length > 0) await sleep(20);
    expect(readdirSync(at('tmp'))).toEqual([]);
  });

  test('SIGKILL of the launcher ends QEMU too; the next launch removes what it left', async () => {
    const { child, exit, machines } = await booting();
    child.kill('SIGKILL');
    await exit;
    while (machines().length > 0) await sleep(20);
    expect(readdirSync(at('tmp'))).toHaveLength(1);
    const { TMPDIR } = process.env;
    process.env.TMPDIR = at('tmp');
    createPrivateDirectory().remove();
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
    expect(readdirSync(at('tmp'))).toEqual([]);
  });

  test.skipIf(!kvmOpens())('left to itself: KVM where it carries a guest, else emulation after saying so', () => {
    const outcome = ok(atomaTee(runArgs('--machine', 'microvm', ...outputs('kvm'), '--json'), { env }));
    expect(answered(outcome.json)).toBe(label);
    const { accel } = outcome.json.launcher;
    expect(outcome.stderr.includes('kvm does not work here')).toBe(accel === 'tcg');
    verifyRun('kvm');
  });
});

describe('no QEMU', () => {
  test('exit 5, the package, and where the other one is described', () => {
    const missing = (...more: string[]) =>
      atomaTee(runArgs(...more, '--json'), { env: { ...env, ATOMA_TEE_QEMU: '/nonexistent' } });
    expect(missing()).toMatchObject({ code: 5, json: { error: { code: 'ERR_QEMU_MISSING' } } });
  });

  test.skipIf(found === undefined || nitroQemu !== undefined)('a machine that this QEMU has not: docs/nitro.md', () => {
    const outcome = atomaTee(runArgs('--machine', 'nitro-enclave', '--json'), { env });
    expect(outcome.json.error).toMatchObject({
      code: 'ERR_QEMU_MISSING',
      hint: expect.stringContaining('docs/nitro.md'),
    });
    expect(outcome.code).toBe(5);
  });

  test('wishes that the simulated TEE would not heed are refused', () => {
    const args = runArgs('--accel', 'tcg', '--json').map((word) => (word === 'qemu' ? 'simulated' : word));
    expect(atomaTee(args, { env })).toMatchObject({ code: 2, json: { error: { code: 'ERR_USAGE' } } });
  });
});

describe.skipIf(nitroQemu === undefined || vhostVsock === undefined)("QEMU's nitro-enclave, the EIF itself", () => {
  test.each(['tcg', ...(kvmOpens() ? [undefined] : [])])(
    'accelerator %s: the registers in its NSM are the computed ones',
    (accel) => {
      const wish = ['--machine', 'nitro-enclave', ...(accel === undefined ? [] : ['--accel', accel])];
      const outcome = ok(
        atomaTee(runArgs(...wish, ...outputs('nitro'), '--console', '--json'), {
          env: { ...env, ATOMA_TEE_QEMU: nitroQemu ?? '', ATOMA_TEE_VHOST_VSOCK: vhostVsock ?? '' },
        }),
      );
      expect(answered(outcome.json)).toBe(label);
      expect(outcome.json.launcher).toMatchObject({ kind: 'qemu', machine: 'nitro-enclave' });
      const registers = [...outcome.stderr.matchAll(/atoma-tee: PCR([012]) ([0-9a-f]{96})$/gm)].map(([, n, hex]) => [
        `pcr${n}`,
        hex,
      ]);
      expect({ tee: 'nitro', ...Object.fromEntries(registers) }).toEqual(built.images[0].measurement);
      verifyRun('nitro');
    },
  );
});
