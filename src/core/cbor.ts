import { decodeFirst, encode, rfc8949EncodeOptions, Tagged } from 'cborg';
import { AtomaError, usageError } from './errors.ts';

/**
 * Encodes as deterministic CBOR (RFC 8949 section 4.2.1: shortest forms, definite lengths, map keys in bytewise
 * order). Use `Map` for maps with integer keys and plain objects for maps with text keys.
 */
export const encodeCbor = (value: unknown): Uint8Array => encode(value, rfc8949EncodeOptions);

export interface DecodeOptions {
  /** Refuse more input than this before looking at it. */
  maxBytes: number;
  /** What the bytes are, for error texts: "sealed header". */
  what: string;
  /** `deterministic` (default) refuses any encoding that encodeCbor would not have made. */
  form?: 'deterministic' | 'any';
  /** Tag numbers that are let through as `Tagged`; none by default. */
  tags?: number[];
}

/** Nesting deeper than this is nobody's honest document, and deep recursion is an attack. */
const MAX_DEPTH = 32;

/**
 * Decodes one CBOR item from hostile bytes: bounded, no trailing bytes, no duplicate map keys, maps as `Map`.
 * Throws `ERR_CBOR_MALFORMED` (exit 2).
 */
export function decodeCbor(bytes: Uint8Array, options: DecodeOptions): unknown {
  const { value, size } = decodeCborItem(bytes, options);
  if (size < bytes.length) {
    throw usageError(
      'ERR_CBOR_MALFORMED',
      `${options.what}: not well-formed CBOR (too many terminals, data makes no sense)`,
    );
  }
  return value;
}

/** As decodeCbor, of one item that others follow; `size` is how many bytes it has. */
export function decodeCborItem(bytes: Uint8Array, options: DecodeOptions): { value: unknown; size: number } {
  const fail = (why: string) => usageError('ERR_CBOR_MALFORMED', `${options.what}: ${why}`);
  if (bytes.length > options.maxBytes) {
    throw fail(`expected at most ${options.maxBytes} bytes of CBOR, found ${bytes.length}`);
  }
  const any = options.form === 'any';
  let value: unknown;
  let size: number;
  try {
    const [item, rest] = decodeFirst(bytes, {
      useMaps: true,
      strict: !any,
      allowIndefinite: any,
      rejectDuplicateMapKeys: true,
      allowUndefined: false,
      tags: Tagged.preserve(...(options.tags ?? [])),
    });
    value = item;
    size = bytes.length - rest.length;
    checkDepth(value, MAX_DEPTH);
  } catch (error) {
    if (error instanceof AtomaError) throw error;
    throw fail(
      `not well-formed CBOR (${error instanceof Error ? error.message.replace(/^CBOR decode error: /, '') : 'error'})`,
    );
  }
  if (!any && !isDeterministic(value, bytes.subarray(0, size)))
    throw fail('not deterministically encoded (RFC 8949 section 4.2.1)');
  return { value, size };
}

/** The encoder throws for keys that no format of ours has: lists and maps. */
function isDeterministic(value: unknown, bytes: Uint8Array): boolean {
  try {
    return Buffer.from(encodeCbor(value)).equals(bytes);
  } catch {
    return false;
  }
}

function checkDepth(value: unknown, left: number): void {
  if (left === 0) throw new Error('nested too deeply');
  if (value instanceof Uint8Array) return;
  if (value instanceof Tagged) checkDepth(value.value, left - 1);
  else if (Array.isArray(value)) for (const item of value) checkDepth(item, left - 1);
  else if (value instanceof Map) for (const item of [...value.keys(), ...value.values()]) checkDepth(item, left - 1);
}

export { Tagged };
