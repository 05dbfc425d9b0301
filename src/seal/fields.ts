/** A field of decoded CBOR that is not what it must be; the caller turns it into an error of its own format. */
export class FieldError extends Error {}

// Readers of decoded CBOR: each returns the value with its type, or throws FieldError that names it. `what`: "part id".

export function bytesOf(value: unknown, what: string, length?: number): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new FieldError(`its ${what} is not a byte string`);
  if (length !== undefined && value.length !== length) {
    throw new FieldError(`its ${what} has ${value.length} bytes; expected ${length}`);
  }
  return value;
}

/** `min` and `max` are both allowed. */
export function uintOf(value: unknown, what: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw new FieldError(`its ${what} is not an integer from ${min} to ${max}`);
  }
  return value;
}

export function listOf(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw new FieldError(`its ${what} is not a list`);
  return value;
}

export function tuple(value: unknown, length: number, what: string): unknown[] {
  if (!Array.isArray(value) || value.length !== length)
    throw new FieldError(`its ${what} is not an array of ${length}`);
  return value;
}
