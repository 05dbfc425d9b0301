import { chownSync } from 'node:fs';
import { createSimulatedAttester } from '../attest/simulated-attester.ts';
import type { SimulatedRoot } from '../attest/simulated-root.ts';
import { bootError } from './boot-failure.ts';
import { createConsole } from './console.ts';
import { cleanUp, type Enclave, judge, type LaunchOptions, serve } from './enclave.ts';
import { feedImage, sendGo } from './image-feed.ts';
import { listenOnce } from './listen.ts';
import { isHostRoot, UNPRIVILEGED } from './namespaces.ts';
import { createRuntimeDirectory } from './runtime-directory.ts';
import { startStage } from './stage-process.ts';
import { stopwatch } from './stopwatch.ts';
import { withReadableToolkit } from './toolkit.ts';

export interface SimulatedOptions extends LaunchOptions {
  /** The simulated TEE's root, which signs its evidence. */
  root: SimulatedRoot;
}

const HOSTNAME = 'enclave';
/** From the init's first instruction to the program's connection. */
const CONNECT_MS = 60_000;

/**
 * Launches a Nitro image in the simulated TEE: recomputes its registers, unpacks the very bytes that it measured, runs
 * the image's own init and program in new namespaces (key-release.md, "Simulated TEE"), and serves it as its host until
 * it serves itself. Nothing of the host is in its sight but one socket.
 *
 * Throws `ERR_NAMESPACES` (exit 5), what `streamEif` and `accept` throw, `ERR_EIF_CRC`, `ERR_LAUNCH*`, what `bootError`
 * makes of an early end, and whatever error the program inside reports: refused by a broker, another owner, ...
 */
export async function launchSimulated(options: SimulatedOptions): Promise<Enclave> {
  const owner = isHostRoot() ? UNPRIVILEGED : undefined;
  const runtime = createRuntimeDirectory(owner);
  const undo = cleanUp();
  undo.add(runtime.remove);
  try {
    const clock = stopwatch();
    const listener = await listenOnce(runtime.socket);
    undo.add(listener.close);
    if (owner !== undefined) chownSync(runtime.socket, owner, owner);
    const toolkit = withReadableToolkit(runtime.path, owner);
    const stage = startStage({ root: runtime.root, socket: runtime.socket, hostname: HOSTNAME }, toolkit);
    const ended = new Promise<void>((resolve) => stage.child.once('close', () => resolve()));
    undo.add(async () => {
      stage.child.kill('SIGKILL');
      await ended;
    });
    stage.running.catch(() => {});
    const console = createConsole(options.onLog);
    for (const output of stage.output) console.listen(output);

    // A stage that failed says why; the broken pipe that it leaves does not.
    const image = await feedImage(options.eif, stage.input, options.tap, options.onProgress).catch(async (error) => {
      if (error?.code === 'EPIPE' || error?.code === 'ERR_STREAM_DESTROYED') await stage.running;
      throw error;
    });
    judge(image, options.accept);
    clock.lap('measure and unpack');

    const attester = createSimulatedAttester(options.root, image.measurement);
    await sendGo(stage.input).catch(() => {});
    await stage.running;
    // No kernel of its own: it starts with the init.
    const facts = () =>
      ({ ...console.facts(), stage: console.facts().stage === 'program' ? 'program' : 'init' }) as const;
    const dead = ended.then(() => {
      throw bootError(facts(), 'the enclave ended');
    });
    dead.catch(() => {});
    const timeoutMs = options.bootTimeoutMs ?? CONNECT_MS;
    const silent = () =>
      bootError(facts(), `the enclave's program did not connect within ${timeoutMs / 1000} s`, { silent: true });
    const connected = listener.connection(timeoutMs, silent);
    const served = await serve({ connected, dead, attester }, options.host, undo, clock);
    return {
      ...served,
      launcher: { kind: 'simulated' },
      measurement: { tee: 'simulated', root: options.root.fingerprint, of: image.measurement },
      exited: ended,
      stop: undo.run,
    };
  } catch (error) {
    await undo.run();
    throw error;
  }
}
