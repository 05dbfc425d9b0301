/** The transports and the security module, from inside a machine: a program of the tests' own in an image of ours. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { build as bundle } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { build } from '../../src/tasks/build/index.ts';
import { digestOf, receive, send } from '../guest/transfer.ts';
import { atomaTee, digits, ok, root, scratch } from './cli.ts';
import { bootBest, bootMicrovm, bootNitro, connectWhenThere, type Machine } from './guest-machine.ts';

const LARGE = 64;
const PORT = 16;
const BOOT = 240_000;
const { dir, remove } = scratch();
const machines: Machine[] = [];
let eif: string;
let measurement: { pcr0: string; pcr1: string; pcr2: string };

const haveQemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0;
const haveNitro = Boolean(process.env.ATOMA_TEE_QEMU_NITRO && process.env.ATOMA_TEE_VHOST_VSOCK);

beforeAll(async () => {
  if (!haveQemu && !haveNitro) return;
  const program = join(dir, 'program.mjs');
  await bundle({
    absWorkingDir: root,
    entryPoints: ['test/guest/vsock.ts'],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    logLevel: 'warning',
  });
  const project = join(dir, 'guest');
  cpSync(digits, project, { recursive: true });
  const lock = join(project, 'atoma-tee.lock');
  rmSync(lock, { force: true });
  ok(atomaTee(['lock', project]));
  const digest = createHash('sha256').update(readFileSync(program)).digest('hex');
  writeFileSync(lock, readFileSync(lock, 'utf8').replace(/^program = .*$/m, `program = "${digest}"`));
  const { images } = await build({ project, out: join(dir, 'out'), programPath: program });
  const [image] = images;
  if (image?.target !== 'nitro') throw new Error('no image');
  ({ path: eif, measurement } = image);
}, BOOT);
afterAll(async () => {
  for (const machine of machines) machine.stop();
  await Promise.all(machines.map(({ ended }) => ended));
  remove();
});

const checks = (lines: string[]) => lines.filter((line) => /^guest: (PASS|FAIL)/.test(line));
const failed = (lines: string[]) => checks(lines).filter((line) => line.includes('FAIL'));

test.skipIf(!haveQemu)(
  'vsock loopback and virtio-serial inside a microvm (skipped without qemu-system-x86_64)',
  async () => {
    const port = join(dir, 'port.sock');
    const machine = await bootBest((accel) => bootMicrovm(eif, dir, accel, port));
    machines.push(machine);
    const host = await connectWhenThere(port);
    // Everything back, then we leave.
    let left = PORT << 20;
    host.on('data', (chunk) => {
      left -= chunk.length;
      if (left === 0) host.end(chunk);
      else if (!host.write(chunk)) host.pause();
    });
    host.on('drain', () => host.resume());
    const lines = await machine.ended;
    host.destroy();
    expect(failed(lines)).toEqual([]);
    expect(checks(lines)).toHaveLength(8);
    expect(lines).toContain('guest: done');
    expect(lines.findLast((line) => line.startsWith('init: '))).toBe('init: the program ended with status 7');
  },
  BOOT,
);

test.skipIf(!haveNitro)(
  'the security module and vsock to the host inside nitro-enclave (skipped without ATOMA_TEE_QEMU_NITRO and ATOMA_TEE_VHOST_VSOCK)',
  async () => {
    const uds = join(dir, 'vsock');
    const fromGuest = createServer({ allowHalfOpen: true });
    await new Promise<void>((resolve) => fromGuest.listen(`${uds}_6003`, resolve));
    const connection = new Promise<Parameters<typeof receive>[0]>((resolve) => fromGuest.once('connection', resolve));
    const machine = await bootBest((accel) => bootNitro(eif, dir, accel, uds));
    machines.push(machine);

    await machine.line('guest: listening 6002');
    const toGuest = await connectWhenThere(uds);
    toGuest.write('CONNECT 6002\n');
    const answer = await new Promise<Buffer>((resolve) =>
      toGuest.once('data', resolve).once('data', () => toGuest.pause()),
    );
    const greeting = answer.indexOf('\n') + 1;
    expect(answer.subarray(0, greeting).toString()).toMatch(/^OK /);
    toGuest.unshift(answer.subarray(greeting));
    send(toGuest, 5, LARGE, false);
    expect(await receive(toGuest, LARGE)).toBe(digestOf(4, LARGE));
    toGuest.end();

    const arrived = await connection;
    send(arrived, 7, LARGE, false);
    expect(await receive(arrived, LARGE)).toBe(digestOf(6, LARGE));
    arrived.end();
    const lines = await machine.ended;
    fromGuest.close();
    expect(failed(lines)).toEqual([]);
    expect(checks(lines)).toHaveLength(16);
    for (const [index, value] of [measurement.pcr0, measurement.pcr1, measurement.pcr2].entries()) {
      expect(lines).toContain(`guest: PCR${index} ${value}`);
    }
    expect(lines).toContain(`guest: PCR8 ${'00'.repeat(48)}`);
    expect(lines.findLast((line) => line.startsWith('init: '))).toBe('init: the program ended with status 7');
  },
  BOOT,
);
