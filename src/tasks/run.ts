import { usageError } from '../core/errors.ts';
import { AtomicFile, readSmallFile } from '../core/files.ts';
import type { NitroMeasurement, SgxMeasurement, SimulatedMeasurement } from '../core/measurement.ts';
import type { Launcher } from '../launch/enclave.ts';
import { type EnclaveOptions, startEnclave } from './enclave.ts';
import {
  type Answer,
  checkContentType,
  checkPath,
  inferenceError,
  readReceipt,
  readResponse,
  requestPath,
} from './inference.ts';

export interface RunOptions extends EnclaveOptions {
  /** The request: a path, or "-" for standard input. Its bytes go in as they are. */
  input: string;
  /** Of the request; default: the inference path of the Open Inference Protocol. */
  path?: string | undefined;
  /** Of the input; default application/json. */
  contentType?: string | undefined;
  /** Where to write, each file whole or not at all. */
  receipt?: string | undefined;
  evidence?: string | undefined;
  response?: string | undefined;
}

/** Shape of `run --json`. Integers beyond 2^53 are exact in the response file only. */
export interface RunResult extends Answer {
  receipt?: string;
  evidence?: string;
  response?: string;
  measurement: SimulatedMeasurement | NitroMeasurement | SgxMeasurement;
  launcher: Launcher;
  /** Milliseconds. */
  timings: Record<string, number>;
  simulated: boolean;
}

/** What the enclave itself takes (src/enclave/program.ts). */
const MAX_INPUT = 16 << 20;

/**
 * `atoma-tee run`: launches the image of a build manifest, has the model's key released to it, asks it once. Nothing is
 * written unless everything went well.
 *
 * Throws what `startEnclave` throws, and `ERR_INFERENCE` (exit 2 where the enclave calls the request wrong).
 */
export async function runOnce(options: RunOptions): Promise<RunResult> {
  checkPath(options.path);
  checkContentType(options.contentType);
  const input = options.input === '-' ? await readStdin() : await readSmallFile(options.input, 'input', MAX_INPUT);
  const outputs = await openOutputs(options);
  try {
    const began = performance.now();
    const enclave = await startEnclave(options);
    try {
      const asked = performance.now();
      const reply = await enclave.request({
        method: 'POST',
        path: requestPath(enclave.config, options.path),
        headers: { 'content-type': options.contentType ?? 'application/json' },
        body: input,
      });
      const inference = performance.now() - asked;
      const response = readResponse(reply, enclave.config);
      const evidence = await enclave.request({ method: 'GET', path: '/.well-known/attestation' });
      if (evidence.status !== 200) throw inferenceError(evidence);
      await outputs.write({ receipt: readReceipt(reply), evidence: evidence.body, response: reply.body });
      return {
        ...response,
        ...outputs.paths,
        measurement: enclave.measurement,
        launcher: enclave.launcher,
        timings: { ...enclave.timings, inference, total: performance.now() - began },
        simulated: enclave.measurement.tee === 'simulated',
      };
    } finally {
      await enclave.stop();
    }
  } finally {
    await outputs.abort();
  }
}

async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_INPUT) {
      throw usageError('ERR_FILE_TOO_LARGE', `the input has more than ${MAX_INPUT} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

type Output = 'receipt' | 'evidence' | 'response';

/** Opened before anything is launched, so that a path that cannot be written to fails first; appear at the end. */
async function openOutputs(options: Partial<Record<Output, string | undefined>>) {
  const files = new Map<Output, AtomicFile>();
  const abort = async () => {
    for (const file of files.values()) await file.abort();
  };
  const paths: Partial<Record<Output, string>> = {};
  try {
    for (const name of ['receipt', 'evidence', 'response'] as const) {
      const path = options[name];
      if (path === undefined) continue;
      files.set(name, await AtomicFile.create(path, 0o644));
      paths[name] = path;
    }
  } catch (error) {
    await abort();
    throw error;
  }
  return {
    paths,
    abort,
    async write(contents: Record<Output, Buffer>) {
      for (const [name, file] of files) await file.handle.writeFile(contents[name]);
      for (const file of files.values()) await file.commit();
    },
  };
}
