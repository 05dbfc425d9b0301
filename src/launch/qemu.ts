import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createSimulatedAttester } from '../attest/simulated-attester.ts';
import type { SimulatedRoot } from '../attest/simulated-root.ts';
import { AtomaError } from '../core/errors.ts';
import { bootError } from './boot-failure.ts';
import { type Console, createConsole } from './console.ts';
import { type CleanUp, cleanUp, type Enclave, judge, type LaunchOptions, serve } from './enclave.ts';
import { type ImageFiles, takeApart, takeCopy } from './image-parts.ts';
import { listenOnce } from './listen.ts';
import { startMachine } from './machine.ts';
import { qemuArguments } from './qemu-arguments.ts';
import { type FoundQemu, findQemu, type QemuAccel, type QemuWishes, qemuError } from './qemu-find.ts';
import { createPrivateDirectory } from './runtime-directory.ts';
import { type Stopwatch, stopwatch } from './stopwatch.ts';
import { startVsockDaemon } from './vhost-vsock.ts';

export interface QemuOptions extends LaunchOptions, QemuWishes {
  /** The simulated TEE's root: QEMU is no TEE, so its evidence is worth what the simulated TEE's is. */
  root: SimulatedRoot;
  memoryMib: number;
  cpus: number;
  /** True for a kernel that finds its devices by ACPI (Debian's), false for one that is told on its command line. */
  acpi: boolean;
  /** Told which QEMU is used, and of what did not work before it. */
  onNote?: ((text: string) => void) | undefined;
}

/** Under TCG on a busy machine a big image takes its time. */
const CONNECT_MS = 180_000;
const RETRY_MS = 50;
const TRIES = 3;
/** With KVM, Debian's kernel prints its first line within a second. */
const MUTE_MS = 20_000;

/**
 * Boots a Nitro image in the best QEMU there is (`findQemu`): the measured bytes, by a kernel of its own, on a machine
 * with a console and one channel to this process. KVM is used where it works, else TCG.
 *
 * Throws `ERR_QEMU_MISSING` (exit 5), `ERR_QEMU`, what `streamEif` and `accept` throw, `ERR_EIF_CRC`, what `bootError`
 * makes of a boot that fails, and whatever error the program inside reports.
 */
export async function launchQemu(options: QemuOptions): Promise<Enclave> {
  const { accept, onNote } = options;
  const qemu = await findQemu(options);
  const undo = cleanUp();
  try {
    const clock = stopwatch();
    const directory = createPrivateDirectory();
    undo.add(directory.remove);
    const take = qemu.machine === 'nitro-enclave' ? takeCopy : takeApart;
    const files = await take({ ...options, directory: directory.path });
    judge(files.image, accept);
    clock.lap('measure and copy');
    const accels = qemu.accels.flatMap((accel) => Array<QemuAccel>(isFragile(qemu, accel) ? TRIES : 1).fill(accel));
    for (const [attempt, accel] of accels.entries()) {
      onNote?.(`QEMU ${qemu.version}, machine ${qemu.machine}, ${accel}`);
      const last = attempt === accels.length - 1;
      try {
        return await boot({
          options,
          qemu,
          accel,
          attempt,
          last,
          directory: directory.path,
          files,
          undo,
          clock,
        });
      } catch (error) {
        if (last || !(error instanceof AtomaError)) throw error;
        if (isFragile(qemu, accel) && diedEarly(error)) {
          onNote?.(`${error.message}: a known fault of this QEMU's emulation; trying once more`);
          continue;
        }
        // A /dev/kvm that opens may still not carry a guest (nested virtualisation); TCG needs nothing.
        if (error.code !== 'ERR_QEMU' || accel === 'tcg') throw error;
        onNote?.(`${accel} does not work here (${error.message})`);
      }
    }
    throw new TypeError('no accelerator');
  } catch (error) {
    await undo.run();
    throw error;
  }
}

/** QEMU before version 8 now and then breaks a kernel that it emulates (see cpuModel in qemu-arguments.ts). */
const isFragile = ({ version }: FoundQemu, accel: QemuAccel): boolean =>
  accel === 'tcg' && Number.parseInt(version, 10) < 8;

/** The kernel gave up before it had started the init, for no reason that the image gave it. */
const diedEarly = ({ code, hint, details }: AtomaError): boolean =>
  code === 'ERR_ENCLAVE_BOOT' && hint === undefined && details?.stage === 'kernel';

interface Attempt {
  options: QemuOptions;
  qemu: FoundQemu;
  accel: QemuAccel;
  attempt: number;
  /** Nothing else is left to try. */
  last: boolean;
  directory: string;
  files: ImageFiles;
  undo: CleanUp;
  clock: Stopwatch;
}

