import * as z from 'zod';
import { usageError } from '../core/errors.ts';
import { type Measurements, parseMeasurements } from './measurements.ts';

/** Registers of one image, as a file that somebody committed has them; with what is inside where the file says it. */
export interface ExpectedImage {
  target: 'nitro' | 'gramine';
  /** Register -> lower-case hex, or a number in decimal. */
  registers: Record<string, string>;
  /** Of measurements.json. */
  listed?: Measurements['images'][number];
}

const REGISTERS = {
  nitro: ['pcr0', 'pcr1', 'pcr2', 'pcr8'],
  gramine: ['mrenclave', 'mrsigner', 'isvprodid', 'isvsvn'],
} as const;

const digits = z.string().regex(/^[0-9a-fA-F]{64,128}$/);
const register = z.union([digits, z.int().min(0).max(0xffff)]);
const measurement = z.record(z.string(), z.unknown());
const withImages = z.object({ images: z.array(z.object({ measurement })).min(1) });
/** What nitro-cli prints. */
const nitroCli = z.object({ Measurements: measurement });

/**
 * Reads a file of expected measurements: measurements.json, what `build --json` prints, one measurement such as
 * {"pcr0": HEX} or {"mrenclave": HEX}, or what `nitro-cli build-enclave` prints. Registers that it does not name are not
 * expected to have any value. Throws `ERR_MEASUREMENTS_MALFORMED` (exit 2), also where it names no register.
 */
export function parseExpectedMeasurements(bytes: Uint8Array): ExpectedImage[] {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw malformed(cause);
  }
  if (isObject(json) && json.version === 1 && 'images' in json) {
    return parseMeasurements(bytes).images.map((listed) => ({
      target: listed.target,
      registers: registersOf(listed.measurement, listed.target),
      listed,
    }));
  }
  const images = withImages.safeParse(json);
  const cli = nitroCli.safeParse(json);
  const found = images.success
    ? images.data.images.map(({ measurement }) => measurement)
    : [cli.success ? lowerKeys(cli.data.Measurements) : isObject(json) ? json : {}];
  return found.map((one) => {
    const target = 'mrenclave' in one || 'mrsigner' in one ? ('gramine' as const) : ('nitro' as const);
    return { target, registers: registersOf(one, target) };
  });
}

function registersOf(measurement: Record<string, unknown>, target: ExpectedImage['target']): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of REGISTERS[target]) {
    if (measurement[name] === undefined) continue;
    const value = register.safeParse(measurement[name]);
    if (!value.success) throw malformed(value.error);
    found[name] = String(value.data).toLowerCase();
  }
  if (Object.keys(found).length === 0) throw malformed();
  return found;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const lowerKeys = (value: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(value).map(([key, item]) => [key.toLowerCase(), item]));

const malformed = (cause?: unknown) =>
  usageError('ERR_MEASUREMENTS_MALFORMED', 'expected measurements to compare with, found none that can be read', {
    cause,
    hint: 'give measurements.json of a build, what `atoma-tee build --json` printed, or {"pcr0": "..."}',
  });
