import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SimulatedAttester } from '../attest/simulated-attester.ts';
import { AtomaError } from '../core/errors.ts';
import type { NitroMeasurement, SgxMeasurement, SimulatedMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { type CallOptions, call, type Reply } from '../enclave/http2.ts';
import { type MeasuredEif, requireCrc, type StreamOptions } from '../nitro/index.ts';
import { type HostChannel, type HostServices, serveEnclave } from './host.ts';
import type { Stopwatch } from './stopwatch.ts';

/** What every launcher takes. */
export interface AnyLaunchOptions {
  host: HostServices;
  /** Lines that the kernel, the init and the program print. */
  onLog?: ((line: string) => void) | undefined;
  onProgress?: OnProgress | undefined;
  /** From the first instruction to the program's connection; the default is the launcher's. */
  bootTimeoutMs?: number | undefined;
}

/** What the launchers of Nitro images take. */
export interface LaunchOptions extends AnyLaunchOptions {
  /** Path of the image. */
  eif: string;
  /** Listens to the ramdisks as they are measured: `streamEif`. */
  tap?: StreamOptions['onRamdisk'];
  /** Judges the measured image before anything of it is executed; throws to refuse it. */
  accept?: (image: MeasuredEif) => void;
}

/** What an enclave runs on: the shape in `run --json`. */
export type Launcher =
  | { kind: 'simulated' }
  | {
      kind: 'qemu';
      machine: 'microvm' | 'nitro-enclave';
      version: string;
      accel: 'kvm' | 'tcg';
      memoryMib: number;
      cpus: number;
    }
  | { kind: 'nitro'; enclave: string; cid: number; debug: boolean; memoryMib: number; cpus: number }
  | { kind: 'gramine'; mode: 'sgx' | 'direct'; version?: string; debug: boolean };

/** An enclave that serves. */
export interface Enclave {
  launcher: Launcher;
  measurement: SimulatedMeasurement | NitroMeasurement | SgxMeasurement;
  /** Milliseconds per step, launcher's and enclave's, in order. */
  timings: Record<string, number>;
  /** One request to the program inside. */
  request(options: CallOptions): Promise<Reply>;
  /** Resolves when everything inside has ended. */
  exited: Promise<void>;
  stop(): Promise<void>;
}

/** What has to be undone when a launch ends. */
export interface CleanUp {
  add(step: () => unknown): void;
  /** The latest first, each once; a step that fails does not keep the others from theirs. */
  run(): Promise<void>;
}

export function cleanUp(): CleanUp {
  const steps: (() => unknown)[] = [];
  return {
    add: (step) => steps.push(step),
    async run() {
      let failure: { error: unknown } | undefined;
      for (const step of steps.splice(0).reverse()) {
        try {
          await step();
        } catch (error) {
          failure ??= { error };
        }
      }
      if (failure) throw failure.error;
    },
  };
}

/** Refuses an image that was just measured: `ERR_EIF_CRC`, and what the caller's `accept` throws. */
export function judge(image: MeasuredEif, accept: LaunchOptions['accept']): void {
  requireCrc(image);
  accept?.(image);
}

const ENDING_MS = 3000;
/** Longer than a program inside may think (src/enclave/program.ts): its own words about that are better. */
const ANSWER_MS = 130_000;

/** `ERR_INFERENCE` (exit 1): the enclave ended, or cut an answer off. */
function unanswered(cause: unknown): never {
  const why = cause instanceof Error ? cause.message : 'it did not say why';
  throw new AtomaError('unexpected', 'ERR_INFERENCE', `the enclave did not answer: ${why}`, { cause });
}

/** An enclave that runs, on its way to serving. */
export interface Booting {
  /** The program's byte stream, once it connects or takes our connection. */
  connected: Promise<Duplex>;
  /** Rejects, with the reason, when the enclave ends; never resolves. */
  dead: Promise<never>;
  /** Serves evidence where no hardware does. */
  attester: SimulatedAttester | undefined;
}

/** What is the same wherever it runs: waits for the program, serves it as its host until it serves itself. */
export async function serve(booting: Booting, host: HostServices, undo: CleanUp, clock: Stopwatch) {
  const stream = await Promise.race([booting.connected, booting.dead]);
  clock.lap('boot to program');
  const channel: HostChannel = await serveEnclave(stream, host, booting.attester);
  undo.add(() => channel.close());
  // The program's own reason, which arrives before it ends, is better than the fact that it ended.
  const over = new AbortController();
  undo.add(() => over.abort());
  const { session, timings } = await Promise.race([
    channel.ready.catch(explained),
    booting.dead,
    late(host.readyWithin?.(), over.signal),
  ]).finally(() => over.abort());
  clock.start();
  return {
    timings: { ...clock.laps, ...timings },
    request: (request: CallOptions) => call(session, { timeoutMs: ANSWER_MS, ...request }).catch(unanswered),
  };

  /** Rejects when an enclave that has connected takes too long: its program hangs, or somebody stopped it. */
  async function late(ms: number | undefined, signal: AbortSignal): Promise<never> {
    if (ms !== undefined) {
      await sleep(ms, undefined, { signal }).catch(() => {});
      const why = `the enclave connected, and did not serve within ${Math.round(ms / 1000)} s`;
      if (!signal.aborted) throw new AtomaError('unexpected', 'ERR_ENCLAVE_SILENT', why);
    }
    return new Promise(() => {});
  }

  /** A channel that ends without a word is an enclave that is ending: its console knows more, in a moment. */
  async function explained(error: unknown): Promise<never> {
    if (error instanceof AtomaError && error.code === 'ERR_ENCLAVE_ENDED') {
      await Promise.race([booting.dead, sleep(ENDING_MS)]);
    }
    throw error;
  }
}
