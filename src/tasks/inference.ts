import { isUtf8 } from 'node:buffer';
import { AtomaError, usageError } from '../core/errors.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import type { Reply } from '../enclave/http2.ts';

/** An output tensor, as the Open Inference Protocol has it. */
export interface OutputTensor {
  name: string;
  datatype: string;
  shape: number[];
  data: unknown[];
}

/** An answer that is not the protocol's. */
export interface ReplySummary {
  bytes: number;
  contentType: string;
  /** Its start, where it is text. */
  text?: string;
}

/** What an answer says. */
export interface Answer {
  /** Empty where a command answered something else than the protocol's JSON: then there is `reply`. */
  outputs: OutputTensor[];
  reply?: ReplySummary;
}

/** Where a model or a command is asked. */
export const requestPath = ({ project }: MeasuredConfig, path?: string): string =>
  path ?? `/v2/models/${encodeURIComponent(project)}/infer`;

/** Throws `ERR_USAGE` (exit 2). */
export function checkPath(path: string | undefined): void {
  if (path === undefined || /^\/[\x21-\x7e]{0,2000}$/.test(path)) return;
  throw usageError('ERR_USAGE', `--path: expected a path such as /v1/generate, found "${path.slice(0, 200)}"`);
}

/** Throws `ERR_USAGE` (exit 2). */
export function checkContentType(type: string | undefined): void {
  if (type === undefined || /^[\x20-\x7e]{1,200}$/.test(type)) return;
  throw usageError(
    'ERR_USAGE',
    `--content-type: expected a media type such as text/plain, found "${type.slice(0, 200)}"`,
  );
}

const MOST_TEXT = 2000;

/** A command's answer is its own affair; where it is the protocol's JSON, its outputs are told like a model's. */
export function readResponse(reply: Reply, { runtime }: Pick<MeasuredConfig, 'runtime'>): Answer {
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
export function readReceipt({ headers }: Reply): Buffer {
  const [, base64] = /^:([A-Za-z0-9+/=]+):$/.exec(String(headers['atoma-receipt'] ?? '')) ?? [];
  if (base64 === undefined) {
    throw new AtomaError('unexpected', 'ERR_INFERENCE', 'expected a receipt with the answer, found none');
  }
  return Buffer.from(base64, 'base64');
}

export function inferenceError({ status, body }: Reply): AtomaError {
  let said = 'no reason';
  try {
    said = String((JSON.parse(body.toString('utf8')) as { error: unknown }).error).replace(/\p{Cc}+/gu, ' ');
  } catch {
    // An answer that is not ours.
  }
  const message = `the enclave refused the request (${status}): ${said.slice(0, 1000)}`;
  return status < 500 ? usageError('ERR_INFERENCE', message) : new AtomaError('unexpected', 'ERR_INFERENCE', message);
}
