/**
 * The registers that identify an image, one type for every TEE. All register values are lower-case hex.
 * This is also the shape that `--json` prints.
 */
export interface NitroMeasurement {
  tee: 'nitro';
  /** 48 bytes each (SHA-384). */
  pcr0: string;
  pcr1: string;
  pcr2: string;
  /** Signing certificate; only where the image is signed. */
  pcr8?: string;
}

export interface SgxMeasurement {
  tee: 'sgx';
  /** 32 bytes each. */
  mrenclave: string;
  mrsigner: string;
  isvprodid: number;
  isvsvn: number;
}

/** What a software stand-in says that a TEE would have measured, under the local root that vouches for it. */
export interface SimulatedMeasurement {
  tee: 'simulated';
  /** "sha256:" and the hex SHA-256 of the root certificate's DER. */
  root: string;
  of: NitroMeasurement | SgxMeasurement;
}

export type Measurement = NitroMeasurement | SgxMeasurement | SimulatedMeasurement;

const REGISTERS = {
  nitro: { pcr0: 48, pcr1: 48, pcr2: 48, pcr3: 48, pcr4: 48, pcr8: 48 },
  sgx: { mrenclave: 32, mrsigner: 32 },
} as const;

/** Byte length of a hex register, or undefined if the TEE has no such register. */
export const registerLength = (tee: 'nitro' | 'sgx', register: string): number | undefined =>
  (REGISTERS[tee] as Record<string, number>)[register];
