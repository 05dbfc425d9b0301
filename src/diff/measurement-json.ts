import * as z from 'zod';
import { usageError } from '../core/errors.ts';
import type { Registers } from './sides.ts';

/** Registers alone, as some tool printed them. */
export interface BareMeasurement {
  target: 'nitro' | 'gramine';
  registers: Registers;
  debug: boolean;
}

const pcr = z.string().regex(/^[0-9a-fA-F]{96}$/);
const digest = z.string().regex(/^[0-9a-fA-F]{64}$/);
const number = z.union([z.int(), z.string().regex(/^\d+$/)]);
const nitro = z.object({ pcr0: pcr, pcr1: pcr, pcr2: pcr, pcr8: pcr.optional() });
const sgx = z.object({
  mrenclave: digest,
  mrsigner: digest.optional(),
  isvprodid: number.optional(),
  isvsvn: number.optional(),
});
/** nitro-cli: build-enclave, describe-eif, describe-enclaves. */
const nitroCli = z.object({ PCR0: pcr, PCR1: pcr, PCR2: pcr, PCR8: pcr.optional() });

type Json = Record<string, unknown>;
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
/** Places in which tools put a measurement, one in another. */
const INSIDE = ['measurement', 'Measurements', 'images', 'of', 'claims', 'results'];
const MAX_DEPTH = 6;

/**
 * Finds the measurements in a JSON document: what `build`, `inspect` or `run` print with --json, and what nitro-cli prints.
 * Throws `ERR_DIFF_INPUT` (exit 2) for two of one target that are not the same: a choice would be a verdict.
 */
export function findMeasurements(document: unknown): BareMeasurement[] {
  const found: BareMeasurement[] = [];
  const add = (one: BareMeasurement) => {
    const known = found.find(({ target }) => target === one.target);
    if (known === undefined) found.push(one);
    else if (JSON.stringify(known) !== JSON.stringify(one)) {
      throw usageError(
        'ERR_DIFF_INPUT',
        `expected one measurement for ${one.target} in a JSON document, found several`,
        {
          hint: 'give each of them in a file of its own',
        },
      );
    }
  };
  const walk = (value: unknown, debug: boolean, depth: number): void => {
    if (depth > MAX_DEPTH) return;
    if (Array.isArray(value)) {
      for (const item of value.slice(0, 64)) walk(item, debug, depth + 1);
      return;
    }
    if (!isObject(value)) return;
    const inDebug = debug || value.Flags === 'DEBUG_MODE' || value.debug === true;
    const one = read(value, inDebug);
    if (one) add(one);
    for (const key of INSIDE) if (key in value) walk(value[key], inDebug, depth + 1);
  };
  walk(document, false, 0);
  return found;
}

function read(value: Json, debug: boolean): BareMeasurement | null {
  const ours = nitro.safeParse(value);
  if (ours.success) return { target: 'nitro', registers: registersOf(ours.data), debug };
  const theirs = nitroCli.safeParse(value);
  if (theirs.success) {
    const { PCR0, PCR1, PCR2, PCR8 } = theirs.data;
    return { target: 'nitro', registers: registersOf({ pcr0: PCR0, pcr1: PCR1, pcr2: PCR2, pcr8: PCR8 }), debug };
  }
  const enclave = sgx.safeParse(value);
  return enclave.success ? { target: 'gramine', registers: registersOf(enclave.data), debug } : null;
}

const registersOf = (fields: Record<string, string | number | undefined>): Registers =>
  Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value).toLowerCase()]],
    ),
  );
