import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSimulatedRoot } from '../../../src/attest/simulated-root.ts';
import { isHostRoot, UNPRIVILEGED } from '../../../src/launch/namespaces.ts';
import { createRuntimeDirectory } from '../../../src/launch/runtime-directory.ts';
import { launchSimulated } from '../../../src/launch/simulated.ts';
import { startStage } from '../../../src/launch/stage-process.ts';
import { copyToolkit } from '../../../src/launch/toolkit.ts';
import { measureEif } from '../../../src/nitro/index.ts';
import { asOrdinaryUser, isRoot } from '../../ordinary-user.ts';
import { directories, link, probeImage, temporary } from './image.ts';

/** Runs as /init: says what it sees and what it can do. */
const PROBE = `
const fs = require('node:fs'), os = require('node:os'), net = require('node:net');
const proc = '/rootfs/proc';
const attempt = (act) => { try { return act(); } catch (error) { return error.code; } };
const port = Number(fs.readFileSync('/rootfs/port', 'utf8'));
const facts = {
  env: process.env, pid: process.pid, argv: process.argv, hostname: os.hostname(), cwd: process.cwd(),
  root: fs.readdirSync('/'), rootfs: fs.readdirSync('/rootfs'), atoma: fs.readdirSync('/rootfs/run/atoma'),
  interfaces: fs.readdirSync('/rootfs/sys/class/net'),
  core: fs.readFileSync('/rootfs/proc/self/limits', 'utf8').match(/Max core file size +(\\S+) +(\\S+)/).slice(1),
  processes: fs.readdirSync(proc).filter((name) => Number(name)),
  uidMap: fs.readFileSync(proc + '/self/uid_map', 'utf8').trim().split(/ +/),
  descriptors: fs.readdirSync(proc + '/self/fd').map((fd) => attempt(() => fs.readlinkSync(proc + '/self/fd/' + fd))),
  mounts: fs.readFileSync(proc + '/self/mountinfo', 'utf8').trim().split('\\n').map((line) => line.split(' ')[4] + ' ' + line.split(' - ')[1].split(' ')[0]),
  status: Object.fromEntries(fs.readFileSync(proc + '/self/status', 'utf8').trim().split('\\n').map((line) => line.split(':\\t'))),
  writeSysctl: attempt(() => fs.writeFileSync(proc + '/sys/kernel/core_pattern', 'x')),
  sysrq: attempt(() => fs.writeFileSync(proc + '/sysrq-trigger', 'h')),
  userNamespaces: fs.readFileSync(proc + '/sys/user/max_user_namespaces', 'utf8').trim(),
  moreUserNamespaces: attempt(() => fs.writeFileSync(proc + '/sys/user/max_user_namespaces', '9')),
  escape: attempt(() => fs.readdirSync(proc + '/1/root/..')),
  killHost: attempt(() => process.kill(2, 0)),
};
net.connect(port, '127.0.0.1').on('error', (error) => done(error.code)).on('connect', () => done('connected'));
function done(tcp) { console.log(JSON.stringify({ ...facts, tcp })); }
`;

const directory = temporary();
let server: ReturnType<typeof createServer>;
let eif: string;