/** Adds to `undo` only what succeeded; a failed attempt leaves nothing running. */
async function boot(attempt: Attempt): Promise<Enclave> {
  const { options, qemu, accel, directory, files, clock } = attempt;
  const { memoryMib, cpus, acpi, onLog } = options;
  const undo = cleanUp();
  try {
    clock.start();
    const timeoutMs = options.bootTimeoutMs ?? CONNECT_MS;
    const console = createConsole(onLog);
    const name = `channel${attempt.attempt}`;
    const silent = () =>
      bootError(console.facts(), `the enclave's program did not connect within ${timeoutMs / 1000} s`, {
        silent: true,
      });
    const channel =
      qemu.vhostVsock === undefined
        ? await serialChannel(join(directory, name), timeoutMs, silent, undo)
        : await vsockChannel(qemu.vhostVsock, directory, name, { program: console.program, timeoutMs, silent, undo });
    const attester = createSimulatedAttester(options.root, files.image.measurement);
    const plan = { qemu, accel, memoryMib, cpus, acpi, boot: files.boot, socket: channel.socket };
    const machine = startMachine(qemuArguments(plan), console);
    undo.add(machine.kill);
    const exited = machine.ended.then(() => {});
    const dead = Promise.race([
      machine.broken,
      ...(attempt.last || accel === 'tcg' ? [] : [mute(console, undo)]),
      machine.ended.then(async (how): Promise<never> => {
        // Where QEMU failed, that is the reason.
        await Promise.race([machine.broken, Promise.resolve()]);
        throw bootError(console.facts(), how);
      }),
    ]);
    dead.catch(() => {});
    const served = await serve({ connected: channel.connected(), dead, attester }, options.host, undo, clock);
    attempt.undo.add(undo.run);
    return {
      ...served,
      launcher: { kind: 'qemu', machine: qemu.machine, version: qemu.version, accel, memoryMib, cpus },
      measurement: { tee: 'simulated', root: options.root.fingerprint, of: files.image.measurement },
      exited,
      stop: attempt.undo.run,
    };
  } catch (error) {
    await undo.run();
    throw error;
  }
}

/** Rejects where a guest prints nothing at all for so long that the accelerator is to blame; never resolves. */
async function mute(console: Console, undo: CleanUp): Promise<never> {
  const over = new AbortController();
  undo.add(() => over.abort());
  await sleep(MUTE_MS, undefined, { signal: over.signal }).catch(() => {});
  if (!over.signal.aborted && console.facts().stage === 'nothing') {
    throw qemuError(`the guest printed nothing for ${MUTE_MS / 1000} s`);
  }
  return new Promise(() => {});
}

interface Channel {
  socket: string;
  /** Called when the machine has been started. */
  connected(): Promise<Duplex>;
}

/** QEMU connects when it starts; the program is there when it speaks first. */
async function serialChannel(socket: string, timeoutMs: number, silent: () => Error, undo: CleanUp): Promise<Channel> {
  const listener = await listenOnce(socket);
  undo.add(listener.close);
  return {
    socket,
    async connected() {
      const began = performance.now();
      const stream = await listener.connection(timeoutMs, silent);
      const spoke = Promise.withResolvers<void>();
      const timer = setTimeout(() => spoke.reject(silent()), timeoutMs - (performance.now() - began));
      undo.add(() => {
        clearTimeout(timer);
        stream.destroy();
      });
      stream.once('readable', spoke.resolve);
      await spoke.promise.finally(() => clearTimeout(timer));
      return stream;
    },
  };
}

/** The program listens: it says so on the console, when it does. */
async function vsockChannel(
  daemonProgram: string,
  directory: string,
  name: string,
  {
    program,
    timeoutMs,
    silent,
    undo,
  }: { program: Promise<void>; timeoutMs: number; silent: () => Error; undo: CleanUp },
): Promise<Channel> {
  const daemon = await startVsockDaemon(daemonProgram, directory, name);
  undo.add(daemon.stop);
  const over = new AbortController();
  undo.add(() => over.abort());
  return {
    socket: daemon.socket,
    async connected() {
      const deadline = performance.now() + timeoutMs;
      const late = sleep(timeoutMs, null, { signal: over.signal }).catch(() => null);
      await Promise.race([program, late]);
      while (!over.signal.aborted && performance.now() < deadline) {
        const stream = await Promise.race([daemon.connect(deadline - performance.now()), late]);
        if (stream === null) {
          await sleep(RETRY_MS);
          continue;
        }
        undo.add(() => stream.destroy());
        return stream;
      }
      throw silent();
    },
  };
}
