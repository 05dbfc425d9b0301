import { usageError } from '../../core/errors.ts';
import { describeOnnx, type OnnxDescription, type OnnxValue } from '../../model/onnx-describe.ts';
import { counted } from './words.ts';

/** Name in the Open Inference Protocol, by name in ONNX; without those that JSON cannot hold (src/enclave/datatypes.ts). */
const DATATYPES: Record<string, string> = {
  ...{ FLOAT: 'FP32', DOUBLE: 'FP64', BOOL: 'BOOL', STRING: 'BYTES' },
  ...{ INT8: 'INT8', INT16: 'INT16', INT32: 'INT32', INT64: 'INT64' },
  ...{ UINT8: 'UINT8', UINT16: 'UINT16', UINT32: 'UINT32', UINT64: 'UINT64' },
};
const NO_TENSORS = ['sequence', 'map', 'optional', 'sparse'];
/** Values of an example request: more is nothing to look at, and `run` takes 16 MiB. */
const MOST_VALUES = 4 << 20;

/**
 * What the graph at `path` says, which is all of its model or, with `alone` false, one of its files. Throws `ERR_MODEL_NOT_ONNX`, and
 * `ERR_MODEL_UNSUPPORTED` where its weights are in files that are not given, or it takes or gives no tensors (exit 2).
 */
export function describeGraph(path: string, alone: boolean): { summary: string; graph: OnnxDescription } {
  const graph = describeOnnx(path);
  if (graph.externalTensors > 0 && alone) {
    throw usageError(
      'ERR_MODEL_UNSUPPORTED',
      `expected all of a model in ${path}, found weights that are in other files`,
      {
        hint: 'give the directory that holds the graph and its external data, and nothing else',
      },
    );
  }
  const odd = [...graph.inputs, ...graph.outputs].find(({ type }) => NO_TENSORS.includes(type));
  if (odd !== undefined) {
    throw usageError('ERR_MODEL_UNSUPPORTED', `expected a model of tensors, found a ${odd.type} in ${odd.name}`, {
      hint: 'export it with tensors (skl2onnx: options={"zipmap": False})',
    });
  }
  const tensors = ({ name, type, shape }: OnnxValue) => `${name} ${type} ${shape ? `[${shape.join(', ')}]` : '[...]'}`;
  const inputs = graph.inputs.slice(0, 4).map(tensors);
  const more = graph.inputs.length > inputs.length ? ', ...' : '';
  return {
    graph,
    summary: `ONNX, ${counted(graph.parameters, 'parameter')}; takes ${inputs.join(', ') || 'nothing'}${more}`,
  };
}

export interface ExampleRequest {
  /** JSON. */
  text: string;
  /** True where a dimension of any size was given the size 1. */
  dynamic: boolean;
}

/** A request that a graph takes: zeros, and 1 for every dimension of any size; or why there is none. Pure. */
export function exampleRequest(inputs: OnnxValue[]): ExampleRequest | { reason: string } {
  let dynamic = false;
  let values = 0;
  const tensors: string[] = [];
  for (const { name, type, shape } of inputs) {
    const datatype = DATATYPES[type];
    if (datatype === undefined)
      return { reason: `the input ${JSON.stringify(name)} is ${type}, which JSON cannot hold` };
    if (shape === null) return { reason: `the model does not say the shape of ${JSON.stringify(name)}` };
    const sizes = shape.map((size) => (typeof size === 'number' && size >= 0 ? size : 1));
    dynamic ||= sizes.some((size, i) => size !== shape[i]);
    const count = sizes.reduce((product, size) => product * size, 1);
    values += count;
    if (!(values <= MOST_VALUES)) return { reason: 'the model takes more values than an example should have' };
    const zero = datatype === 'BOOL' ? 'false' : datatype === 'BYTES' ? '""' : '0';
    const fields = [
      `"name": ${JSON.stringify(name)}`,
      `"shape": ${JSON.stringify(sizes)}`,
      `"datatype": "${datatype}"`,
      `"data": [${new Array<string>(count).fill(zero).join(', ')}]`,
    ];
    tensors.push(`    {\n      ${fields.join(',\n      ')}\n    }`);
  }
  return { text: `{\n  "inputs": [\n${tensors.join(',\n')}\n  ]\n}\n`, dynamic };
}
