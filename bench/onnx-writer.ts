/**
 * Writes small ONNX models, deterministically, without Python: enough protobuf (onnx.proto3) for graphs of plain nodes.
 * Benchmarks and tests make their models with it.
 */

/** TensorProto.DataType */
export const ONNX_TYPE = {
  FP32: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  BYTES: 8,
  BOOL: 9,
  FP16: 10,
  FP64: 11,
  UINT32: 12,
  UINT64: 13,
} as const;
export type OnnxType = keyof typeof ONNX_TYPE;

export interface OnnxValue {
  name: string;
  type: OnnxType;
  /** A string is a dimension of any size. */
  shape: (number | string)[];
}

export interface OnnxGraph {
  inputs: OnnxValue[];
  outputs: OnnxValue[];
  nodes: { op: string; inputs: string[]; outputs: string[] }[];
  /** Little-endian contents. */
  constants?: { name: string; type: OnnxType; shape: number[]; data: Uint8Array }[];
}

/** A ModelProto of IR version 8, opset 17. */
export function writeOnnx({ inputs, outputs, nodes, constants = [] }: OnnxGraph): Buffer {
  const graph = message(
    ...nodes.map((node) =>
      field(
        1,
        message(...node.inputs.map((n) => text(1, n)), ...node.outputs.map((n) => text(2, n)), text(4, node.op)),
      ),
    ),
    text(2, 'graph'),
    ...constants.map(({ name, type, shape, data }) =>
      field(
        5,
        message(...shape.map((size) => number(1, size)), number(2, ONNX_TYPE[type]), text(8, name), field(9, data)),
      ),
    ),
    ...inputs.map((value) => field(11, valueInfo(value))),
    ...outputs.map((value) => field(12, valueInfo(value))),
  );
  return message(number(1, 8), field(7, graph), field(8, message(text(1, ''), number(2, 17))));
}

/**
 * A chain of matrix products through tanh: `rows` copies of one row of widths[0] values, each layer from one width to the
 * next, and the mean of the rows at the end. Weights come from a fixed generator.
 */
export function matmulChain({ rows, widths }: { rows: number; widths: number[] }): Buffer {
  const random = generator(1);
  const weights = widths.slice(1).map((width, i) => {
    const from = widths[i] ?? 0;
    const values = Float32Array.from({ length: from * width }, () => ((random() - 0.5) * 4) / Math.sqrt(from));
    return { name: `w${i}`, type: 'FP32' as const, shape: [from, width], data: new Uint8Array(values.buffer) };
  });
  const [first = 0, last = 0] = [widths[0], widths.at(-1)];
  const expanded = new Uint8Array(BigInt64Array.of(BigInt(rows), BigInt(first)).buffer);
  const scale = new Uint8Array(Float32Array.of(1 / rows).buffer);
  return writeOnnx({
    inputs: [{ name: 'x', type: 'FP32', shape: [1, first] }],
    outputs: [{ name: 'y', type: 'FP32', shape: [1, last] }],
    constants: [
      { name: 'expanded', type: 'INT64', shape: [2], data: expanded },
      { name: 'axis', type: 'INT64', shape: [1], data: new Uint8Array(8) },
      { name: 'scale', type: 'FP32', shape: [], data: scale },
      ...weights,
    ],
    nodes: [
      { op: 'Expand', inputs: ['x', 'expanded'], outputs: ['h0'] },
      ...weights.flatMap(({ name }, i) => [
        { op: 'MatMul', inputs: [`h${i}`, name], outputs: [`m${i}`] },
        { op: 'Tanh', inputs: [`m${i}`], outputs: [`h${i + 1}`] },
      ]),
      { op: 'ReduceSum', inputs: [`h${weights.length}`, 'axis'], outputs: ['sum'] },
      { op: 'Mul', inputs: ['sum', 'scale'], outputs: ['y'] },
    ],
  });
}

/** Mulberry32: the same numbers everywhere, and it matters nothing which. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function valueInfo({ name, type, shape }: OnnxValue): Buffer {
  const dimensions = shape.map((size) => field(1, typeof size === 'number' ? number(1, size) : text(2, size)));
  const tensor = message(number(1, ONNX_TYPE[type]), field(2, message(...dimensions)));
  return message(text(1, name), field(2, message(field(1, tensor))));
}

// Protocol Buffers encoding: varints, and length-delimited fields.
const message = (...fields: Buffer[]): Buffer => Buffer.concat(fields);
const number = (id: number, value: number): Buffer => Buffer.concat([varint(id * 8), varint(value)]);
const field = (id: number, bytes: Uint8Array): Buffer =>
  Buffer.concat([varint(id * 8 + 2), varint(bytes.length), bytes]);
const text = (id: number, value: string): Buffer => field(id, Buffer.from(value));

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return Buffer.from([...bytes, rest]);
}
