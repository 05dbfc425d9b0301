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
 * expected to have any value, but those that cover everything of an image have to be there: PCR0, or PCR1 and PCR2; MRENCLAVE.
 * Throws `ERR_MEASUREMENTS_MALFORMED` (exit 2), also for two measurements of one target and for a debug enclave's zeros.
 */
export function parseExpectedMeasurements(bytes: Uint8Array): ExpectedImage[] {
  const images = readExpected(bytes);
  for (const { target, registers } of images) {
    if (images.filter((image) => image.target === target).length > 1)
      throw malformed(undefined, `found two measurements for ${target}: nobody knows which one is meant`);
    const { pcr0, pcr1, pcr2, mrenclave } = registers;
    if (target === 'nitro' && /^0+$/.test(pcr0 ?? `${pcr1}${pcr2}`))
      throw malformed(undefined, 'found the zeros of a debug enclave, which has no measurement');
    if (target === 'nitro' ? pcr0 === undefined && (pcr1 === undefined || pcr2 === undefined) : mrenclave === undefined)
      throw malformed(
        undefined,
        target === 'nitro'
          ? 'found neither pcr0 nor both pcr1 and pcr2: one of those alone leaves a part of the image uncompared'
          : 'found no mrenclave: what else there is says nothing of what is inside',
      );
  }
  return images;
}

function readExpected(bytes: Uint8Array): ExpectedImage[] {
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
    if (target === 'gramine' && REGISTERS.nitro.some((name) => name in one))
      throw malformed(
        undefined,
        'found registers of Nitro and of SGX in one: give {"images":[{"measurement":...},...]}',
      );
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

const malformed = (cause?: unknown, found = 'found none that can be read') =>
  usageError('ERR_MEASUREMENTS_MALFORMED', `expected measurements to compare with, ${found}`, {
    cause,
    hint: 'give measurements.json of a build, what `atoma-tee build --json` printed, or {"pcr0": "..."}',
  });
