import { usageError } from '../core/errors.ts';

export type CpuFeature = 'unspecified' | 'disabled' | 'required';

/** What of a manifest goes into MRENCLAVE and SIGSTRUCT beside its bytes. */
export interface SgxSettings {
  /** Bytes; a power of two. */
  enclaveSize: bigint;
  edmm: boolean;
  maxThreads: number;
  isvprodid: number;
  isvsvn: number;
  debug: boolean;
  useExinfo: boolean;
  cpuFeatures: Record<(typeof CPU_FEATURES)[number], CpuFeature>;
}

/** In the order in which they take effect: AVX-512 comes after AVX, whose bit it holds too. */
export const CPU_FEATURES = ['avx', 'avx512', 'amx', 'mpx', 'pkru'] as const;

/** pal/src/host/linux-sgx: MAX_DBG_THREADS. */
const MAX_THREADS = 4096;
/** User addresses end there; the default with EDMM is 1024G. */
const MAX_SIZE = 1n << 47n;
/** Without EDMM every page of the enclave is measured: 64 bytes each, so 16 GiB at most. */
const MAX_SIZE_MEASURED = 1n << 40n;

/**
 * The settings of a complete manifest (one that has Gramine's defaults), with the limits that Gramine's loader and the CPU
 * set. Throws `ERR_GRAMINE_VALUE` (exit 2).
 */
export function sgxSettings(table: Record<string, unknown>): SgxSettings {
  const sgx = table.sgx;
  if (!isTable(sgx)) throw wrong('sgx', 'a table', sgx);
  const edmm = flag(sgx, 'edmm_enable');
  if (edmm && flag(sgx, 'preheat_enclave', false)) {
    throw wrong('sgx.preheat_enclave', 'false where edmm_enable is true', true);
  }
  return {
    enclaveSize: enclaveSize(sgx.enclave_size, edmm),
    edmm,
    maxThreads: integer(sgx, 'max_threads', 1, MAX_THREADS),
    isvprodid: integer(sgx, 'isvprodid', 0, 0xffff),
    isvsvn: integer(sgx, 'isvsvn', 0, 0xffff),
    debug: flag(sgx, 'debug'),
    useExinfo: flag(sgx, 'use_exinfo'),
    cpuFeatures: cpuFeatures(sgx.cpu_features),
  };
}

function enclaveSize(value: unknown, edmm: boolean): bigint {
  const size = typeof value === 'string' ? parseSize(value) : undefined;
  if (size === undefined) throw wrong('sgx.enclave_size', 'a size such as "256M"', value);
  // ECREATE refuses any other (Intel SDM, volume 3D), and so does Gramine's loader.
  if (size <= 0n || (size & (size - 1n)) !== 0n) throw wrong('sgx.enclave_size', 'a power of two', value);
  const most = edmm ? MAX_SIZE : MAX_SIZE_MEASURED;
  if (size <= most) return size;
  throw wrong('sgx.enclave_size', edmm ? 'at most 2^47 bytes' : 'at most 1024G without EDMM', value);
}

const NUMBER = /^\s*\+?(0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|0(?:_?0)*|[1-9](?:_?[0-9])*)\s*$/;
const SCALES: Record<string, bigint> = { K: 1n << 10n, M: 1n << 20n, G: 1n << 30n };

/** A size as Gramine's signer reads it: Python's int(text, 0), and one of the suffixes K, M and G. Undefined for anything else. */
export function parseSize(text: string): bigint | undefined {
  if (text.length > 64) return undefined;
  const scale = SCALES[text.at(-1) ?? ''];
  const digits = NUMBER.exec(scale === undefined ? text : text.slice(0, -1))?.[1];
  return digits === undefined ? undefined : BigInt(digits.replaceAll('_', '')) * (scale ?? 1n);
}

function cpuFeatures(value: unknown): SgxSettings['cpuFeatures'] {
  if (value !== undefined && !isTable(value)) throw wrong('sgx.cpu_features', 'a table', value);
  const entries = CPU_FEATURES.map((name) => {
    const setting = (value?.[name] ?? 'unspecified') as CpuFeature;
    // MPX and PKRU are switched off for safety: they cannot be left to whoever starts the enclave.
    const known =
      name === 'mpx' || name === 'pkru' ? ['disabled', 'required'] : ['unspecified', 'disabled', 'required'];
    if (value?.[name] !== undefined && !known.includes(setting)) {
      throw wrong(`sgx.cpu_features.${name}`, known.join(' or '), setting);
    }
    return [name, setting] as const;
  });
  return Object.fromEntries(entries) as SgxSettings['cpuFeatures'];
}

function integer(sgx: Record<string, unknown>, name: string, least: number, most: number): number {
  const value = sgx[name];
  const number = typeof value === 'bigint' || Number.isInteger(value) ? Number(value) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw wrong(`sgx.${name}`, `a whole number from ${least} to ${most}`, value);
}

function flag(sgx: Record<string, unknown>, name: string, otherwise?: boolean): boolean {
  const value = sgx[name] ?? otherwise;
  if (typeof value === 'boolean') return value;
  throw wrong(`sgx.${name}`, 'true or false', value);
}

const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function wrong(key: string, expected: string, found: unknown): Error {
  const shown =
    found === undefined
      ? 'nothing'
      : typeof found === 'object'
        ? 'something else'
        : JSON.stringify(String(found)).slice(0, 80);
  const hint = found === undefined ? { hint: 'complete it first: atoma-tee gramine manifest, or gramine sign' } : {};
  return usageError('ERR_GRAMINE_VALUE', `${key}: expected ${expected}, found ${shown}`, hint);
}
