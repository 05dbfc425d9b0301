import { availableParallelism } from 'node:os';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import { usageError } from '../core/errors.ts';
import { MOST_THREADS } from '../core/layout.ts';
import { type Datatype, datatypeOf, protocolName, type TensorData } from './datatypes.ts';

/** An input or output of a model. */
export interface TensorSpec {
  name: string;
  /** Name of the type in the protocol. */
  type: string;
  /** undefined where JSON cannot hold the type. */
  datatype: Datatype | undefined;
  /** A string names a dimension of any size, the same wherever the name stands; "" is any size. */
  shape: (number | string)[];
}

export interface TensorValue {
  datatype: Datatype;
  shape: number[];
  data: TensorData;
}

/** A loaded model. */
export interface OnnxModel {
  inputs: TensorSpec[];
  outputs: TensorSpec[];
  /** Rejects where onnxruntime rejects the inputs. */
  run(inputs: Map<string, TensorValue>, outputs: string[]): Promise<{ name: string; value: TensorValue }[]>;
}

/**
 * Loads an ONNX file and what it refers to. Throws `ERR_ENCLAVE_MODEL` (exit 2) where onnxruntime cannot load it, or it
 * takes or gives what is not a tensor. What onnxruntime says about a file stays inside: the architecture is private.
 */
export async function loadOnnxModel(path: string): Promise<OnnxModel> {
  // Before the library is loaded: it would look up hosts and write files (nitro.md, "Seen to run").
  process.env.ORT_DISABLE_TELEMETRY = '1';
  const { default: ort } = await import('onnxruntime-node');
  const most = Number(process.env[MOST_THREADS]);
  const options: InferenceSession.SessionOptions = {
    logSeverityLevel: 4,
    ...(most >= 1 ? { intraOpNumThreads: Math.min(most, availableParallelism()) } : {}),
  };
  const session = await ort.InferenceSession.create(path, options).catch(() => {
    throw usageError('ERR_ENCLAVE_MODEL', `onnxruntime ${ort.env.versions.node} cannot load the model`, {
      hint: 'load it with onnxruntime on a machine of yours, which says why',
    });
  });
  return {
    inputs: session.inputMetadata.map(describe),
    outputs: session.outputMetadata.map(describe),
    async run(inputs, outputs) {
      const feeds: Record<string, Tensor> = {};
      for (const [name, { datatype, data, shape }] of inputs) {
        feeds[name] = new ort.Tensor(datatype.ort, data as Float32Array, shape);
      }
      const results = await session.run(feeds, outputs);
      return outputs.map((name) => {
        const tensor = results[name];
        const datatype = tensor && datatypeOf(tensor.type);
        if (!tensor || !datatype) throw new TypeError(`output ${name} cannot be written as JSON`);
        return { name, value: { datatype, shape: [...tensor.dims], data: tensor.data as TensorData } };
      });
    },
  };
}

function describe(value: InferenceSession.ValueMetadata): TensorSpec {
  if (!value.isTensor) {
    throw usageError('ERR_ENCLAVE_MODEL', `the model's ${value.name} is a sequence or map; expected tensors only`, {
      hint: 'export it with tensors (skl2onnx: options={"zipmap": False})',
    });
  }
  const { name, type, shape } = value;
  return { name, type: protocolName(type), datatype: datatypeOf(type), shape: [...shape] };
}
