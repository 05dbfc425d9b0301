import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { AtomaError } from '../core/errors.ts';
import { HOST_VSOCK_PORT } from '../core/layout.ts';
import { connectVsock } from '../enclave/native/vsock.ts';
import { bootError } from './boot-failure.ts';
import { createConsole } from './console.ts';
import { type CleanUp, cleanUp, type Enclave, judge, type LaunchOptions, serve } from './enclave.ts';
import { takeCopy } from './image-parts.ts';
import { attachConsole, enclaveState, findNitroCli, runEnclave, terminateEnclave } from './nitro-cli.ts';
import { createPrivateDirectory } from './runtime-directory.ts';
import { stopwatch } from './stopwatch.ts';

export interface NitroOptions extends LaunchOptions {
  memoryMib: number;
  cpus: number;
  /** Makes the console readable, and with it whatever is in the enclave's memory; its evidence then says so (PCRs of zeros). */
  debug: boolean;
  /** How the program inside is reached; for tests, which have no enclave. */
  connect?: (cid: number, port: number, timeoutMs: number) => Promise<Duplex>;
}

const CONNECT_MS = 180_000;
/** Of one attempt: long, for the program serves the first connection that it gets, and one that was given up is none. */
const ATTEMPT_MS = 10_000;
const RETRY_MS = 200;
const POLL_MS = 1000;

/**
 * Runs a Nitro image in a real enclave of this EC2 instance, through nitro-cli. The image is measured here and then
 * booted from a private copy; what counts is what the hypervisor measures, in the enclave's own evidence. The enclave is
 * terminated whenever this process ends, unless it is killed by SIGKILL.
 *
 * Throws `ERR_NITRO_CLI_MISSING` (exit 5), `ERR_NITRO_CLI`, what `streamEif` and `accept` throw, `ERR_EIF_CRC`, what
 * `bootError` makes of a boot that fails, and whatever error the program inside reports.
 */
export async function launchNitro(options: NitroOptions): Promise<Enclave> {
  const { memoryMib, cpus, debug } = options;
  const cli = findNitroCli();
  const undo = cleanUp();
  try {
    const clock = stopwatch();
    const directory = createPrivateDirectory();
    undo.add(directory.remove);
    const { image, boot } = await takeCopy({ ...options, directory: directory.path });
    judge(image, options.accept);
    clock.lap('measure and copy');
    const console = createConsole(options.onLog);
    const { id, cid } = await start(cli, { eif: boot.eif, memoryMib, cpus, debug }, undo);
    if (debug) {
      const reader = attachConsole(cli, id);
      if (reader.stdout) console.listen(reader.stdout);
      reader.on('error', () => {});
      undo.add(() => reader.kill('SIGKILL'));
    }
    clock.lap('run-enclave');

    const watch = new AbortController();
    undo.add(() => watch.abort());
    const exited = gone(cli, id, watch.signal);
    // Without its console nothing is known of how far it came.
    const failure = (how: string, silent: boolean) =>
      debug
        ? bootError(console.facts(), how, { silent })
        : new AtomaError('unexpected', silent ? 'ERR_ENCLAVE_SILENT' : 'ERR_ENCLAVE_ENDED', how, {
            hint: 'what it printed can be read with --debug-mode only, which protects nothing',
          });
    const dead = exited.then(() => {
      throw failure('the enclave ended before it served', false);
    });
    dead.catch(() => {});
    const timeoutMs = options.bootTimeoutMs ?? CONNECT_MS;
    const silent = () => failure(`the enclave's program could not be reached within ${timeoutMs / 1000} s`, true);
    const connected = reach(options.connect ?? connectVsock, cid, timeoutMs, silent, watch.signal);
    // Hardware vouches here, so the host serves no evidence.
    const served = await serve({ connected, dead, attester: undefined }, options.host, undo, clock);
    return {
      ...served,
      launcher: { kind: 'nitro', enclave: id, cid, debug, memoryMib, cpus },
      measurement: image.measurement,
      exited,
      stop: undo.run,
    };
  } catch (error) {
    await undo.run();
    throw error;
  }
}

/** From the moment that nitro-cli is asked, there may be an enclave to end, if need be by its name. */
async function start(
  cli: string,
  plan: { eif: string; memoryMib: number; cpus: number; debug: boolean },
  undo: CleanUp,
): Promise<{ id: string; cid: number }> {
  const name = `atoma-tee-${process.pid}-${randomBytes(6).toString('hex')}`;
  let which: { id: string } | { name: string } = { name };
  const starting = new AbortController();
  let ended = false;
  const end = () => {
    if (ended) return;
    ended = true;
    // Before its enclave is looked for: one that still starts would be found by nobody.
    starting.abort();
    terminateEnclave(cli, which);
  };
  // A signal ends the process through `exit` (src/cli/base.ts), where nothing asynchronous happens any more.
  process.once('exit', end);
  undo.add(() => {
    process.off('exit', end);
    end();
  });
  const enclave = await runEnclave(cli, { ...plan, name }, { signal: starting.signal });
  which = { id: enclave.id };
  return enclave;
}

/** Resolves when nitro-cli does not list the enclave as running any more. */
async function gone(cli: string, id: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const state = await enclaveState(cli, id).catch(() => 'UNKNOWN');
    if (state === null || state === 'TERMINATING' || state === 'EMPTY') return;
    await sleep(POLL_MS, undefined, { signal }).catch(() => {});
  }
}

async function reach(
  connect: NonNullable<NitroOptions['connect']>,
  cid: number,
  timeoutMs: number,
  silent: () => Error,
  signal: AbortSignal,
): Promise<Duplex> {
  for (const deadline = performance.now() + timeoutMs; performance.now() < deadline && !signal.aborted; ) {
    const stream = await connect(cid, HOST_VSOCK_PORT, ATTEMPT_MS).catch(() => null);
    if (stream !== null) return stream;
    await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
  }
  throw silent();
}
