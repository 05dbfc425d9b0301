import { hex, isZero, knownHex } from '../core/bytes.ts';
import type { Measurement } from '../core/measurement.ts';
import { ClaimFailure } from './claim-reader.ts';
import type { Claims } from './types.ts';

// enclave_measurements of a receipt (key-release.md, "Receipts"): per kind of TEE, and which profile a receipt of it has.

export const AIR_PROFILE = 'https://spec.cyntrisec.com/air/v1';
/** AIR v1 has a form for Nitro and TDX only. Receipts of the others are the same but for the measurements, under our own name. */
export const OWN_PROFILE = 'urn:atoma-tee:receipt:v1';
const REGISTER_LENGTH = 48;

/** Length in bytes of a register, or a number. `may` are optional. */
interface Form {
  profile: string;
  must: Record<string, number | 'uint'>;
  may: Record<string, number>;
}

const AIR = { pcr0: REGISTER_LENGTH, pcr1: REGISTER_LENGTH, pcr2: REGISTER_LENGTH };
const FORMS = {
  'nitro-pcr': {
    profile: AIR_PROFILE,
    must: AIR,
    may: { pcr3: REGISTER_LENGTH, pcr4: REGISTER_LENGTH, pcr8: REGISTER_LENGTH },
  },
  'tdx-mrtd-rtmr': { profile: AIR_PROFILE, must: AIR, may: { pcr3: REGISTER_LENGTH, pcr4: REGISTER_LENGTH } },
  sgx: { profile: OWN_PROFILE, must: { mrenclave: 32, mrsigner: 32, isvprodid: 'uint', isvsvn: 'uint' }, may: {} },
  snp: { profile: OWN_PROFILE, must: { measurement: REGISTER_LENGTH, hostdata: 32 }, may: {} },
} satisfies Record<string, Form>;

export type MeasurementType = keyof typeof FORMS;

/** AIR v1: registers of 48 bytes each. For TDX, pcr0 is MRTD and pcr1 to pcr4 are RTMR0 to RTMR3. */
export interface AirMeasurements {
  measurementType: 'nitro-pcr' | 'tdx-mrtd-rtmr';
  pcr0: Uint8Array;
  pcr1: Uint8Array;
  pcr2: Uint8Array;
  pcr3?: Uint8Array;
  pcr4?: Uint8Array;
  pcr8?: Uint8Array;
}

/** Our profile: an SGX enclave's. */
export interface SgxReceiptMeasurements {
  measurementType: 'sgx';
  /** 32 bytes each. */
  mrenclave: Uint8Array;
  mrsigner: Uint8Array;
  isvprodid: number;
  isvsvn: number;
}

/** Our profile: an SEV-SNP guest's. */
export interface SnpReceiptMeasurements {
  measurementType: 'snp';
  /** 48 bytes. */
  measurement: Uint8Array;
  /** 32 bytes. */
  hostdata: Uint8Array;
}

export type ReceiptMeasurements = AirMeasurements | SgxReceiptMeasurements | SnpReceiptMeasurements;

/** The eat_profile of a receipt with such measurements. */
export const profileOf = ({ measurementType }: ReceiptMeasurements): string => FORMS[measurementType].profile;

/** Reads the map of claim -65543. Throws ClaimFailure at the first rule that it breaks. */
export function readMeasurements(value: unknown, profile: string): ReceiptMeasurements {
  if (!(value instanceof Map)) throw new ClaimFailure('MEAS', 'BAD_MEASUREMENTS', 'enclave_measurements is not a map');
  const type: unknown = value.get('measurement_type');
  const types = Object.entries(FORMS).filter(([, form]) => form.profile === profile);
  // Each kind has one form: AIR's registers under our name would be a second way to say the same.
  const form: Form | undefined = types.find(([name]) => name === type)?.[1];
  if (form === undefined) {
    const names = types.map(([name]) => name).join(' or ');
    throw new ClaimFailure('MTYPE', 'BAD_MEASUREMENT_TYPE', `expected measurement_type ${names}`);
  }
  const { must, may } = form;
  const read: Record<string, unknown> = {};
  for (const [name, register] of value) {
    if (name === 'measurement_type') continue;
    const known = typeof name === 'string' && (Object.hasOwn(must, name) || Object.hasOwn(may, name));
    if (!known) {
      throw new ClaimFailure('MEAS', 'UNKNOWN_MEASUREMENT', `${type} has no register ${JSON.stringify(String(name))}`);
    }
    requireRegister(name, register, must[name] ?? may[name]);
    read[name] = register;
  }
  if (Object.keys(must).some((name) => !Object.hasOwn(read, name))) {
    throw new ClaimFailure('MEAS', 'MISSING_MEASUREMENT', `expected ${Object.keys(must).join(', ')}`);
  }
  return { measurementType: type, ...read } as unknown as ReceiptMeasurements;
}

