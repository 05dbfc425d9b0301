import type { MeasuredConfig } from '../core/measured-config.ts';
import { type Handler, jsonError, type Request, type Response } from './http2.ts';
import { type InferRequest, parseInferRequest, RequestError } from './infer-request.ts';
import type { OnnxModel, TensorSpec, TensorValue } from './onnx-model.ts';
import { ATTESTATION_PATH, attestationRoute, json, readNonce, receiptHeader, timingHeader } from './own-routes.ts';
import type { Answered } from './receipts.ts';

/** Of this program, for `GET /v2`. */
export const SERVER_VERSION = '0.1.0';

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
  const { project: name, projectVersion: version } = config;

  const attestation = attestationRoute(evidenceFile);

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
        'atoma-receipt': receiptHeader(receipt),
        'server-timing': timingHeader('model', executionTimeMs, received),
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
        case ATTESTATION_PATH:
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

const tensorMetadata = ({ name, type, shape }: TensorSpec) => ({
  name,
  datatype: type,
  shape: shape.map((size) => (typeof size === 'number' ? size : -1)),
});

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
