import { isUtf8 } from 'node:buffer';
import { AtomaError, usageError } from '../core/errors.ts';
import { AtomicFile, readSmallFile } from '../core/files.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import type { NitroMeasurement, SimulatedMeasurement } from '../core/measurement.ts';
import type { Reply } from '../enclave/http2.ts';
import type { Launcher } from '../launch/enclave.ts';
import { type EnclaveOptions, startEnclave } from './enclave.ts';

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

/** An output tensor, as the Open Inference Protocol has it. */
export interface OutputTensor {
  name: string;
  datatype: string;
  shape: number[];
  data: unknown[];
}

/** Shape of `run --json`. Integers beyond 2^53 are exact in the response file only. */
export interface RunResult {
  /** Empty where a command answered something else than the protocol's JSON: then there is `reply`. */
  outputs: OutputTensor[];
  reply?: ReplySummary;
  receipt?: string;
  evidence?: string;
  response?: string;
  measurement: SimulatedMeasurement | NitroMeasurement;
  launcher: Launcher;
  /** Milliseconds. */
  timings: Record<string, number>;
  simulated: boolean;
}

/** An answer that is not the protocol's. */
export interface ReplySummary {
  bytes: number;
  contentType: string;
  /** Its start, where it is text. */
  text?: string;
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

const requestPath = ({ project }: MeasuredConfig, path?: string): string =>
  path ?? `/v2/models/${encodeURIComponent(project)}/infer`;

/** Throws `ERR_USAGE` (exit 2). */
function checkPath(path: string | undefined): void {
  if (path === undefined || /^\/[\x21-\x7e]{0,2000}$/.test(path)) return;
  throw usageError('ERR_USAGE', `--path: expected a path such as /v1/generate, found "${path.slice(0, 200)}"`);
}

const MOST_TEXT = 2000;

/** A command's answer is its own affair; where it is the protocol's JSON, its outputs are told like a model's. */
function readResponse(reply: Reply, { runtime }: MeasuredConfig): Pick<RunResult, 'outputs' | 'reply'> {
  const { status, headers, body } = reply;
  if (status < 200 || status > 299) throw inferenceError(reply);
  const outputs = readOutputs(body);
  if (outputs !== null) return { outputs };
  if (runtime.kind === 'onnx') {
    throw new AtomaError('unexpected', 'ERR_INFERENCE', 'expected an answer with "outputs", found none');
  }
  const text = isUtf8(body) ? body.toString('utf8').slice(0, MOST_TEXT) : undefined;
  const contentType = String(headers['content-type'] ?? '').slice(0, 200);
  return { outputs: [], reply: { bytes: body.length, contentType, ...(text === undefined ? {} : { text }) } };
}

function readOutputs(body: Buffer): OutputTensor[] | null {
  try {
    const { outputs } = JSON.parse(body.toString('utf8')) as { outputs?: unknown };
    return Array.isArray(outputs) && outputs.every(isTensor) ? outputs : null;
  } catch {
    return null;
  }
}

function isTensor(value: unknown): value is OutputTensor {
  const { name, datatype, shape, data } = (value ?? {}) as Partial<OutputTensor>;
  return typeof name === 'string' && typeof datatype === 'string' && Array.isArray(shape) && Array.isArray(data);
}

/** The header is an RFC 8941 byte sequence: ":BASE64:". */
function readReceipt({ headers }: Reply): Buffer {
  const [, base64] = /^:([A-Za-z0-9+/=]+):$/.exec(String(headers['atoma-receipt'] ?? '')) ?? [];
  if (base64 === undefined) {
    throw new AtomaError('unexpected', 'ERR_INFERENCE', 'expected a receipt with the answer, found none');
  }
  return Buffer.from(base64, 'base64');
}

function inferenceError({ status, body }: Reply): AtomaError {
  let said = 'no reason';
  try {
    said = String((JSON.parse(body.toString('utf8')) as { error: unknown }).error).replace(/\p{Cc}+/gu, ' ');
  } catch {
    // An answer that is not ours.
  }
  const message = `the enclave refused the request (${status}): ${said.slice(0, 1000)}`;
  return status < 500 ? usageError('ERR_INFERENCE', message) : new AtomaError('unexpected', 'ERR_INFERENCE', message);
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