function requireRegister(name: string, value: unknown, form: number | 'uint' | undefined): void {
  if (form === 'uint') {
    // ISVPRODID and ISVSVN are 16 bits wide.
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) < 1 << 16) return;
    throw new ClaimFailure('MEAS', 'BAD_MEASUREMENT_LENGTH', `${name}: expected a number below 2^16`);
  }
  if (value instanceof Uint8Array && value.length === form) return;
  throw new ClaimFailure('MEAS', 'BAD_MEASUREMENT_LENGTH', `${name}: expected ${form} bytes`);
}

/**
 * What a receipt says of an enclave that measures so: for whoever makes receipts. Registers that a form may leave out are said
 * where they hold anything: PCR8 is zero for an unsigned image.
 */
export function receiptMeasurements(measurement: Measurement): ReceiptMeasurements {
  const { measurementType, registers } = evidenceMeasurements({ measurement });
  const { must, may }: Form = FORMS[measurementType];
  const said: [string, Uint8Array | number][] = [];
  for (const [name, value] of Object.entries(registers)) {
    const bytes = typeof value === 'number' ? value : knownHex(value);
    const worthIt = Object.hasOwn(may, name) && typeof bytes !== 'number' && !isZero(bytes);
    if (Object.hasOwn(must, name) || worthIt) said.push([name, bytes]);
  }
  return { measurementType, ...Object.fromEntries(said) } as unknown as ReceiptMeasurements;
}

/** Every register that evidence has under the names that receipts give it; hex, or a number. */
function evidenceMeasurements({ measurement, pcrs }: Pick<Claims, 'measurement' | 'pcrs'>): {
  measurementType: MeasurementType;
  registers: Record<string, string | number>;
} {
  // A simulated TEE says what the real one would have measured.
  const real: Exclude<Measurement, { tee: 'simulated' }> =
    measurement.tee === 'simulated' ? measurement.of : measurement;
  switch (real.tee) {
    case 'nitro': {
      const { tee, ...own } = real;
      const all = [...(pcrs ?? [])].map(([index, value]) => [`pcr${index}`, value] as const);
      return { measurementType: 'nitro-pcr', registers: { ...own, ...Object.fromEntries(all) } };
    }
    case 'tdx': {
      const { mrtd: pcr0, rtmr0: pcr1, rtmr1: pcr2, rtmr2: pcr3, rtmr3: pcr4 } = real;
      return { measurementType: 'tdx-mrtd-rtmr', registers: { pcr0, pcr1, pcr2, pcr3, pcr4 } };
    }
    case 'sgx': {
      const { mrenclave, mrsigner, isvprodid, isvsvn } = real;
      return { measurementType: 'sgx', registers: { mrenclave, mrsigner, isvprodid, isvsvn } };
    }
    case 'snp': {
      const { measurement: launch, hostdata } = real;
      return { measurementType: 'snp', registers: { measurement: launch, hostdata } };
    }
  }
}

export interface MeasurementMismatch {
  expected: string;
  actual: string;
}

/** The first register in which a receipt and the evidence differ; undefined where all that the receipt says is in the evidence. */
export function measurementMismatch(
  measurements: ReceiptMeasurements,
  evidence: Pick<Claims, 'measurement' | 'pcrs'>,
): MeasurementMismatch | undefined {
  const found = evidenceMeasurements(evidence);
  const { measurementType, ...registers } = measurements;
  if (found.measurementType !== measurementType) return { expected: found.measurementType, actual: measurementType };
  for (const [name, value] of Object.entries(registers)) {
    const actual = typeof value === 'number' ? value : hex(value);
    const expected = Object.hasOwn(found.registers, name) ? found.registers[name] : 'none';
    if (expected !== actual) return { expected: `${name} ${expected}`, actual: `${name} ${actual}` };
  }
  return undefined;
}
