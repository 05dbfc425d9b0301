import { fromHex } from '../core/bytes.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import { type Handler, jsonError, type Request, type Response } from './http2.ts';
import { type InferRequest, parseInferRequest, RequestError } from './infer-request.ts';
import type { OnnxModel, TensorSpec, TensorValue } from './onnx-model.ts';
import type { Answered } from './receipts.ts';

/** Of this program, for `GET /v2`. */
export const SERVER_VERSION = '0.1.0';
/** Fresh evidence per second, and how many may come at once: a quote costs the TEE more than it costs to ask. */
const EVIDENCE_RATE = { perSecond: 2, burst: 10 };

export interface ServerParts {
  config: MeasuredConfig;
  model: OnnxModel;
  sign: (answered: Answered) => Uint8Array;
  evidenceFile: (nonce?: Uint8Array) => Promise<Buffer>;
}

/**
 * The requests that an enclave answers: KServe's Open Inference Protocol v2 (REST; docs/predict-api/v2/required_api.md),
 * one model in one version, and its evidence. Every answer to an inference carries a receipt over the exact bytes.
 */
export function createInferenceServer({ config, model, sign, evidenceFile }: ServerParts): Handler {
  const evidenceBucket = tokenBucket(EVIDENCE_RATE);
  const { project: name, projectVersion: version } = config;

  const attestation = async (query: URLSearchParams): Promise<Response> => {
    const text = query.get('nonce');
    const nonce = text === null ? undefined : fromHex(text);
    if (nonce === null || (nonce !== undefined && (nonce.length < 16 || nonce.length > 64))) {
      return jsonError(400, 'expected a nonce of 16 to 64 bytes in hex');
    }
    if (nonce !== undefined && !evidenceBucket()) return jsonError(429, 'too many requests for fresh evidence');
    return json(await evidenceFile(nonce));
  };

  const infer = async ({ body, headers }: Request): Promise<Response> => {
    const received = performance.now();
    const nonce = readNonce(headers['atoma-nonce']);
    const request = parseInferRequest(body, model);
    const started = performance.now();
    const outputs = await model.run(request.inputs, request.outputs).catch(() => {
      throw new RequestError(400, 'the model cannot be run on these inputs');
    });
    const executionTimeMs = performance.now() - started;
    const response = encodeResponse(request, outputs);
    const receipt = sign({ request: body, response, executionTimeMs, nonce });
    const answer = json(response);
    return {
      ...answer,
      headers: {
        ...answer.headers,
        // A byte sequence of RFC 8941 section 3.3.5.
        'atoma-receipt': `:${Buffer.from(receipt).toString('base64')}:`,
        // Milliseconds (W3C Server Timing): the model, and the whole request from its last byte to its receipt.
        'server-timing': `model;dur=${executionTimeMs.toFixed(3)}, total;dur=${(performance.now() - received).toFixed(3)}`,
      },
    };
  };

  function encodeResponse(request: InferRequest, outputs: { name: string; value: TensorValue }[]): Buffer {
    const id = request.id === undefined ? '' : `,"id":${JSON.stringify(request.id)}`;
    const tensors = outputs.map(
      ({ name: output, value: { datatype, shape, data } }) =>
        `{"name":${JSON.stringify(output)},"datatype":"${datatype.name}","shape":[${shape.join(',')}],"data":[${datatype.write(data)}]}`,
    );
    const head = `{"model_name":${JSON.stringify(name)},"model_version":${JSON.stringify(version)}`;
    return Buffer.from(`${head}${id},"outputs":[${tensors.join(',')}]}`);
  }

  const metadata = {
    name,
    versions: [version],
    platform: 'onnxruntime_onnx',
    inputs: model.inputs.map(tensorMetadata),
    outputs: model.outputs.map(tensorMetadata),
  };

  /** What a path under /v2/models/NAME[/versions/VERSION] leads to; undefined for another model or version. */
  const modelPath = (path: string): string | undefined => {
    const [, of, , v, rest] = /^\/v2\/models\/([^/]+)(\/versions\/([^/]+))?(\/ready|\/infer)?$/.exec(path) ?? [];
    if (of === undefined || decode(of) !== name || (v !== undefined && decode(v) !== version)) return undefined;
    return rest ?? '';
  };

  const route = async (request: Request): Promise<Response> => {
    const [pathname = '', query] = request.path.split('?', 2);
    const resource = modelPath(pathname);
    const method = resource === '/infer' ? 'POST' : 'GET';
    const answer = (() => {
      if (resource === '/infer') return () => infer(request);
      if (resource === '/ready') return () => json({ ready: true });
      if (resource === '') return () => json(metadata);
      switch (pathname) {
        case '/v2':
          return () => json({ name: 'atoma-tee', version: SERVER_VERSION, extensions: ['attestation', 'receipt'] });
        case '/v2/health/live':
          return () => json({ live: true });
        case '/v2/health/ready':
          return () => json({ ready: true });
        case '/.well-known/attestation':
          return () => attestation(new URLSearchParams(query));
      }
      return undefined;
    })();
    if (answer === undefined) {
      const hint = pathname.startsWith('/v2/models/')
        ? `: this enclave serves the model ${name}, version ${version}`
        : '';
      return jsonError(404, `there is nothing at ${pathname.slice(0, 200)}${hint}`);
    }
    if (request.method !== method) return jsonError(405, `expected ${method}, found ${request.method}`);
    return answer();
  };

  return async (request) => {
    try {
      return await route(request);
    } catch (error) {
      if (error instanceof RequestError) return jsonError(error.status, error.message);
      // A RangeError is an output value that JSON cannot hold (NaN): the message says which.
      return jsonError(
        500,
        error instanceof RangeError ? `the answer cannot be written: ${error.message}` : 'internal error',
      );
    }
  };
}

const json = (body: Buffer | object): Response => ({
  status: 200,
  headers: { 'content-type': 'application/json' },
  body: Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body)),
});

const tensorMetadata = ({ name, type, shape }: TensorSpec) => ({
  name,
  datatype: type,
  shape: shape.map((size) => (typeof size === 'number' ? size : -1)),
});

function readNonce(header: string | string[] | undefined): Uint8Array | undefined {
  if (header === undefined) return undefined;
  const nonce = typeof header === 'string' ? fromHex(header) : null;
  if (nonce === null || nonce.length < 8 || nonce.length > 64) {
    throw new RequestError(400, 'atoma-nonce: expected 8 to 64 bytes in hex');
  }
  return nonce;
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** True while there is a token to take. */
function tokenBucket({ perSecond, burst }: { perSecond: number; burst: number }): () => boolean {
  let tokens = burst;
  let last = performance.now();
  return () => {
    const now = performance.now();
    tokens = Math.min(burst, tokens + ((now - last) / 1000) * perSecond);
    last = now;
    if (tokens < 1) return false;
    tokens -= 1;
    return true;
  };
}
