import { type FileHandle, open } from 'node:fs/promises';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';

/**
 * Which file of a model is its ONNX graph: the only file, else `model.onnx`, else the only one that ends in `.onnx`. Throws
 * `ERR_MODEL_NOT_ONNX` (exit 2).
 */
export function findOnnx(files: { path: string }[]): string {
  const candidates = files.map((file) => file.path).filter((path) => path.endsWith('.onnx'));
  const [first] = candidates;
  if (files.length === 1 && first !== undefined) return first;
  if (candidates.includes('model.onnx')) return 'model.onnx';
  if (candidates.length === 1 && first !== undefined) return first;
  throw notOnnx(
    candidates.length === 0
      ? 'the model has no file that ends in .onnx'
      : `the model has ${candidates.length} files that end in .onnx and none of them is model.onnx`,
    'name the graph model.onnx',
  );
}

/** ModelProto (onnx.proto3): field number -> wire type. 0 is varint, 2 is length-delimited. */
const FIELDS: Record<number, number> = { 1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2 };
const GRAPH = 7;
const OPSET_IMPORT = 8;
/** Model-local functions and metadata are fields of their own; more than this is not a model that we want to walk through. */
const MAX_FIELDS = 100_000;

/**
 * Checks that a file is an ONNX ModelProto as far as its top-level fields say: known fields of the right types that fill the file
 * exactly, with an IR version, an opset and a graph. Reads a few bytes per field, never the weights. Throws `ERR_MODEL_NOT_ONNX`
 * (exit 2).
 */
export async function checkOnnx(absolute: string): Promise<void> {
  let handle: FileHandle;
  try {
    handle = await open(absolute, 'r');
  } catch (error) {
    throw ioError(error, `cannot read the model ${absolute}`);
  }
  try {
    const { size } = await handle.stat();
    const problem = await skim(handle, size);
    if (problem) throw notOnnx(`${absolute} is not an ONNX model: ${problem}`);
  } finally {
    await handle.close();
  }
}

async function skim(handle: FileHandle, size: number): Promise<string | null> {
  const seen = new Set<number>();
  const window = Buffer.alloc(20); // two varints of at most ten bytes
  let at = 0;
  for (let fields = 0; at < size; fields++) {
    if (fields === MAX_FIELDS) return `it has more than ${MAX_FIELDS} top-level fields`;
    const { bytesRead } = await handle.read(window, 0, window.length, at);
    const tag = varint(window.subarray(0, bytesRead), 0);
    if (!tag) return `no field can be read at byte ${at}`;
    const field = Math.floor(tag.value / 8);
    if (FIELDS[field] === undefined || FIELDS[field] !== tag.value % 8)
      return `expected a field of ModelProto at byte ${at}`;
    const value = varint(window.subarray(0, bytesRead), tag.next);
    if (!value) return `field ${field} at byte ${at} is cut off`;
    at += value.next + (FIELDS[field] === 2 ? value.value : 0);
    if (at > size) return `field ${field} is longer than the file`;
    seen.add(field);
  }
  if (!seen.has(1)) return 'it names no IR version';
  if (!seen.has(GRAPH)) return 'it has no graph';
  if (!seen.has(OPSET_IMPORT)) return 'it imports no operator set';
  return null;
}

/** Little-endian base 128; null if it does not end, or exceeds 2^53. */
function varint(bytes: Uint8Array, from: number): { value: number; next: number } | null {
  let value = 0;
  let scale = 1;
  for (let i = from; i < Math.min(bytes.length, from + 10); i++, scale *= 128) {
    const byte = bytes[i] ?? 0;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return Number.isSafeInteger(value) ? { value, next: i + 1 } : null;
  }
  return null;
}

const notOnnx = (message: string, hint?: string) => usageError('ERR_MODEL_NOT_ONNX', message, hint ? { hint } : {});
