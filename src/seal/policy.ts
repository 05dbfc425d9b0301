import * as z from 'zod';
import { hex, isZero } from '../core/bytes.ts';
import { decodeCbor, encodeCbor } from '../core/cbor.ts';
import { type AtomaError, usageError } from '../core/errors.ts';
import { type NitroMeasurement, registerLength, type SgxMeasurement } from '../core/measurement.ts';

/** A release policy as one person reads it; every register and id is lower-case hex. sealed-model.md, "Release policy". */
export interface Policy {
  /** Evidence must satisfy one of these. */
  any: PolicyMeasurement[];
  /** Intel's status names; absent means ["UpToDate"]. */
  accept_tcb?: string[] | undefined;
  min_tcb_evaluation?: number | undefined;
  accept_advisories?: string[] | undefined;
  /** Allow-listed platform ids (PPID, chip id), hex. */
  platforms?: string[] | undefined;
  /** Unix seconds, by the broker's clock. */
  not_after?: number | undefined;
  project: string;
  /** Model digest, 32 bytes hex. */
  model: string;
}

export interface NitroPolicy {
  tee: 'nitro';
  pcr0?: string | undefined;
  pcr1?: string | undefined;
  pcr2?: string | undefined;
  pcr3?: string | undefined;
  pcr4?: string | undefined;
  pcr8?: string | undefined;
}

export interface SgxPolicy {
  tee: 'sgx';
  mrenclave?: string | undefined;
  mrsigner: string;
  isvprodid: number;
  min_isvsvn: number;
}

export interface SimulatedPolicy {
  tee: 'simulated';
  /** "sha256:" and the hex fingerprint of the local root. */
  root: string;
  of: NitroPolicy | SgxPolicy;
}

export type PolicyMeasurement = NitroPolicy | SgxPolicy | SimulatedPolicy;

const MAX_POLICY_BYTES = 65_536;

const hexBytes = (length: number) =>
  z.string().regex(new RegExp(`^[0-9a-f]{${2 * length}}$`), `expected ${length} bytes in lower-case hex`);
/** All zero is what a debug enclave reports: never a policy. */
const register = (length: number) =>
  hexBytes(length).refine((text) => !isZero(Buffer.from(text, 'hex')), 'all zero is what a debug enclave reports');
const uint = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const pcr = register(registerLength('nitro', 'pcr0') ?? 0).optional();
const text = z.string().min(1).max(256);

const nitro = z
  .strictObject({ tee: z.literal('nitro'), pcr0: pcr, pcr1: pcr, pcr2: pcr, pcr3: pcr, pcr4: pcr, pcr8: pcr })
  .refine(
    (m) => m.pcr8 !== undefined || (m.pcr0 !== undefined && m.pcr1 !== undefined && m.pcr2 !== undefined),
    'expected pcr0, pcr1 and pcr2, or pcr8: anything less identifies no image',
  );
const sgx = z.strictObject({
  tee: z.literal('sgx'),
  mrenclave: register(32).optional(),
  mrsigner: register(32),
  isvprodid: uint.max(0xffff),
  min_isvsvn: uint.max(0xffff),
});
const simulated = z.strictObject({
  tee: z.literal('simulated'),
  root: z.string().regex(/^sha256:[0-9a-f]{64}$/, 'expected "sha256:" and 64 hex digits'),
  of: z.discriminatedUnion('tee', [nitro, sgx]),
});

const schema = z.strictObject({
  any: z
    .array(z.discriminatedUnion('tee', [nitro, sgx, simulated]))
    .min(1)
    .max(256),
  accept_tcb: z.array(text).min(1).max(32).optional(),
  min_tcb_evaluation: uint.optional(),
  accept_advisories: z.array(text).max(1024).optional(),
  platforms: z
    .array(z.string().regex(/^(?:[0-9a-f]{2}){1,64}$/, 'expected at most 64 bytes in lower-case hex'))
    .min(1)
    .max(1024)
    .optional(),
  not_after: uint.optional(),
  project: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]*$/)
    .max(128),
  model: hexBytes(32),
});

/** Fields that are hex here and byte strings in dCBOR. */
const BYTES = new Set([
  'pcr0',
  'pcr1',
  'pcr2',
  'pcr3',
  'pcr4',
  'pcr8',
  'mrenclave',
  'mrsigner',
  'model',
  'platforms',
  'root',
]);
const ROOT_PREFIX = 'sha256:';

