import { usageError } from '../core/errors.ts';
import { OnnxCount } from './onnx-graph.ts';
import { type Field, WireError, WireFile } from './wire.ts';

/** What an input or output of a model takes or gives. */
export interface OnnxValue {
  name: string;
  /** "FLOAT", "INT64": TensorProto.DataType. "sequence", "map", "optional", "sparse": no plain tensor. "unknown". */
  type: string;
  /** A string: a dimension of any size, by its name ("?" without one). Null: any number of dimensions. */
  shape: (number | string)[] | null;
}

/** What an ONNX file says of itself (onnx.proto3, ModelProto). Names are the file's: somebody else's text. */
export interface OnnxDescription {
  irVersion: number;
  /** Operator sets by domain, "ai.onnx" for the unnamed one. */
  opsets: { domain: string; version: number }[];
  producer: string;
  producerVersion: string;
  /** Without those that the file itself gives a value to. */
  inputs: OnnxValue[];
  outputs: OnnxValue[];
  /** How often each operator occurs, inner graphs and functions included; sorted. "com.microsoft.Gelu" outside ONNX's own domain. */
  operators: { name: string; count: number }[];
  /** Elements of all initializers: weights, and small constants that an exporter made initializers. */
  parameters: number;
  /** Initializers whose data lies in another file. */
  externalTensors: number;
}

const MAX_TEXT = 4096;
/** Inputs, outputs, dimensions, operator sets: more of any is nobody's model. */
const MAX_LIST = 10_000;

/** TensorProto.DataType */
const TYPES = (
  'UNDEFINED FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 STRING BOOL FLOAT16 DOUBLE UINT32 UINT64 COMPLEX64 COMPLEX128 BFLOAT16 ' +
  'FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ UINT4 INT4 FLOAT4E2M1 FLOAT8E8M0 UINT2 INT2'
).split(' ');
/** TypeProto, beside tensor_type (1). */
const OTHER_TYPES: Record<number, string> = { 4: 'sequence', 5: 'map', 8: 'sparse', 9: 'optional' };

/**
 * Reads what an ONNX file tells of its model, without its weights. Throws `ERR_MODEL_NOT_ONNX` (exit 2) for what is no such file, or
 * one beyond the bounds.
 */
export function describeOnnx(absolute: string): OnnxDescription {
  const file = new WireFile(absolute);
  try {
    return read(file);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw usageError('ERR_MODEL_NOT_ONNX', `${absolute} is not an ONNX model: ${error.message}`);
  } finally {
    file.close();
  }
}

function read(file: WireFile): OnnxDescription {
  const said: OnnxDescription = {
    ...{ irVersion: 0, opsets: [], producer: '', producerVersion: '' },
    ...{ inputs: [], outputs: [], operators: [], parameters: 0, externalTensors: 0 },
  };
  const count = new OnnxCount(file);
  let graphs = 0;
  for (const field of file.fields(0, file.size)) {
    if (field.id === 1 && field.wire === 0) said.irVersion = field.value;
    if (field.wire !== 2) continue;
    if (field.id === 2) said.producer = file.text(field, MAX_TEXT) ?? '';
    else if (field.id === 3) said.producerVersion = file.text(field, MAX_TEXT) ?? '';
    else if (field.id === 8) push(said.opsets, opset(file, field), 'operator sets');
    else if (field.id === 25) count.body(field, 7, 0);
    else if (field.id === 7) {
      if (++graphs > 1) throw new WireError('it has more than one graph');
      const { inputs, outputs } = mainGraph(file, field, count);
      said.inputs = inputs;
      said.outputs = outputs;
    }
  }
  if (graphs === 0) throw new WireError('it has no graph');
  return { ...said, ...count.result() };
}

function mainGraph(file: WireFile, graph: Field, count: OnnxCount) {
  const [inputs, outputs]: OnnxValue[][] = [[], []];
  for (const field of file.fields(graph.start, graph.end)) {
    if (field.wire === 2 && field.id === 11) push(inputs as OnnxValue[], value(file, field), 'inputs');
    if (field.wire === 2 && field.id === 12) push(outputs as OnnxValue[], value(file, field), 'outputs');
  }
  // Up to IR version 3 initializers are inputs too.
  const given = count.graph(graph, new Set((inputs as OnnxValue[]).map(({ name }) => name)));
  return { inputs: (inputs as OnnxValue[]).filter(({ name }) => !given.has(name)), outputs: outputs as OnnxValue[] };
}

function opset(file: WireFile, message: Field) {
  const found = { domain: 'ai.onnx', version: 0 };
  for (const field of file.fields(message.start, message.end)) {
    if (field.id === 1 && field.wire === 2) found.domain = file.text(field, MAX_TEXT) || 'ai.onnx';
    if (field.id === 2 && field.wire === 0) found.version = field.value;
  }
  return found;
}

/** ValueInfoProto: name 1, type 2. */
function value(file: WireFile, message: Field): OnnxValue {
  const found: OnnxValue = { name: '', type: 'unknown', shape: null };
  for (const field of file.fields(message.start, message.end)) {
    if (field.wire !== 2) continue;
    if (field.id === 1) found.name = file.text(field, MAX_TEXT) ?? '';
    if (field.id === 2) Object.assign(found, type(file, field));
  }
  return found;
}

function type(file: WireFile, message: Field): Partial<OnnxValue> {
  const found: Partial<OnnxValue> = {};
  for (const field of file.fields(message.start, message.end)) {
    if (field.wire !== 2) continue;
    const other = OTHER_TYPES[field.id];
    if (other !== undefined) found.type = other;
    if (field.id !== 1) continue;
    for (const inner of file.fields(field.start, field.end)) {
      if (inner.id === 1 && inner.wire === 0) found.type = TYPES[inner.value] ?? `type ${inner.value}`;
      if (inner.id === 2 && inner.wire === 2) found.shape = shape(file, inner);
    }
  }
  return found;
}

/** TensorShapeProto: dim 1 of dim_value 1 or dim_param 2. */
function shape(file: WireFile, message: Field): (number | string)[] {
  const found: (number | string)[] = [];
  for (const dimension of file.fields(message.start, message.end)) {
    if (dimension.id !== 1 || dimension.wire !== 2) continue;
    let size: number | string = '?';
    for (const field of file.fields(dimension.start, dimension.end)) {
      if (field.id === 1 && field.wire === 0 && Number.isFinite(field.value)) size = field.value;
      if (field.id === 2 && field.wire === 2) size = file.text(field, MAX_TEXT) || '?';
    }
    push(found, size, 'dimensions');
  }
  return found;
}

function push<T>(list: T[], item: T, what: string): void {
  if (list.length === MAX_LIST) throw new WireError(`it has more than ${MAX_LIST} ${what}`);
  list.push(item);
}
