import { hex, isZero, knownHex } from '../core/bytes.ts';
import { decodeCbor, encodeCbor } from '../core/cbor.ts';
import { usageError } from '../core/errors.ts';
import type { NitroMeasurement, SgxMeasurement } from '../core/measurement.ts';

/** Limits of the Nitro attestation document (aws-nitro-enclaves-nsm-api, docs/attestation_process.md and its CDDL). */
export const LIMITS = { document: 16384, certificate: 1024, cabundle: 8, field: 1024, registers: 32 } as const;
const PCR_LENGTH = 48;
/**
 * Ours have registers 0 to 15, and real ones had so far; locked higher ones may follow. The specification asks for one
 * register at least, and a document without these three says nothing of its image.
 */
const NEEDED = { deterministic: Array.from({ length: 16 }, (_, index) => index), any: [0, 1, 2] };
const KEYS = [
  'module_id',
  'digest',
  'timestamp',
  'pcrs',
  'certificate',
  'cabundle',
  'public_key',
  'user_data',
  'nonce',
];

/** Of simulated documents only: what an SGX enclave would have measured. */
const SGX_KEY = 'sgx';

/** An SGX enclave, for which a simulated document speaks. */
export interface MeasuredEnclave extends SgxMeasurement {
  debug: boolean;
}

/** The payload of a Nitro attestation document, and of a simulated one. */
export interface AttestationDocument {
  moduleId: string;
  /** Milliseconds since 1970. */
  timestamp: number;
  /** 48 bytes each. */
  pcrs: Map<number, Uint8Array>;
  /** DER; the leaf. */
  certificate: Uint8Array;
  /** DER; root first. */
  cabundle: Uint8Array[];
  publicKey: Uint8Array | null;
  userData: Uint8Array | null;
  nonce: Uint8Array | null;
  /** Only in simulated documents; the registers are zero beside it. */
  sgx?: MeasuredEnclave;
}

/** Deterministic CBOR (real Nitro documents order their keys otherwise). */
export const encodeDocument = (document: AttestationDocument): Uint8Array =>
  encodeCbor({
    module_id: document.moduleId,
    digest: 'SHA384',
    timestamp: document.timestamp,
    pcrs: document.pcrs,
    certificate: document.certificate,
    cabundle: document.cabundle,
    public_key: document.publicKey,
    user_data: document.userData,
    nonce: document.nonce,
    ...(document.sgx === undefined ? {} : { [SGX_KEY]: encodeEnclave(document.sgx) }),
  });

/**
 * Parses and bounds a document. `form` is `any` for real Nitro documents (indefinite maps, other key order), and
 * `deterministic` for simulated ones, which may speak for an SGX enclave.
 * Throws `ERR_EVIDENCE_MALFORMED` or `ERR_CBOR_MALFORMED` (exit 2). Verifies nothing.
 */
export function parseDocument(bytes: Uint8Array, form: 'deterministic' | 'any'): AttestationDocument {
  const what = 'attestation document';
  const map = decodeCbor(bytes, { what, maxBytes: LIMITS.document, form });
  if (!(map instanceof Map)) throw malformed('expected a map');
  const keys = form === 'deterministic' ? [...KEYS, SGX_KEY] : KEYS;
  const unknown = [...map.keys()].find((key) => typeof key !== 'string' || !keys.includes(key));
  if (unknown !== undefined) throw malformed(`unknown key ${JSON.stringify(String(unknown))}`);
  const { timestamp, module_id: moduleId } = Object.fromEntries(map) as Record<string, unknown>;
  if (map.get('digest') !== 'SHA384') throw malformed('expected digest "SHA384"');
  if (typeof moduleId !== 'string' || moduleId === '' || moduleId.length > 256) throw malformed('bad module_id');
  // 2^43 ms is in the year 2248: what is beyond is not a time, and dates stay representable.
  if (typeof timestamp !== 'number' || !Number.isSafeInteger(timestamp) || timestamp <= 0 || timestamp >= 2 ** 43) {
    throw malformed('bad timestamp');
  }
  const cabundle: unknown = map.get('cabundle');
  if (!Array.isArray(cabundle) || cabundle.length < 1 || cabundle.length > LIMITS.cabundle) {
    throw malformed(`expected 1 to ${LIMITS.cabundle} certificates in cabundle`);
  }
  return {
    moduleId,
    timestamp,
    pcrs: readRegisters(map.get('pcrs'), NEEDED[form]),
    certificate: byteString(map.get('certificate'), 'certificate', 1, LIMITS.certificate),
    cabundle: cabundle.map((item) => byteString(item, 'certificate in cabundle', 1, LIMITS.certificate)),
    publicKey: optional(map.get('public_key'), 'public_key', 1),
    userData: optional(map.get('user_data'), 'user_data', 0),
    nonce: optional(map.get('nonce'), 'nonce', 0),
    ...(map.has(SGX_KEY) ? { sgx: readEnclave(map.get(SGX_KEY)) } : {}),
  };
}

