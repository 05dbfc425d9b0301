import { usageError } from '../core/errors.ts';

/** What the header of a file of weights tells. */
export interface WeightsFacts {
  tensors: number;
  parameters: number;
  /** GGUF: general.architecture, as the file has it. */
  architecture?: string;
}

/** The reference implementation refuses longer headers (safetensors, tensor.rs, MAX_HEADER_SIZE). */
const MAX_HEADER = 100_000_000;
const PREFIX = 8;
/** Bits per element, of its Dtype; what is newer than this list is counted and not held against its size. */
const BITS: Record<string, number> = {
  ...{ BOOL: 8, U8: 8, I8: 8, F8_E4M3: 8, F8_E5M2: 8, F8_E8M0: 8, I16: 16, U16: 16, F16: 16, BF16: 16 },
  ...{ I32: 32, U32: 32, F32: 32, I64: 64, U64: 64, F64: 64, C64: 64 },
};

/** How many bytes from the start of the file `readSafetensors` wants. Throws `ERR_MODEL_HEADER` (exit 2). */
export function safetensorsHeaderLength(prefix: Uint8Array, size: number): number {
  if (prefix.length < PREFIX) throw malformed('it is cut off');
  const length = Buffer.from(prefix.buffer, prefix.byteOffset, PREFIX).readBigUInt64LE(0);
  if (length > BigInt(MAX_HEADER)) throw malformed(`its header has ${length} bytes, expected at most ${MAX_HEADER}`);
  if (Number(length) + PREFIX > size) throw malformed('its header is longer than the file');
  return Number(length) + PREFIX;
}

/**
 * Reads the header of a safetensors file (its README, "Format"): a length, then a JSON object of tensors. `bytes` begins the
 * file and holds all of the header; `size` is the file's. Pure. Throws `ERR_MODEL_HEADER` (exit 2).
 */
export function readSafetensors(bytes: Uint8Array, size: number): WeightsFacts {
  const end = safetensorsHeaderLength(bytes, size);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(PREFIX, end)));
  } catch {
    throw malformed('its header is not JSON');
  }
  if (!isRecord(header)) throw malformed('its header is not a JSON object');
  const facts = { tensors: 0, parameters: 0 };
  for (const [name, tensor] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const parameters = elements(tensor, size - end);
    if (parameters === null) throw malformed(`its tensor ${facts.tensors + 1} is not described as one`);
    facts.tensors++;
    facts.parameters += parameters;
  }
  return facts;
}

/** The number of elements of a tensor whose bytes lie in a payload of `room` bytes and have the right number; else null. */
function elements(tensor: unknown, room: number): number | null {
  if (!isRecord(tensor)) return null;
  const { dtype, shape, data_offsets: offsets } = tensor;
  if (typeof dtype !== 'string' || !isCounts(shape) || !isCounts(offsets)) return null;
  const [from, to] = offsets;
  const count = shape.reduce((product, size) => product * size, 1);
  if (offsets.length !== 2 || from === undefined || to === undefined || from > to || to > room) return null;
  const bits = BITS[dtype];
  if (!Number.isSafeInteger(count) || (bits !== undefined && (count * bits) / 8 !== to - from)) return null;
  return count;
}

const isCounts = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const malformed = (why: string) => usageError('ERR_MODEL_HEADER', `expected a safetensors file: ${why}`);
