import { type Check, compare, fail, skipped } from '../../core/check.ts';
import { usageError } from '../../core/errors.ts';
import { type Measurement, registerLength } from '../../core/measurement.ts';

/** Which measurement the user says is right. */
export type Expected =
  /** An image per TEE; evidence is compared with its own TEE's. */
  | { from: 'manifest'; images: { tee: HardwareTee; registers: Record<string, string> }[] }
  | { from: 'flags'; registers: Record<string, string> }
  | { from: 'none' };
type HardwareTee = Exclude<Measurement['tee'], 'simulated'>;

const HARDWARE = ['nitro', 'sgx', 'tdx', 'snp'] as const;

/** Parses `--expect REGISTER=HEX` (repeatable; isvprodid and isvsvn are decimal) or `--expect none`. Throws `ERR_USAGE`. */
export function parseExpect(values: string[]): Expected | undefined {
  if (values.length === 0) return undefined;
  if (values.length === 1 && values[0] === 'none') return { from: 'none' };
  const registers: Record<string, string> = {};
  for (const value of values) {
    const number = /^(isvprodid|isvsvn)=(\d{1,5})$/.exec(value);
    if (number) {
      setOnce(registers, String(number[1]), String(Number(number[2])));
      continue;
    }
    const [, name, digits] = /^([a-z]+\d?)=([0-9a-fA-F]+)$/.exec(value) ?? [];
    const length = name && HARDWARE.map((tee) => registerLength(tee, name)).find((found) => found !== undefined);
    if (name === undefined || digits === undefined || !length) {
      throw usageError('ERR_USAGE', `--expect: expected REGISTER=HEX, such as pcr0=..., or none; found "${value}"`);
    }
    if (digits.length !== length * 2) {
      throw usageError('ERR_USAGE', `--expect ${name}: expected ${length * 2} hex digits, found ${digits.length}`);
    }
    setOnce(registers, name, digits.toLowerCase());
  }
  return { from: 'flags', registers };
}

function setOnce(registers: Record<string, string>, name: string, value: string): void {
  if (registers[name] !== undefined) throw usageError('ERR_USAGE', `--expect ${name}: expected once, found twice`);
  registers[name] = value;
}

/** From a build manifest: every register of each image. */
export function expectMeasurement(...measurements: Measurement[]): Expected {
  const images = measurements.map((measurement) => {
    const { tee, ...registers } = measurement.tee === 'simulated' ? measurement.of : measurement;
    return { tee, registers: Object.fromEntries(Object.entries(registers).map(([k, v]) => [k, String(v)])) };
  });
  return { from: 'manifest', images };
}

/** The registers that evidence of a TEE is compared with; undefined where the manifest has no image for it. */
export function registersFor(expected: Expected, tee: HardwareTee): Record<string, string> | undefined {
  if (expected.from === 'none') return {};
  if (expected.from === 'flags') return expected.registers;
  return expected.images.find((image) => image.tee === tee)?.registers;
}

/** What the flags leave open: a register of a part of the image does not say which image it is. */
export function uncompared(expected: Expected): string[] {
  if (expected.from !== 'flags') return [];
  const { pcr0, pcr1, pcr2, mrenclave, mrsigner, isvprodid, isvsvn, mrtd, rtmr0, rtmr1, rtmr2, measurement } =
    expected.registers;
  const domain = mrtd && rtmr0 && rtmr1 && rtmr2;
  if (pcr0 || (pcr1 && pcr2) || mrenclave || domain || measurement) return [];
  return [
    mrtd || rtmr0 || rtmr1 || rtmr2
      ? 'the rest of the trust domain: mrtd and rtmr0 to rtmr2 cover what it booted'
      : mrsigner || isvprodid || isvsvn
        ? 'which program of its signer it is: --expect mrenclave=HEX covers all of it'
        : 'the rest of the image: --expect pcr0=HEX covers all of it',
  ];
}

/** The error for a file that cannot be judged without knowing what is right. */
export const noExpectation = (what: string, register = 'pcr0=HEX (and pcr1, pcr2)') =>
  usageError(
    'ERR_NO_EXPECTATION',
    `expected to be told which measurement is right for ${what}, found nothing to compare with`,
    {
      hint: `give --manifest build.intoto.json, or --expect ${register}; --expect none says that any will do`,
    },
  );

/** Compares register by register. A debug enclave (all zero) is called that, not a mismatch. */
export function compareMeasurement(expected: Expected, found: Measurement): Check[] {
  if (expected.from === 'none') return [skipped('measurement.any', 'any measurement will do (--expect none)')];
  const actual = found.tee === 'simulated' ? found.of : found;
  if (actual.tee === 'nitro' && [actual.pcr0, actual.pcr1, actual.pcr2].every((pcr) => /^0+$/.test(pcr))) {
    return [
      fail('measurement.debug', {
        detail: 'DEBUG enclave: its measurement registers are all zero, so it proves nothing',
      }),
    ];
  }
  const registers = registersFor(expected, actual.tee);
  if (expected.from === 'manifest' && registers === undefined) {
    return [compare('measurement.tee', expected.images.map(({ tee }) => tee).join(' or '), actual.tee)];
  }
  return Object.entries(registers ?? {}).map(([register, value]) =>
    compare(
      `measurement.${register}`,
      value,
      String((actual as unknown as Record<string, unknown>)[register] ?? 'absent'),
    ),
  );
}
