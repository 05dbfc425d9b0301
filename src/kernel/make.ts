import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { AtomaError } from '../core/errors.ts';

export interface MakeOptions {
  /** All that make and its children see of an environment. */
  env: Record<string, string>;
  /** Called with every line that it prints. */
  onLine?: (line: string) => void;
}

/**
 * make and everything that it starts are a process group of their own, which ends with us however we end: a child of
 * the shell waits for the end of a pipe whose other end only we hold. Killing make alone would leave its compilers.
 */
const GUARDED = '{ cat <&3; kill -KILL 0; } >/dev/null 2>&1 & exec "$@" 3<&-';
const TAIL = 25;

/** Runs make in `dir`. Throws `ERR_KERNEL_BUILD` (exit 1) with the end of what it printed. */
export async function runMake(dir: string, args: string[], { env, onLine }: MakeOptions): Promise<void> {
  const child = spawn('/bin/sh', ['-c', GUARDED, 'sh', 'make', ...args], {
    cwd: dir,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  };
  // Before the temporary directory goes, which is another such listener: nobody may write to it any more.
  process.prependListener('exit', kill);
  const tail: string[] = [];
  const listen = (stream: Readable) =>
    createInterface({ input: stream }).on('line', (line) => {
      tail.push(line);
      if (tail.length > TAIL) tail.shift();
      onLine?.(line);
    });
  const [, stdout, stderr, guard] = child.stdio as unknown as [null, Readable, Readable, Writable];
  listen(stdout);
  listen(stderr);
  try {
    const [status, signal] = (await once(child, 'exit')) as [number | null, string | null];
    const closed = once(child, 'close');
    kill();
    guard.destroy();
    await closed;
    if (status === 0) return;
    throw new AtomaError(
      'unexpected',
      'ERR_KERNEL_BUILD',
      `expected make to build the kernel, found that it ended with ${signal ?? `status ${status}`}:\n${tail.join('\n')}`,
      { details: { output: tail } },
    );
  } finally {
    kill();
    process.removeListener('exit', kill);
  }
}