beforeAll(async () => {
  server = createServer((socket) => socket.end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  chmodSync(directory.path, 0o755);
  eif = (await probeImage(directory.path, PROBE, { port: String(port) })).path;
});

afterAll(() => {
  server.close();
  directory.remove();
});

const helper = ['--no-warnings', join(import.meta.dirname, 'launch-probe.ts')];
const run = promisify(execFile);
async function launch(image: string, as = (command: string[]) => command) {
  const [file = '', ...args] = as([process.execPath, ...helper, image]);
  const { stdout } = await run(file, args, { env: { PATH: process.env.PATH, SECRET: 'of the host' } });
  return JSON.parse(stdout) as { code: string; exitCode: number; hint?: string; message: string; log: string[] };
}

const users: [who: string, as: (command: string[]) => string[]][] = [['this user', (command) => command]];
if (isRoot) users.push(['an ordinary user', asOrdinaryUser]);

describe.each(users)('launched by %s', (who, as) => {
  let facts: Record<string, unknown> & { status: Record<string, string>; mounts: string[]; descriptors: string[] };
  beforeAll(async () => {
    const result = await launch(eif, as);
    expect(result).toMatchObject({ code: 'ERR_ENCLAVE_ENDED' });
    facts = JSON.parse(result.log[0] ?? '');
  });

  test('nothing of the host in its file system: one tmpfs, its own /proc, devices and one socket', () => {
    expect(facts.root).toEqual(expect.arrayContaining(['init', 'rootfs']));
    for (const name of ['etc', 'home', 'root', 'work', 'tmp']) expect(facts.root).not.toContain(name);
    expect(facts.rootfs).toEqual(['dev', 'hello', 'port', 'proc', 'run', 'sys']);
    expect(facts.atoma).toEqual(['host.sock']);
    expect(facts.escape).toEqual(facts.root);
    const devices = ['full', 'null', 'random', 'urandom', 'zero'].map((name) => `/rootfs/dev/${name}`);
    const disks = facts.mounts.filter((line) => !/ (tmpfs|proc|sysfs)$/.test(line)).map((line) => line.split(' ')[0]);
    expect(disks.filter((path) => !devices.includes(path ?? '')).sort()).toEqual(
      // Where the socket lies on a tmpfs of the host, it does not show here.
      disks.includes('/rootfs/run/atoma/host.sock') ? ['/rootfs/run/atoma/host.sock'] : [],
    );
  });

  test('no directory of the host, which the image could mount again as writable', () => {
    const beside = facts.mounts.filter((line) => line.startsWith('/rootfs/run/atoma'));
    expect(beside.map((line) => line.split(' ')[0])).toEqual(['/rootfs/run/atoma/host.sock']);
  });

  test('no user namespace inside, which would give the dropped capabilities back', () => {
    expect([facts.userNamespaces, facts.moreUserNamespaces]).toEqual(['0', 'EACCES']);
  });

  test('no core dump: the model in memory must not reach a disk, nor a handler of the host', () => {
    expect(facts.core).toEqual(['1', '1']);
  });

  test('no environment, no arguments, another hostname', () => {
    expect(facts.env).toEqual({});
    expect(facts.argv).toEqual(['/bin/node', '/init']);
    expect(facts.hostname).toBe('enclave');
    expect(facts.cwd).toBe('/');
  });

  test('no process but its own', () => {
    expect(facts.pid).toBe(1);
    expect(facts.processes).toEqual(['1']);
    expect(facts.killHost).toBe('ESRCH');
  });

  test('no network but a loopback that is its own', () => {
    expect(facts.interfaces).toEqual(['lo']);
    expect(facts.tcp).not.toBe('connected');
  });

  test('no descriptor of the launcher', () => {
    const files = facts.descriptors.filter((target) => target.startsWith('/'));
    expect(files).toEqual(['/rootfs/dev/null']);
    expect(facts.descriptors.filter((target) => target.startsWith('socket:'))).toHaveLength(2);
  });

  test('root inside, nobody outside: no new privileges, few capabilities, a filter, no say over the kernel', () => {
    expect(facts.uidMap).toEqual([
      '0',
      who === 'this user' && isHostRoot() ? String(UNPRIVILEGED) : expect.not.stringMatching(/^0$/),
      '1',
    ]);
    expect(facts.status).toMatchObject({ NoNewPrivs: '1', Seccomp: '2' });
    expect(facts.status.CapEff).toBe('00000000002410eb');
    expect(facts.status.CapBnd).toBe(facts.status.CapEff);
    expect(facts.writeSysctl).toBe('EACCES');
    // Not every kernel has it.
    expect(facts.sysrq).toMatch(/^(EACCES|ENOENT)$/);
  });
});

const root = await createSimulatedRoot();
const launchHere = (image: string, accept?: Parameters<typeof launchSimulated>[0]['accept']) => {
  const log: string[] = [];
  const launched = launchSimulated({
    eif: image,
    root,
    host: { model: image, brokers: [] },
    onLog: (line) => log.push(line),
    ...(accept ? { accept } : {}),
  });
  return { launched, log };
};

test('an image that is refused after it was measured is never executed', async () => {
  const { launched, log } = launchHere(eif, () => {
    throw new Error('refused');
  });
  await expect(launched).rejects.toThrow('refused');
  expect(log).toEqual([]);
});

test.each([
  ['rootfs', [link('rootfs', join(directory.path, 'victim'))]],
  ['rootfs/dev', [...directories('rootfs'), link('rootfs/dev', join(directory.path, 'victim'))]],
  ['rootfs/run', [...directories('rootfs'), link('rootfs/run', '../../sockets')]],
])('a link at %s cannot make the stage mount on the host, or make directories there', async (name, entries) => {
  const victim = join(directory.path, 'victim');
  mkdirSync(victim, { recursive: true });
  chmodSync(victim, 0o777);
  const image = await probeImage(join(directory.path, name.replace('/', '-')), 'console.log("runs")', {}, entries);
  const { launched, log } = launchHere(image.path);
  await expect(launched).rejects.toMatchObject({ code: 'ERR_CPIO_ESCAPE', exitCode: 2 });
  expect(log).toEqual([]);
  expect(readdirSync(victim)).toEqual([]);
});

test('a flipped byte: ERR_EIF_CRC and nothing runs; with the CRC mended, another measurement', async () => {
  const bytes = readFileSync(eif);
  const at = bytes.length - 1000;
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  const tampered = join(directory.path, 'tampered.eif');
  writeFileSync(tampered, bytes);
  const first = launchHere(tampered);
  await expect(first.launched).rejects.toMatchObject({ code: 'ERR_EIF_CRC', exitCode: 3 });
  expect(first.log).toEqual([]);

  bytes.writeUInt32BE(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))), 544);
  writeFileSync(tampered, bytes);
  const honest = (await measureEif(eif)).measurement;
  let found: string | undefined;
  const second = launchHere(tampered, (image) => {
    found = image.measurement.pcr0;
    throw new Error('measured');
  });
  await expect(second.launched).rejects.toThrow('measured');
  expect(found).toMatch(/^[0-9a-f]{96}$/);
  expect(found).not.toBe(honest.pcr0);
});

