import { chownSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { createSimulatedAttester } from '../attest/simulated-attester.ts';
import type { SimulatedRoot } from '../attest/simulated-root.ts';
import { AtomaError } from '../core/errors.ts';
import type { SimulatedMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { type CallOptions, call, type Reply } from '../enclave/http2.ts';
import { type MeasuredEif, requireCrc, type StreamOptions } from '../nitro/index.ts';
import { type HostChannel, type HostServices, serveEnclave } from './host.ts';
import { feedImage, sendGo } from './image-feed.ts';
import { isHostRoot, UNPRIVILEGED } from './namespaces.ts';
import { createRuntimeDirectory } from './runtime-directory.ts';
import { startStage } from './stage-process.ts';
import { withReadableToolkit } from './toolkit.ts';

export interface LaunchOptions {
  /** Path of the image. */
  eif: string;
  /** The simulated TEE's root, which signs its evidence. */
  root: SimulatedRoot;
  host: HostServices;
  /** Listens to the ramdisks as they are measured: `streamEif`. */
  tap?: StreamOptions['onRamdisk'];
  /** Judges the measured image before anything of it is executed; throws to refuse it. */
  accept?: (image: MeasuredEif) => void;
  /** Lines that the init and the program print. */
  onLog?: (line: string) => void;
  onProgress?: OnProgress | undefined;
}

/** An enclave that serves. */
export interface Enclave {
  image: MeasuredEif;
  measurement: SimulatedMeasurement;
  /** Milliseconds per step, launcher's and enclave's, in order. */
  timings: Record<string, number>;
  /** One request to the program inside. */
  request(options: CallOptions): Promise<Reply>;
  /** Resolves when everything inside has ended. */
  exited: Promise<void>;
  stop(): Promise<void>;
}

const HOSTNAME = 'enclave';
/** Of what the image prints, the rest of a line is dropped. */
const LONGEST_LINE = 16 << 10;
/** From the init's first instruction to the program's connection. */
const CONNECT_MS = 60_000;

/**
 * Launches a Nitro image in the simulated TEE: recomputes its registers, unpacks the very bytes that it measured, runs
 * the image's own init and program in new namespaces (key-release.md, "Simulated TEE"), and serves it as its host until
 * it serves itself. Nothing of the host is in its sight but one socket.
 *
 * Throws `ERR_NAMESPACES` (exit 5), what `streamEif` and `accept` throw, `ERR_EIF_CRC`, `ERR_LAUNCH*`, and whatever
 * error the program inside reports: refused by a broker, another owner, another model, ...
 */
export async function launchSimulated(options: LaunchOptions): Promise<Enclave> {
  const owner = isHostRoot() ? UNPRIVILEGED : undefined;
  const runtime = createRuntimeDirectory(owner);
  const cleanUp: (() => unknown)[] = [runtime.remove];
  const stop = async () => {
    for (const step of cleanUp.splice(0).reverse()) await step();
  };
  try {
    const clock = stopwatch();
    const listener = await listen(runtime.socket, owner);
    cleanUp.push(listener.close);
    const toolkit = withReadableToolkit(runtime.path, owner);
    const stage = startStage({ root: runtime.root, socket: runtime.socket, hostname: HOSTNAME }, toolkit);
    const ended = new Promise<void>((resolve) => stage.child.once('close', () => resolve()));
    cleanUp.push(async () => {
      stage.child.kill('SIGKILL');
      await ended;
    });
    stage.running.catch(() => {});
    const log = keepLog(stage.output, options.onLog);

    // A stage that failed says why; the broken pipe that it leaves does not.
    const image = await feedImage(options.eif, stage.input, options.tap, options.onProgress).catch(async (error) => {
      if (error?.code === 'EPIPE' || error?.code === 'ERR_STREAM_DESTROYED') await stage.running;
      throw error;
    });
    requireCrc(image);
    options.accept?.(image);
    clock.lap('measure and unpack');

    const attester = createSimulatedAttester(options.root, image.measurement);
    await sendGo(stage.input).catch(() => {});
    await stage.running;
    const dead = ended.then(() => {
      throw new AtomaError('unexpected', 'ERR_ENCLAVE_ENDED', `the enclave ended before it served: ${log.last()}`);
    });
    dead.catch(() => {});
    const socket = await Promise.race([listener.connection(CONNECT_MS), dead]);
    clock.lap('boot to program');
    const channel: HostChannel = await serveEnclave(socket, options.host, attester);
    cleanUp.push(() => channel.close());
    // The program's own reason, which arrives before it ends, is better than the fact that it ended.
    const { session, timings } = await Promise.race([channel.ready, dead]);
    clock.start();
    return {
      image,
      measurement: { tee: 'simulated', root: options.root.fingerprint, of: image.measurement },
      timings: { ...clock.laps, ...timings },
      request: (request) => call(session, request),
      exited: ended,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function stopwatch() {
  let since = performance.now();
  const laps: Record<string, number> = {};
  const start = () => {
    since = performance.now();
  };
  return {
    laps,
    start,
    lap(name: string) {
      laps[name] = performance.now() - since;
      start();
    },
  };
}

/** A server for one connection. */
async function listen(path: string, owner: number | undefined) {
  const first = Promise.withResolvers<Socket>();
  const server: Server = createServer((socket) => {
    server.close();
    socket.on('error', () => {});
    first.resolve(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  if (owner !== undefined) chownSync(path, owner, owner);
  let timer: NodeJS.Timeout | undefined;
  return {
    connection(timeoutMs: number): Promise<Socket> {
      timer = setTimeout(() => {
        const why = `the enclave's program did not connect within ${timeoutMs / 1000} s`;
        first.reject(new AtomaError('unexpected', 'ERR_ENCLAVE_SILENT', why));
      }, timeoutMs);
      return first.promise.finally(() => clearTimeout(timer));
    },
    close() {
      clearTimeout(timer);
      server.close();
    },
  };
}

function keepLog(outputs: Readable[], onLog?: (line: string) => void) {
  let last = 'it said nothing';
  for (const output of outputs) {
    onLines(output, (line) => {
      const clean = line.replace(/\p{Cc}+/gu, ' ');
      last = clean.slice(0, 500);
      onLog?.(clean);
    });
  }
  return { last: () => last };
}

/** Not readline, which keeps a line that never ends until it ends the process. Of a longer line only the start is told. */
function onLines(input: Readable, tell: (line: string) => void): void {
  let line = '';
  input.setEncoding('utf8');
  input.on('data', (text: string) => {
    const [first = '', ...more] = text.split('\n');
    line = (line + first).slice(0, LONGEST_LINE);
    for (const next of more) {
      tell(line);
      line = next.slice(0, LONGEST_LINE);
    }
  });
  input.on('end', () => {
    if (line !== '') tell(line);
  });
}
