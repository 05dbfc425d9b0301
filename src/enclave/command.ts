import { type ChildProcess, spawn } from 'node:child_process';
import { connect } from 'node:net';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { setTimeout as sleep } from 'node:timers/promises';
import { AtomaError } from '../core/errors.ts';
import type { CommandRuntime } from '../core/measured-config.ts';
import { askCommand } from './command-server.ts';
import { say } from './log.ts';

/** How a command ended. */
export interface Ended {
  /** As a shell has it: 128 and the number of the signal. */
  status: number;
  /** "status 3", "signal SIGKILL" */
  how: string;
}

export interface RunningCommand {
  ended: Promise<Ended>;
  /** SIGTERM, and SIGKILL where that does not help; resolves when it has ended. */
  stop(): Promise<Ended>;
}

/** Between two looks whether it is ready, and for an answer to one. */
const ANSWER_MS = 5_000;
const LOOK_MS = 50;
const GRACE_MS = 10_000;
const LONGEST_LINE = 4096;
/** Of the answer that says so. */
const LONGEST_READY = 1 << 20;

/**
 * Starts the measured command by way of this program's other role (`command-start.ts`) and waits until it is ready. Its
 * lines go to the console, marked as its own. `starter` is that role's command line.
 *
 * Throws `ERR_ENCLAVE_COMMAND` where it ends before, `ERR_ENCLAVE_COMMAND_START` where it takes too long (exit 1).
 */
export async function runCommand(runtime: CommandRuntime, starter: string[]): Promise<RunningCommand> {
  const [file = '', ...args] = starter;
  // A session of its own: what it starts gets its signals too.
  const child = spawn(file, args, { cwd: '/', env: {}, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout, child.stderr]) printLines(stream);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status, signal) => {
      resolve(
        signal === null
          ? { status: status ?? 1, how: `status ${status}` }
          : { status: 128 + constants.signals[signal], how: `signal ${signal}` },
      );
    });
  });
  const running = { ended, stop: () => stopCommand(child, ended) };
  try {
    await waitUntilReady(runtime, ended);
  } catch (error) {
    await running.stop();
    throw error;
  }
  return running;
}

async function waitUntilReady({ port, ready, startTimeout }: CommandRuntime, ended: Promise<Ended>): Promise<void> {
  const over = ended.then(({ how }) => {
    throw new AtomaError('unexpected', 'ERR_ENCLAVE_COMMAND', `the command ended with ${how} before it was ready`, {
      hint: 'what it printed is on the console: --console',
    });
  });
  over.catch(() => {});
  const deadline = performance.now() + startTimeout * 1000;
  while (performance.now() < deadline) {
    const left = Math.max(LOOK_MS, deadline - performance.now());
    if (await Promise.race([ready === null ? connects(port, left) : answers(port, ready, left), over])) return;
    await Promise.race([sleep(LOOK_MS), over]);
  }
  const what = ready === null ? 'takes no connections' : `does not answer 200 at ${ready}`;
  throw new AtomaError(
    'unexpected',
    'ERR_ENCLAVE_COMMAND_START',
    `the command ${what} on port ${port} after ${startTimeout} s`,
    { hint: 'what it printed is on the console: --console; start_timeout under [runtime] gives it longer' },
  );
}

function connects(port: number, limitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    const done = (ready: boolean) => {
      socket.destroy();
      resolve(ready);
    };
    socket.setTimeout(limitMs, () => done(false));
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
}

/** Takes the answer to its end: a program that is hung up on may die of it (SIGPIPE). */
async function answers(port: number, path: string, limitMs: number): Promise<boolean> {
  const request = { method: 'GET', path, headers: {}, body: Buffer.alloc(0) };
  const limits = { timeoutMs: Math.min(limitMs, ANSWER_MS), maxReply: LONGEST_READY };
  try {
    return (await askCommand(port, request, limits)).status === 200;
  } catch {
    return false;
  }
}

async function stopCommand({ pid }: ChildProcess, ended: Promise<Ended>): Promise<Ended> {
  const signal = (name: 'SIGTERM' | 'SIGKILL') => {
    try {
      if (pid !== undefined) process.kill(-pid, name);
    } catch {
      // It is gone.
    }
  };
  signal('SIGTERM');
  const graceful = new AbortController();
  await Promise.race([ended, sleep(GRACE_MS, undefined, { signal: graceful.signal }).catch(() => {})]);
  graceful.abort();
  // Also what it has left behind.
  signal('SIGKILL');
  return ended;
}

/** Line by line, marked: nobody shall take them for the agent's or the init's. */
function printLines(stream: Readable): void {
  const decoder = new StringDecoder('utf8');
  let line = '';
  const flush = () => {
    if (line !== '') console.log(`command: ${line.replace(/\p{Cc}+/gu, ' ')}`);
    line = '';
  };
  stream.on('data', (chunk: Buffer) => {
    for (const [i, piece] of decoder.write(chunk).split('\n').entries()) {
      if (i > 0) flush();
      // The rest of an endless line is dropped.
      if (line.length < LONGEST_LINE) line += piece.slice(0, LONGEST_LINE - line.length);
    }
  });
  stream.on('end', flush);
  stream.on('error', () => say('the output of the command broke off'));
}
