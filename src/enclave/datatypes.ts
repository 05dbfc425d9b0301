/**
 * Tensors as JSON: the datatypes of KServe's Open Inference Protocol v2 (docs/predict-api/v2/required_api.md, "Tensor
 * Data Types") and the tensor types of onnxruntime.
 */
import type { Tensor } from 'onnxruntime-common';
import { quote } from './json.ts';

export type TensorData = Tensor.DataTypeMap[Tensor.Type];

export interface Datatype {
  /** Name in the protocol: "FP32". */
  name: string;
  /** Name in onnxruntime. */
  ort: Tensor.Type;
  /** Values parsed from JSON (`parseJson`) to the tensor's array; throws a `RangeError` that says which value. */
  read(values: unknown[]): TensorData;
  /** The inside of a JSON array; throws a `RangeError` where a value has no JSON form. */
  write(data: TensorData): string;
}

const bad = (values: unknown[], i: number, expected: string): RangeError =>
  new RangeError(`value ${i}: expected ${expected}, found ${quote(values[i], 40)}`);

type NumberArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array;

function float(name: string, ort: Tensor.Type, make: (n: number) => Float32Array | Float64Array): Datatype {
  return {
    name,
    ort,
    read(values) {
      const data = make(values.length);
      for (let i = 0; i < values.length; i++) {
        const value = values[i];
        data[i] = typeof value === 'bigint' ? Number(value) : typeof value === 'number' ? value : Number.NaN;
        // Also where a double has no finite single.
        if (!Number.isFinite(data[i])) throw bad(values, i, `a number within the range of ${name}`);
      }
      return data;
    },
    write(data) {
      const numbers = data as NumberArray;
      for (let i = 0; i < numbers.length; i++) {
        if (!Number.isFinite(numbers[i])) throw new RangeError(`value ${i} is ${numbers[i]}, which JSON cannot hold`);
      }
      return numbers.join(',');
    },
  };
}

function integer(name: string, ort: Tensor.Type, make: (n: number) => NumberArray): Datatype {
  return {
    name,
    ort,
    read(values) {
      const data = make(values.length);
      for (let i = 0; i < values.length; i++) {
        const value = values[i];
        if (typeof value === 'number') data[i] = value;
        // The array wraps and truncates what does not fit. (-0 is 0.)
        if (typeof value !== 'number' || data[i] !== value)
          throw bad(values, i, `an integer within the range of ${name}`);
      }
      return data as TensorData;
    },
    write: (data) => (data as NumberArray).join(','),
  };
}

function integer64(name: string, ort: Tensor.Type, make: (n: number) => BigInt64Array | BigUint64Array): Datatype {
  return {
    name,
    ort,
    read(values) {
      const data = make(values.length);
      for (let i = 0; i < values.length; i++) {
        const value = values[i];
        // A number beyond 2^53 is here only if it was written as 1e17: not exact.
        const exact = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value as number) : null;
        if (exact !== null) data[i] = exact;
        if (exact === null || data[i] !== exact) throw bad(values, i, `an integer within the range of ${name}`);
      }
      return data as TensorData;
    },
    write: (data) => (data as BigInt64Array | BigUint64Array).join(','),
  };
}

const bool: Datatype = {
  name: 'BOOL',
  ort: 'bool',
  read(values) {
    return Uint8Array.from(values, (value, i) => {
      if (typeof value !== 'boolean') throw bad(values, i, 'true or false');
      return value ? 1 : 0;
    });
  },
  write: (data) => Array.from(data as Uint8Array, (value) => value !== 0).join(','),
};

/** Text as JSON strings; there is no form for bytes that are not UTF-8. */
const bytes: Datatype = {
  name: 'BYTES',
  ort: 'string',
  read(values) {
    return values.map((value, i) => {
      if (typeof value !== 'string' || !value.isWellFormed() || value.includes('\0')) {
        throw bad(values, i, 'a string of well-formed Unicode without NUL');
      }
      return value;
    });
  },
  write: (data) => (data as string[]).map((value) => JSON.stringify(value)).join(','),
};

const DATATYPES: Datatype[] = [
  bool,
  bytes,
  float('FP32', 'float32', (n) => new Float32Array(n)),
  float('FP64', 'float64', (n) => new Float64Array(n)),
  integer('INT8', 'int8', (n) => new Int8Array(n)),
  integer('UINT8', 'uint8', (n) => new Uint8Array(n)),
  integer('INT16', 'int16', (n) => new Int16Array(n)),
  integer('UINT16', 'uint16', (n) => new Uint16Array(n)),
  integer('INT32', 'int32', (n) => new Int32Array(n)),
  integer('UINT32', 'uint32', (n) => new Uint32Array(n)),
  integer64('INT64', 'int64', (n) => new BigInt64Array(n)),
  integer64('UINT64', 'uint64', (n) => new BigUint64Array(n)),
];

/** undefined for types that JSON cannot hold exactly (FP16 and the 4-bit ones). */
export const datatypeOf = (ort: Tensor.Type): Datatype | undefined => DATATYPES.find((d) => d.ort === ort);

/** What the protocol calls a type that we do not serve, for messages. */
export const protocolName = (ort: Tensor.Type): string =>
  datatypeOf(ort)?.name ?? (ort === 'float16' ? 'FP16' : ort.toUpperCase());
