/** Bad input and attacks, through the command line: the documented code, the exit code, and nothing half-written. */
import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atomaTee, digits, isRoot, type Outcome, ok, root, scratch, sealCommand } from './cli.ts';

const { dir, remove } = scratch();
const at = (...path: string[]) => join(dir, ...path);
const env = { XDG_CONFIG_HOME: at('config') };
const manifest = at('dist/build.intoto.json');
const image = at('dist/digits.eif');
const sealed = at('digits.sealed');
const model = join(digits, 'model');
const ownerKey = join(digits, 'demo-owner.key');
const input = join(digits, 'inputs/00.json');

const cli = (...args: string[]) => atomaTee([...args, '--json'], { env });
const sealArgs = (out: string, { owner = ownerKey, from = model, manifestPath = manifest } = {}) =>
  sealCommand({
    model: from,
    manifest: manifestPath,
    owner,
    broker: at('broker.key.pub'),
    recovery: at('recovery.key.pub'),
    out,
  });
const runArgs = ({ manifestPath = manifest, from = sealed, request = input, broker = at('broker.key') } = {}) => [
  'run',
  manifestPath,
  '--model',
  from,
  '--input',
  request,
  '--broker-key',
  broker,
  '--allow-simulated',
  'local',
  '--response',
  at('never.response'),
];

function refused(outcome: Outcome, code: string, exit: number): string {
  expect({ code: outcome.json.error?.code, exit: outcome.code, found: outcome.stdout }).toMatchObject({ code, exit });
  return outcome.json.error.message + (outcome.json.error.hint ?? '');
}

/** A copy of the example whose enclave.toml or files are changed. */
function project(name: string, change: (path: string) => void): string {
  const path = at(name);
  cpSync(digits, path, { recursive: true, filter: (from) => !from.endsWith('/dist') });
  change(path);
  return path;
}
const edit = (path: string, from: string | RegExp, to: string) => {
  const text = readFileSync(path, 'utf8');
  expect(text).toMatch(from);
  writeFileSync(path, text.replace(from, to));
};

/** Flips one bit; with `repair`, the attacker also puts the CRC right. */
function flip(path: string, offset: number, repair = false): void {
  const bytes = readFileSync(path);
  bytes[offset] = (bytes[offset] ?? 0) ^ 1;
  if (repair) bytes.writeUInt32BE(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))), 544);
  writeFileSync(path, bytes);
}

beforeAll(() => {
  ok(cli('build', digits, '--out', at('dist')));
  for (const type of ['broker', 'recovery', 'owner']) ok(cli('keygen', '--type', type, '--out', at(`${type}.key`)));
  ok(cli(...sealArgs(sealed)));
});
afterAll(remove);