test('a truncated image ends in its own error, and nothing runs', async () => {
  const truncated = join(directory.path, 'truncated.eif');
  writeFileSync(truncated, readFileSync(eif).subarray(0, 1 << 20));
  const { launched, log } = launchHere(truncated);
  await expect(launched).rejects.toMatchObject({ code: 'ERR_EIF_TRUNCATED', exitCode: 2 });
  expect(log).toEqual([]);
});

test('where namespaces are forbidden: exit 5 and the mend', async () => {
  const script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"';
  const forbidden = (command: string[]) => [
    'unshare',
    '--user',
    '--map-root-user',
    'sh',
    '-c',
    script,
    'sh',
    ...command,
  ];
  const result = await launch(eif, forbidden);
  expect(result).toMatchObject({ code: 'ERR_NAMESPACES', exitCode: 5 });
  expect(result.hint).toContain('sysctl -w user.max_user_namespaces');
});

test('a line that never ends does not end the launcher', async () => {
  const script = `const fs = require('node:fs'), piece = Buffer.alloc(1 << 20, 'x');
    for (let i = 0; i < 700; i++) fs.writeSync(1, piece);
    fs.writeSync(1, '\\nlast');`;
  const image = await probeImage(join(directory.path, 'endless'), script);
  const result = await launch(image.path);
  expect(result).toMatchObject({ code: 'ERR_ENCLAVE_ENDED' });
  expect(result.log.map((line) => line.slice(0, 4))).toEqual(['xxxx', 'last']);
});

test('SIGKILL of the launcher ends everything inside; what it leaves is removed by the next', async () => {
  const image = await probeImage(join(directory.path, 'waits'), 'console.log("waiting"); setInterval(() => {}, 1000)');
  const launcher = spawn(process.execPath, [...helper, image.path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => launcher.stdout.once('data', resolve));
  const inside = descendants(launcher);
  expect(inside.length).toBeGreaterThanOrEqual(2);
  const ended = new Promise((resolve) => launcher.once('close', resolve));
  launcher.kill('SIGKILL');
  await ended;
  for (let i = 0; i < 100 && inside.some(alive); i++) await sleep(50);
  expect(inside.filter(alive)).toEqual([]);
  const next = createRuntimeDirectory();
  next.remove();
  expect(
    readdirSync(dirname(next.path)).filter((name) => name.startsWith(`atoma-tee-launch.${launcher.pid}.`)),
  ).toEqual([]);
});

test('a stage that was copied for an unprivileged user starts', async () => {
  const runtime = createRuntimeDirectory(isHostRoot() ? UNPRIVILEGED : undefined);
  try {
    const toolkit = copyToolkit(runtime.path);
    expect(existsSync(toolkit.stage)).toBe(true);
    const stage = startStage({ root: runtime.root, socket: runtime.socket, hostname: 'x' }, toolkit);
    stage.input.end();
    await expect(stage.running).rejects.toThrow('did not say go');
  } finally {
    runtime.remove();
  }
});

function descendants({ pid }: ChildProcess): number[] {
  const children = (of: number): number[] =>
    readdirSync(`/proc/${of}/task`).flatMap((task) =>
      readFileSync(`/proc/${of}/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
    );
  const all = children(pid ?? 0);
  for (const one of all) all.push(...children(one));
  return all;
}

function alive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
