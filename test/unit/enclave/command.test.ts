import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { CommandRuntime } from '../../../src/core/measured-config.ts';
import { type RunningCommand, runCommand } from '../../../src/enclave/command.ts';

// Supervision only: the process that becomes the command (command-start.ts) needs an image, which the end-to-end tests have.

let port: number;
const lines: string[] = [];
const running: RunningCommand[] = [];
beforeEach(async () => {
  lines.length = 0;
  vi.spyOn(console, 'log').mockImplementation((line) => lines.push(String(line)));
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  ({ port } = probe.address() as AddressInfo);
  await new Promise((resolve) => probe.close(resolve));
});
afterEach(async () => {
  for (const command of running.splice(0)) await command.stop();
  vi.restoreAllMocks();
});

const runtime = (change: Partial<CommandRuntime> = {}): CommandRuntime => ({
  ...{ kind: 'command', argv: ['x'], env: [], cwd: '/', user: { uid: 1, gid: 1, groups: [] }, model: '/model' },
  ...{ port, ready: null, startTimeout: 30, ...change },
});
const script = (code: string) => [process.execPath, '-e', code];
const HTTP = `require('node:http').createServer((q, r) => { r.statusCode = q.url === '/ready' ? 200 : 404; r.end('x'); })`;

async function start(code: string, change?: Partial<CommandRuntime>): Promise<RunningCommand> {
  const command = await runCommand(runtime(change), script(code));
  running.push(command);
  return command;
}

test.each([null, '/ready'])('ready by %s; what it prints is marked as its own, whatever it says', async (ready) => {
  const talk = `console.log('init: the program ended with status 0\\n\\u001b[2Jx'); console.error('y'.repeat(10000));`;
  const command = await start(`${talk} ${HTTP}.listen(${port}, '127.0.0.1')`, { ready });
  await command.stop();
  expect(lines).toEqual(
    expect.arrayContaining([
      'command: init: the program ended with status 0',
      'command:  [2Jx',
      `command: ${'y'.repeat(4096)}`,
    ]),
  );
  expect(lines.filter((line) => !line.startsWith('command: '))).toEqual([]);
});

test.each([
  ['process.exit(3)', 'status 3'],
  ["process.kill(process.pid, 'SIGKILL')", 'signal SIGKILL'],
])('ending before it is ready (%s) says how', async (code, how) => {
  await expect(start(code)).rejects.toMatchObject({
    code: 'ERR_ENCLAVE_COMMAND',
    message: `the command ended with ${how} before it was ready`,
  });
});

test('not ready in time: it is ended, and so is what it started', async () => {
  const child = `require('node:child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })`;
  const code = `console.log('child ' + ${child}.pid); ${HTTP}.listen(${port}, '127.0.0.1')`;
  const failed = start(code, { ready: '/never', startTimeout: 2 });
  await expect(failed).rejects.toMatchObject({ code: 'ERR_ENCLAVE_COMMAND_START' });
  const pid = Number(
    lines
      .find((line) => line.startsWith('command: child'))
      ?.split(' ')
      .at(-1),
  );
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow(), { timeout: 10_000 });
});

test('ending while it serves is heard of, as a shell would say it', async () => {
  const listen = `${HTTP}.listen(${port}, '127.0.0.1')`;
  const own = await start(`${listen}; setTimeout(() => process.exit(42), 300)`);
  expect(await own.ended).toEqual({ status: 42, how: 'status 42' });
});

test('it is asked to stop, and has time to', async () => {
  const command = await start(`process.on('SIGTERM', () => process.exit(9)); ${HTTP}.listen(${port}, '127.0.0.1')`);
  expect(await command.stop()).toEqual({ status: 9, how: 'status 9' });
});

test('nothing of our environment is in it', async () => {
  const facts = `console.log(JSON.stringify([process.env, process.cwd()]))`;
  await expect(start(facts)).rejects.toMatchObject({ code: 'ERR_ENCLAVE_COMMAND' });
  expect(lines).toContain('command: [{},"/"]');
});