describe('projects', () => {
  test('a misspelt key in enclave.toml: its name, its place and the nearest known key', () => {
    const path = project('misspelt', (p) => edit(join(p, 'enclave.toml'), /^owner/m, 'ownr'));
    const said = refused(cli('build', path), 'ERR_CONFIG_UNKNOWN_KEY', 2);
    expect(said).toMatch(/enclave\.toml:\d+/);
    expect(said).toContain('"ownr"');
    expect(said).toContain('"owner"');
    expect(existsSync(join(path, 'dist'))).toBe(false);
  });

  test('a model that is not there', () => {
    const path = project('missing', (p) => edit(join(p, 'enclave.toml'), /path = "model"/, 'path = "gone"'));
    refused(cli('build', path), 'ERR_MODEL_NOT_FOUND', 2);
    expect(existsSync(join(path, 'dist'))).toBe(false);
  });

  test('a model that is not ONNX', () => {
    const path = project('not-onnx', (p) => writeFileSync(join(p, 'model/digits.onnx'), 'PK\x03\x04 not a model'));
    refused(cli('build', path), 'ERR_MODEL_NOT_ONNX', 2);
  });

  test('a lock entry whose digest is of something else', () => {
    const path = project('digest', (p) =>
      edit(join(p, 'atoma-tee.lock'), /sha256 = "[0-9a-f]{8}/, 'sha256 = "00000000'),
    );
    refused(
      atomaTee(['build', path, '--json'], { env: { ...env, XDG_CACHE_HOME: at('cache') } }),
      'ERR_INPUT_DIGEST',
      3,
    );
    expect(existsSync(join(path, 'dist'))).toBe(false);
  });

  test('a lock made by another toolkit', () => {
    const path = project('toolkit', (p) =>
      edit(join(p, 'atoma-tee.lock'), /program = "[0-9a-f]{8}/, 'program = "00000000'),
    );
    expect(refused(cli('build', path), 'ERR_LOCK_TOOLKIT', 3)).toContain('lock --toolkit');
  });

  test('offline, with nothing in the cache', () => {
    const outcome = atomaTee(['build', digits, '--offline', '--out', at('offline'), '--json'], {
      env: { ...env, XDG_CACHE_HOME: at('empty') },
    });
    refused(outcome, 'ERR_OFFLINE_MISSING', 5);
    expect(existsSync(at('offline'))).toBe(false);
  });
});

describe('sealing', () => {
  test('a model other than the one that the image measured', () => {
    const other = at('other-model');
    cpSync(model, other, { recursive: true });
    appendFileSync(join(other, 'digits.onnx'), Buffer.from([0]));
    refused(cli(...sealArgs(at('never.sealed'), { from: other })), 'ERR_SEAL_MODEL_MISMATCH', 3);
    expect(readdirSync(dir).filter((name) => name.startsWith('never'))).toEqual([]);
  });

  test('an owner key other than the measured one', () => {
    refused(cli(...sealArgs(at('never.sealed'), { owner: at('owner.key') })), 'ERR_SEAL_OWNER', 3);
  });

  test('a broker key where an owner key belongs', () => {
    refused(cli(...sealArgs(at('never.sealed'), { owner: at('broker.key') })), 'ERR_KEY_KIND', 2);
  });

  test('an image that is not the one of the manifest', () => {
    mkdirSync(at('swapped'));
    cpSync(at('dist'), at('swapped'), { recursive: true });
    flip(at('swapped/digits.eif'), 1_000_000, true);
    const manifestPath = at('swapped/build.intoto.json');
    refused(cli(...sealArgs(at('never.sealed'), { manifestPath })), 'ERR_IMAGE_DIGEST', 3);
  });

  test.skipIf(!isRoot)('a full disk: no file, not even a part of one (needs root for a small tmpfs)', () => {
    mkdirSync(at('small'));
    expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=32k', 'tmpfs', at('small')]).status).toBe(0);
    try {
      refused(cli(...sealArgs(at('small/full.sealed'))), 'ERR_DISK_FULL', 1);
      expect(readdirSync(at('small'))).toEqual([]);
      const outcome = cli('build', digits, '--out', at('small/dist'));
      refused(outcome, 'ERR_DISK_FULL', 1);
      expect(readdirSync(at('small'))).toEqual([]);
    } finally {
      spawnSync('umount', [at('small')]);
    }
  });
});

describe('running', () => {
  test('an image with one flipped bit and a repaired CRC, under a repaired manifest: the broker says no', () => {
    const forged = at('forged');
    cpSync(at('dist'), forged, { recursive: true });
    // In the middle of Node, where nothing parses it: only the measurement can tell.
    flip(join(forged, 'digits.eif'), 60_000_000, true);
    const bytes = readFileSync(join(forged, 'digits.eif'));
    const digest = (name: string) =>
      spawnSync(`${name}sum`, [], { input: bytes, encoding: 'utf8' }).stdout.slice(0, name === 'sha256' ? 64 : 96);
    edit(
      join(forged, 'build.intoto.json'),
      /"sha256": "[0-9a-f]{64}",\s*"sha384": "[0-9a-f]{96}"/,
      `"sha256": "${digest('sha256')}", "sha384": "${digest('sha384')}"`,
    );
    const said = refused(cli(...runArgs({ manifestPath: join(forged, 'build.intoto.json') })), 'ERR_RELEASE_POLICY', 4);
    expect(said).toMatch(/pcr0/i);
    expect(existsSync(at('never.response'))).toBe(false);
  });

  test('another image than the one sealed to', () => {
    const other = project('other-image', (p) =>
      edit(join(p, 'enclave.toml'), /version = "1\.0\.0"/, 'version = "1.0.1"'),
    );
    ok(cli('build', other));
    refused(cli(...runArgs({ manifestPath: join(other, 'dist/build.intoto.json') })), 'ERR_RELEASE_POLICY', 4);
  });

  test("another owner's signature", () => {
    const theirs = project('theirs', (p) => copyFileSync(at('owner.key.pub'), join(p, 'demo-owner.pub')));
    ok(cli('build', theirs));
    const stolen = at('stolen.sealed');
    ok(cli(...sealArgs(stolen, { owner: at('owner.key'), manifestPath: join(theirs, 'dist/build.intoto.json') })));
    refused(cli(...runArgs({ from: stolen })), 'ERR_SEAL_OWNER', 3);
  });

  test('a broker that the model was not sealed to', () => {
    ok(cli('keygen', '--type', 'broker', '--out', at('wrong.key')));
    const outcome = cli(...runArgs({ broker: at('wrong.key') }));
    expect(outcome.code).toBe(4);
    expect(outcome.json.error.code).toMatch(/^ERR_RELEASE_/);
  });

  test('no simulated root allowed: the broker refuses simulated evidence', () => {
    const args = runArgs().filter((arg) => arg !== '--allow-simulated' && arg !== 'local');
    expect(cli(...args).code).toBe(4);
  });

  test.each([
    ['wrong name', { name: 'picture' }, /image/],
    ['wrong type', { datatype: 'INT64' }, /FP32/],
    ['wrong shape', { shape: [64] }, /shape|rank|dimension/i],
    ['too few values', { data: [1, 2, 3] }, /64|3/],
  ])('an input tensor of %s', (_, change, says) => {
    const request = JSON.parse(readFileSync(input, 'utf8'));
    Object.assign(request.inputs[0], change);
    writeFileSync(at('bad.json'), JSON.stringify(request));
    expect(refused(cli(...runArgs({ request: at('bad.json') })), 'ERR_INFERENCE', 2)).toMatch(says);
    expect(existsSync(at('never.response'))).toBe(false);
  });
});

describe('verify', () => {
  test('nothing to compare with is exit 2, never a pass', () => {
    refused(cli('verify', image), 'ERR_NO_EXPECTATION', 2);
    refused(cli('verify', sealed), 'ERR_NO_EXPECTATION', 2);
  });

  test('--expect none says so in the verdict', () => {
    const report = ok(cli('verify', image, '--expect', 'none')).json;
    expect(report.results[0].checks).toContainEqual(
      expect.objectContaining({ id: 'measurement.any', status: 'skipped' }),
    );
  });

  test('a simulated policy without --allow-simulated is a fail', () => {
    expect(cli('verify', sealed, '--manifest', manifest).code).toBe(3);
    expect(cli('verify', sealed, '--manifest', manifest, '--allow-simulated', `sha256:${'0'.repeat(64)}`).code).toBe(3);
  });

  test.each([
    ['truncated image', image, (path: string) => truncateSync(path, 1_000_000)],
    ['image with trailing bytes', image, (path: string) => appendFileSync(path, 'x')],
    ['flipped image', image, (path: string) => flip(path, 90_000_000)],
    ['flipped image with a repaired CRC', image, (path: string) => flip(path, 90_000_000, true)],
    ['truncated sealed model', sealed, (path: string) => truncateSync(path, 20_000)],
    ['sealed model with trailing bytes', sealed, (path: string) => appendFileSync(path, 'x')],
    ['sealed header with a flipped bit', sealed, (path: string) => flip(path, 700)],
  ])('%s: exit 3', (name, from, change) => {
    const path = at(`verify-${name.replaceAll(' ', '-')}`);
    copyFileSync(from, path);
    change(path);
    const outcome = cli('verify', path, '--manifest', manifest, '--allow-simulated', 'local');
    expect({ exit: outcome.code, verdict: outcome.json.verdict }).toEqual({ exit: 3, verdict: 'fail' });
  });

  test('a flipped bit in the payload is found with the recovery key', () => {
    const path = at('payload.sealed');
    copyFileSync(sealed, path);
    flip(path, 30_000);
    expect(cli('verify', path, '--manifest', manifest, '--allow-simulated', 'local').code).toBe(0);
    expect(
      cli('verify', path, '--manifest', manifest, '--allow-simulated', 'local', '--key', at('recovery.key')).code,
    ).toBe(3);
    refused(cli('unseal', path, '--key', at('recovery.key'), '--out', at('never.opened')), 'ERR_SEAL_TAMPERED', 3);
    expect(existsSync(at('never.opened'))).toBe(false);
  });

  test('a file of nobody: exit 2', () => {
    writeFileSync(at('noise'), 'hello');
    refused(cli('verify', at('noise'), '--expect', 'none'), 'ERR_KIND_UNKNOWN', 2);
  });
});

describe('killed in the middle', () => {
  const start = (args: string[]) =>
    spawn(join(root, 'bin/atoma-tee'), args, { env: { ...process.env, ...env }, stdio: 'ignore' });
  const exitCode = (child: ReturnType<typeof start>) =>
    new Promise<number | null>((resolve) => child.on('exit', (code) => resolve(code)));

  const killDuring = async (args: string[], ms: number) => {
    const child = start(args);
    setTimeout(() => child.kill('SIGKILL'), ms);
    await exitCode(child);
  };

  test.each(['SIGINT', 'SIGTERM'] as const)(
    'build, by %s while it writes: exit 1, and nothing is left',
    async (signal) => {
      mkdirSync(at(signal));
      const child = start(['build', digits, '--out', at(signal, 'out')]);
      const ended = exitCode(child);
      await expect
        .poll(() => readdirSync(at(signal), { recursive: true }).length, { timeout: 30_000, interval: 5 })
        .toBeGreaterThan(1);
      child.kill(signal);
      expect(await ended).toBe(1);
      expect(readdirSync(at(signal))).toEqual([]);
    },
  );

  test('run, by SIGINT: exit 1, no socket, directory or process is left', async () => {
    // Root's own TMPDIR is of no use to the user whom the launch is handed to.
    const child = spawn(join(root, 'bin/atoma-tee'), runArgs(), {
      env: { ...process.env, ...env, TMPDIR: dir },
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    const below = (pid: number): number[] => {
      const children = spawnSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' })
        .stdout.trim()
        .split('\n')
        .filter(Boolean)
        .map(Number);
      return [...children, ...children.flatMap(below)];
    };
    const commandOf = (pid: number) =>
      existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, 'utf8') : '';
    let processes: number[] = [];
    const serving = () => {
      processes = below(child.pid ?? 0);
      return processes.some((pid) => commandOf(pid).includes('/app/program.mjs'));
    };
    await expect.poll(serving, { timeout: 30_000, interval: 20 }).toBe(true);
    child.kill('SIGINT');
    expect(await ended).toBe(1);
    expect(readdirSync('/tmp').filter((name) => name.startsWith(`atoma-tee-launch.${child.pid}.`))).toEqual([]);
    await expect.poll(() => processes.filter((pid) => commandOf(pid) !== ''), { timeout: 5000 }).toEqual([]);
  });

  test.each([150, 400, 700, 1000])(
    'build, after %d ms: the old output is whole, and the next run succeeds',
    async (ms) => {
      const out = at(`killed-${ms}`);
      cpSync(at('dist'), out, { recursive: true });
      await killDuring(['build', digits, '--out', out], ms);
      expect(cli('verify', join(out, 'build.intoto.json')).code).toBe(0);
      ok(cli('build', digits, '--out', out));
      expect(readdirSync(out).sort()).toEqual(['bom.cdx.json', 'build.intoto.json', 'digits.eif', 'measurements.json']);
    },
  );

  test.each([300, 700, 900])(
    'seal, after %d ms: no sealed model or a whole one, and the next run succeeds',
    async (ms) => {
      const out = at(`killed-${ms}.sealed`);
      await killDuring(sealArgs(out), ms);
      const whole = ['verify', out, '--manifest', manifest, '--allow-simulated', 'local', '--key', at('recovery.key')];
      if (existsSync(out)) ok(cli(...whole));
      ok(cli(...sealArgs(out)));
      ok(cli(...whole));
      expect(readdirSync(dir).filter((name) => name.includes('.partial'))).toEqual([]);
    },
  );
});

test('flags beside --policy are refused: the policy would hold without them', () => {
  const files = ['--manifest', 'm', '--sign', 'o', '--to', 'b', '--out', 's', '--policy', 'p'];
  const { code, json } = atomaTee(['seal', 'model', ...files, '--not-after', '2020-01-01', '--json']);
  expect(code).toBe(2);
  expect(json.error).toMatchObject({ code: 'ERR_USAGE', message: expect.stringContaining('--not-after') });
});