/** Throws `ERR_POLICY_INVALID` or `ERR_POLICY_MIXED` (exit 2) with the place and what was expected there. */
export function checkPolicy(value: unknown): Policy {
  const result = schema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw invalid(`${issue?.path.length ? `${issue.path.join('.')}: ` : ''}${issue?.message ?? 'malformed'}`);
  }
  const kinds = new Set(result.data.any.map((m) => m.tee === 'simulated'));
  if (kinds.size > 1) {
    throw usageError(
      'ERR_POLICY_MIXED',
      'the release policy mixes real and simulated measurements; expected all real or all simulated',
    );
  }
  return result.data;
}

/** What a policy names of an image: its own measurement, or whoever signed it. */
export type Binding = 'image' | 'signer';

/**
 * The alternative of a policy that an image is accepted by. Bound to its signer, a rebuilt image needs no new header: Nitro by PCR8, SGX by
 * MRSIGNER and product. SGX versions below `minIsvsvn` (default: the image's own) are refused either way. Throws `ERR_POLICY_UNSIGNED`,
 * `ERR_POLICY_INVALID` (exit 2).
 */
export function measurementPolicy(
  measurement: NitroMeasurement | SgxMeasurement,
  { bind, minIsvsvn }: { bind: Binding; minIsvsvn?: number | undefined },
): NitroPolicy | SgxPolicy {
  if (measurement.tee === 'nitro') {
    if (bind === 'image') return measurement;
    const { pcr8 } = measurement;
    if (pcr8 !== undefined) return { tee: 'nitro', pcr8 };
    throw usageError('ERR_POLICY_UNSIGNED', 'expected a signed image to name its signer, found one without PCR8', {
      hint: 'sign = { cert, key } in the [nitro] table of enclave.toml, or `nitro sign`',
    });
  }
  const { mrenclave, mrsigner, isvprodid, isvsvn } = measurement;
  if (minIsvsvn !== undefined && minIsvsvn > isvsvn) {
    throw invalid(
      `min_isvsvn is ${minIsvsvn}, but the image's isvsvn is ${isvsvn}: it could not open the model itself`,
    );
  }
  const signer = { mrsigner, isvprodid, min_isvsvn: minIsvsvn ?? isvsvn };
  return bind === 'image' ? { tee: 'sgx', mrenclave, ...signer } : { tee: 'sgx', ...signer };
}

/** Whether a policy accepts whatever one key signed: some alternative names no image. */
export const bindsSigner = ({ any }: Policy): boolean =>
  any.some((alternative) => {
    const { tee, ...registers } = alternative.tee === 'simulated' ? alternative.of : alternative;
    return tee === 'nitro'
      ? !('pcr0' in registers && registers.pcr0)
      : !('mrenclave' in registers && registers.mrenclave);
  });

/** Reads a policy file (JSON). Errors as checkPolicy. */
export function policyFromJson(json: string): Policy {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw invalid('expected JSON');
  }
  return checkPolicy(value);
}

/** The dCBOR that is hashed, signed and bound into every share. Errors as checkPolicy. */
export const encodePolicy = (policy: Policy): Uint8Array => encodeCbor(toCbor(checkPolicy(policy)));

/**
 * Reads hostile dCBOR: closed schema, deterministic form. Errors as checkPolicy, or `ERR_CBOR_MALFORMED` (exit 2).
 */
export function decodePolicy(bytes: Uint8Array): Policy {
  const value = decodeCbor(bytes, { maxBytes: MAX_POLICY_BYTES, what: 'release policy' });
  const policy = checkPolicy(fromCbor(value));
  // Closes what the conversion leaves open: a register as text where bytes belong, or the reverse.
  if (!Buffer.from(encodePolicy(policy)).equals(bytes)) throw invalid('a field has the wrong CBOR type');
  return policy;
}

function toCbor(value: unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map((item) => toCbor(item, key));
  if (typeof value === 'string' && BYTES.has(key))
    return new Uint8Array(Buffer.from(value.replace(ROOT_PREFIX, ''), 'hex'));
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([name, item]) => [name, toCbor(item, name)]));
}

function fromCbor(value: unknown, key = ''): unknown {
  if (value instanceof Uint8Array) return `${key === 'root' ? ROOT_PREFIX : ''}${hex(value)}`;
  if (Array.isArray(value)) return value.map((item) => fromCbor(item, key));
  if (!(value instanceof Map)) return value;
  // Not an object literal: a hostile "__proto__" must become an unknown key, not a prototype.
  const object: Record<string, unknown> = Object.create(null);
  for (const [name, item] of value) object[String(name)] = fromCbor(item, String(name));
  return Object.fromEntries(Object.entries(object));
}

const invalid = (why: string): AtomaError => usageError('ERR_POLICY_INVALID', `the release policy is invalid: ${why}`);
