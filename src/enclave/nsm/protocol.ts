/**
 * Requests to a Nitro Secure Module and its answers, as bytes (aws-nitro-enclaves-nsm-api, src/api/mod.rs; the answers
 * come from a hypervisor that is not trusted to send CBOR of any one form).
 */
import { decodeCbor, encodeCbor } from '../../core/cbor.ts';
import { AtomaError, usageError } from '../../core/errors.ts';

/** Of a request and of an answer; the kernel's driver refuses longer ones (drivers/misc/nsm.c). */
export const NSM_REQUEST_MAX = 4096;
export const NSM_RESPONSE_MAX = 12288;
/** docs/attestation_process.md; QEMU takes more. */
const MOST = { user_data: 512, nonce: 512, public_key: 1024 };

export interface NsmDescription {
  moduleId: string;
  /** "1.0.0" */
  version: string;
  maxPcrs: number;
  lockedPcrs: number[];
  digest: string;
}

export interface PcrState {
  locked: boolean;
  data: Uint8Array;
}

export interface AttestationFields {
  userData?: Uint8Array | undefined;
  nonce?: Uint8Array | undefined;
  publicKey?: Uint8Array | undefined;
}

/** The request's bytes: a bare name, or a name with its fields. Throws `ERR_NSM` where they are too many. */
export function encodeRequest(name: string, fields?: Record<string, unknown>): Uint8Array {
  const bytes = encodeCbor(fields === undefined ? name : { [name]: fields });
  if (bytes.length > NSM_REQUEST_MAX) {
    throw nsmError(`${name}: expected a request of at most ${NSM_REQUEST_MAX} bytes, found ${bytes.length}`);
  }
  return bytes;
}

/** Throws `ERR_ATTEST_REQUEST` (exit 2) where a field is longer than an NSM takes. */
export function encodeAttestation({ userData, nonce, publicKey }: AttestationFields): Uint8Array {
  const fields = { user_data: userData ?? null, nonce: nonce ?? null, public_key: publicKey ?? null };
  for (const [name, most] of Object.entries(MOST)) {
    const length = fields[name as keyof typeof fields]?.length ?? 0;
    if (length > most) {
      throw usageError('ERR_ATTEST_REQUEST', `${name}: expected at most ${most} bytes, found ${length}`);
    }
  }
  return encodeRequest('Attestation', fields);
}

/** The fields of the answer to `name`. Throws `ERR_NSM` with the name of the module's error, or where it is no answer. */
export function decodeResponse(name: string, bytes: Uint8Array): Fields {
  let value: unknown;
  try {
    value = decodeCbor(bytes, { what: 'answer of the NSM', maxBytes: NSM_RESPONSE_MAX, form: 'any' });
  } catch (cause) {
    throw nsmError(`${name}: ${cause instanceof Error ? cause.message : 'no CBOR'}`, cause);
  }
  // An answer without fields is its name alone.
  if (value === name) return new Fields(name, new Map());
  if (value instanceof Map && value.size === 1) {
    const error = value.get('Error');
    if (typeof error === 'string' && /^[A-Za-z]{1,40}$/.test(error))
      throw nsmError(`${name}: the NSM answered ${error}`);
    const fields = value.get(name);
    if (fields instanceof Map) return new Fields(name, fields);
  }
  throw nsmError(`${name}: expected an answer to it, found something else`);
}

/** Fields of one answer, each with the type that it must have. */
export class Fields {
  readonly #name: string;
  readonly #map: Map<unknown, unknown>;
  constructor(name: string, map: Map<unknown, unknown>) {
    this.#name = name;
    this.#map = map;
  }
  bytes(key: string, least: number, most: number): Uint8Array {
    const value = this.#map.get(key);
    if (value instanceof Uint8Array && value.length >= least && value.length <= most) return value;
    throw this.#wrong(key, `a byte string of ${least === most ? most : `${least} to ${most}`} bytes`);
  }
  number(key: string): number {
    const value = this.#map.get(key);
    if (isU16(value)) return value;
    throw this.#wrong(key, 'a number');
  }
  numbers(key: string): number[] {
    const value = this.#map.get(key);
    if (Array.isArray(value) && value.every(isU16)) return value;
    throw this.#wrong(key, 'a list of numbers');
  }
  flag(key: string): boolean {
    const value = this.#map.get(key);
    if (typeof value === 'boolean') return value;
    throw this.#wrong(key, 'true or false');
  }
  text(key: string): string {
    const value = this.#map.get(key);
    if (typeof value === 'string' && value.length <= 256) return value;
    throw this.#wrong(key, 'a short text');
  }
  #wrong(key: string, expected: string): AtomaError {
    return nsmError(`${this.#name}: expected ${key} to be ${expected}`);
  }
}

const isU16 = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) < 65536;

/** `ERR_NSM` (exit 1). */
export const nsmError = (message: string, cause?: unknown): AtomaError =>
  new AtomaError('unexpected', 'ERR_NSM', message, cause === undefined ? {} : { cause });
