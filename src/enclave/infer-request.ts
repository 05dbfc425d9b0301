import { parseJson, quote } from './json.ts';
import type { OnnxModel, TensorSpec, TensorValue } from './onnx-model.ts';

/** A request that is the client's mistake: a 4xx. */
export class RequestError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'RequestError';
    this.status = status;
  }
}

export interface InferRequest {
  id?: string;
  inputs: Map<string, TensorValue>;
  /** Names, in the order in which to answer. */
  outputs: string[];
}

const bad = (message: string) => new RequestError(400, message);
const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);
const MAX_RANK = 16;

/**
 * Reads an inference request of the Open Inference Protocol v2 (REST) against what the model takes. Throws a
 * `RequestError` that names what was expected and what was found.
 */
export function parseInferRequest(body: Uint8Array, model: Pick<OnnxModel, 'inputs' | 'outputs'>): InferRequest {
  let request: unknown;
  try {
    request = parseJson(body);
  } catch {
    throw bad('expected a request in JSON (UTF-8)');
  }
  if (!isObject(request)) throw bad('expected a JSON object');
  const { id, inputs, outputs } = request;
  if (id !== undefined && typeof id !== 'string') throw bad('expected "id" to be a string');
  if (!Array.isArray(inputs)) throw bad('expected "inputs" to be a list of tensors');
  const dimensions = new Map<string, number>();
  const values = new Map<string, TensorValue>();
  for (const input of inputs as unknown[]) {
    const name = isObject(input) && typeof input.name === 'string' ? input.name : undefined;
    if (!isObject(input) || name === undefined) throw bad('expected every input to be an object with a "name"');
    const spec = model.inputs.find((known) => known.name === name);
    if (spec === undefined) throw bad(`expected inputs ${names(model.inputs)}, found ${quote(name)}`);
    if (values.has(name)) throw bad(`input ${quote(name)} is given twice`);
    values.set(name, readTensor(input, spec, dimensions));
  }
  const missing = model.inputs.filter(({ name }) => !values.has(name));
  if (missing.length > 0) throw bad(`expected inputs ${names(model.inputs)}, found none called ${names(missing)}`);
  return { ...(id === undefined ? {} : { id }), inputs: values, outputs: readOutputs(outputs, model.outputs) };
}

function readOutputs(outputs: unknown, known: TensorSpec[]): string[] {
  if (outputs === undefined) return known.map(({ name }) => name);
  if (!Array.isArray(outputs) || outputs.length === 0) throw bad('expected "outputs" to be a list of tensors');
  const wanted = (outputs as unknown[]).map((output) => {
    const name = isObject(output) ? output.name : undefined;
    if (typeof name !== 'string' || !known.some((spec) => spec.name === name)) {
      throw bad(`expected outputs ${names(known)}, found ${quote(name)}`);
    }
    return name;
  });
  if (new Set(wanted).size !== wanted.length) throw bad('an output is asked for twice');
  return wanted;
}

function readTensor(input: Record<string, unknown>, spec: TensorSpec, dimensions: Map<string, number>): TensorValue {
  const at = `input ${quote(spec.name)}`;
  if (spec.datatype === undefined) throw bad(`${at} is ${spec.type}, which has no safe form in JSON`);
  if (input.datatype !== spec.type) throw bad(`${at}: expected datatype ${spec.type}, found ${quote(input.datatype)}`);
  const shape = readShape(input.shape, spec, dimensions, at);
  if (!Array.isArray(input.data)) {
    throw bad(
      `${at}: expected "data" to be a list of values${isObject(input.parameters) ? ' (binary data is not supported)' : ''}`,
    );
  }
  const values = flatten(input.data, shape, at);
  try {
    return { datatype: spec.datatype, shape, data: spec.datatype.read(values) };
  } catch (error) {
    if (error instanceof RangeError) throw bad(`${at}: ${error.message}`);
    throw error;
  }
}

function readShape(value: unknown, spec: TensorSpec, dimensions: Map<string, number>, at: string): number[] {
  if (!Array.isArray(value) || value.length > MAX_RANK || !value.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw bad(`${at}: expected "shape" to be a list of sizes`);
  }
  const shape = value as number[];
  // onnxruntime says [] both for a scalar and for a shape that the model leaves open.
  if (spec.shape.length === 0) return shape;
  const expected = `[${spec.shape.map((size) => (size === '' ? '?' : size)).join(',')}]`;
  const wrong = () => bad(`${at}: expected shape ${expected}, found [${shape.join(',')}]`);
  if (shape.length !== spec.shape.length) throw wrong();
  for (const [i, size] of spec.shape.entries()) {
    const found = shape[i] ?? 0;
    if (typeof size === 'number') {
      if (found !== size) throw wrong();
    } else if (size !== '') {
      const other = dimensions.get(size) ?? found;
      if (other !== found) throw bad(`${at}: expected ${size} to be ${other} as in another input, found ${found}`);
      dimensions.set(size, found);
    }
  }
  return shape;
}

/** Data may be flat, in row-major order, or nested as the shape says. */
function flatten(data: unknown[], shape: number[], at: string): unknown[] {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = shape.length > 1 && Array.isArray(data[0]) ? nested(data, shape, at) : data;
  if (values.length !== count) {
    throw bad(`${at}: expected ${count} values for shape [${shape.join(',')}], found ${values.length}`);
  }
  return values;
}

function nested(data: unknown[], shape: number[], at: string): unknown[] {
  let level: unknown[] = data;
  for (const [depth, size] of shape.slice(0, -1).entries()) {
    const width = shape[depth + 1];
    const lists = level.filter((list): list is unknown[] => Array.isArray(list) && list.length === width);
    if (lists.length !== level.length || (depth === 0 && level.length !== size)) {
      throw bad(`${at}: "data" is not nested as shape [${shape.join(',')}] says`);
    }
    level = lists.flat();
  }
  return level;
}

const names = (specs: { name: string }[]): string => specs.map(({ name }) => quote(name)).join(', ');
