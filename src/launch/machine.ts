import type { Readable } from 'node:stream';
import type { Console } from './console.ts';
import { qemuError } from './qemu-find.ts';
import { spawnTied } from './tied.ts';

/** A QEMU that runs. */
export interface Machine {
  /** Resolves with what was seen from outside when it has ended. */
  ended: Promise<string>;
  /** Rejects where QEMU itself is at fault, `ERR_QEMU`; never resolves. */
  broken: Promise<never>;
  kill(): Promise<void>;
}

const MOST_SAID = 8 << 10;
/** What QEMU says when a virtual processor cannot go on; the process stays, and would for ever. */
const STUCK = /KVM internal error|kvm run failed|KVM: entry failed/;
/** TCG lists what it cannot emulate of "max"; it means nothing. */
const IDLE = /warning: TCG doesn't support requested feature/;

/** Starts QEMU; its standard output is the guest's console, its standard error its own. */
export function startMachine(command: string[], console: Console): Machine {
  const child = spawnTied(command, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [, stdout, stderr] = child.stdio as unknown as [null, Readable, Readable];
  console.listen(stdout);
  let said = '';
  const words = () => said.split('\n').filter((line) => line.trim() !== '' && !IDLE.test(line));
  const fail = () => qemuError(`QEMU failed: ${words()[0] ?? 'it did not say why'}`, { qemu: words().slice(0, 15) });
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => {});
  stderr.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < MOST_SAID) said += text.slice(0, MOST_SAID);
    if (STUCK.test(said)) broken.reject(fail());
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => broken.reject(qemuError(`cannot start QEMU: ${error.message}`)));
    child.once('close', (code, signal) => {
      // A guest that resets or switches off ends QEMU with 0.
      if (code !== 0) broken.reject(fail());
      resolve(code === 0 ? 'the machine reset or switched off' : `QEMU ended with ${code ?? signal}`);
    });
  });
  return {
    ended,
    broken: broken.promise,
    async kill() {
      child.kill('SIGKILL');
      if (child.pid !== undefined) await ended;
    },
  };
}