/** What a document says of its enclave, and whether its memory is open to the host. */
export function measuredBy(document: Pick<AttestationDocument, 'pcrs' | 'sgx'>): {
  measurement: NitroMeasurement | SgxMeasurement;
  debug: boolean;
} {
  if (document.sgx !== undefined) {
    const { debug, ...measurement } = document.sgx;
    return { measurement, debug };
  }
  const register = (index: number) => document.pcrs.get(index) ?? Buffer.alloc(48);
  return {
    measurement: {
      tee: 'nitro',
      pcr0: hex(register(0)),
      pcr1: hex(register(1)),
      pcr2: hex(register(2)),
      // Zero means unsigned.
      ...(isZero(register(8)) ? {} : { pcr8: hex(register(8)) }),
    },
    // A debug enclave's registers are zero.
    debug: [0, 1, 2].every((index) => isZero(register(index))),
  };
}

const encodeEnclave = ({ mrenclave, mrsigner, isvprodid, isvsvn, debug }: MeasuredEnclave) => ({
  mrenclave: knownHex(mrenclave),
  mrsigner: knownHex(mrsigner),
  isvprodid,
  isvsvn,
  debug,
});

function readEnclave(value: unknown): MeasuredEnclave {
  const map = value instanceof Map && value.size === 5 ? value : new Map<string, unknown>();
  const debug: unknown = map.get('debug');
  if (typeof debug !== 'boolean') throw malformed('sgx: expected mrenclave, mrsigner, isvprodid, isvsvn and debug');
  return {
    tee: 'sgx',
    mrenclave: hex(byteString(map.get('mrenclave'), 'mrenclave', 32, 32)),
    mrsigner: hex(byteString(map.get('mrsigner'), 'mrsigner', 32, 32)),
    isvprodid: u16(map.get('isvprodid'), 'isvprodid'),
    isvsvn: u16(map.get('isvsvn'), 'isvsvn'),
    debug,
  };
}

function u16(value: unknown, name: string): number {
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) < 1 << 16) return value as number;
  throw malformed(`${name} is not a number below 2^16`);
}

function readRegisters(value: unknown, needed: number[]): Map<number, Uint8Array> {
  if (!(value instanceof Map)) throw malformed('pcrs is not a map');
  const registers = new Map<number, Uint8Array>();
  for (const [index, register] of value) {
    if (!Number.isInteger(index) || index < 0 || index >= LIMITS.registers)
      throw malformed('a PCR number is not 0..31');
    registers.set(index, byteString(register, `PCR${index}`, PCR_LENGTH, PCR_LENGTH));
  }
  const missing = needed.find((index) => !registers.has(index));
  if (missing !== undefined) throw malformed(`PCR${missing} is missing`);
  return registers;
}

const optional = (value: unknown, name: string, least: number): Uint8Array | null =>
  value === null || value === undefined ? null : byteString(value, name, least, LIMITS.field);

function byteString(value: unknown, name: string, least: number, most: number): Uint8Array {
  if (!(value instanceof Uint8Array)) throw malformed(`${name} is not a byte string`);
  if (value.length < least || value.length > most) {
    throw malformed(`${name}: expected ${least === most ? most : `${least} to ${most}`} bytes, found ${value.length}`);
  }
  return value;
}

const malformed = (why: string) => usageError('ERR_EVIDENCE_MALFORMED', `attestation document: ${why}`);
