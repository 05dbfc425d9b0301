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

/** An Intel TDX trust domain; a field per register of the TD report. */
export interface TdxMeasurement {
  tee: 'tdx';
  /** 48 bytes each (SHA-384). */
  mrtd: string;
  rtmr0: string;
  rtmr1: string;
  rtmr2: string;
  rtmr3: string;
  /** The TDX module and its signer (zero: Intel). */
  mrseam: string;
  mrsignerseam: string;
  /** Set by whoever starts the domain. */
  mrconfigid: string;
  mrowner: string;
  mrownerconfig: string;
  /** 8 bytes each, as they lie in the report. */
  tdattributes: string;
  xfam: string;
}

/** An AMD SEV-SNP guest. */
export interface SnpMeasurement {
  tee: 'snp';
  /** Launch measurement, 48 bytes (SHA-384). */
  measurement: string;
  /** 32 bytes that the host chose at launch. */
  hostdata: string;
  /** SHA-384 of the keys that signed the launch, 48 bytes each; zero where none did. */
  idkeydigest: string;
  authorkeydigest: string;
}

/** What a software stand-in says that a TEE would have measured, under the local root that vouches for it. */
export interface SimulatedMeasurement {
  tee: 'simulated';
  /** "sha256:" and the hex SHA-256 of the root certificate's DER. */
  root: string;
  of: NitroMeasurement | SgxMeasurement;
}

export type Measurement = NitroMeasurement | SgxMeasurement | TdxMeasurement | SnpMeasurement | SimulatedMeasurement;

const REGISTERS = {
  nitro: { pcr0: 48, pcr1: 48, pcr2: 48, pcr3: 48, pcr4: 48, pcr8: 48 },
  sgx: { mrenclave: 32, mrsigner: 32 },
  tdx: {
    mrtd: 48,
    rtmr0: 48,
    rtmr1: 48,
    rtmr2: 48,
    rtmr3: 48,
    mrseam: 48,
    mrsignerseam: 48,
    mrconfigid: 48,
    mrowner: 48,
    mrownerconfig: 48,
    tdattributes: 8,
    xfam: 8,
  },
  snp: { measurement: 48, hostdata: 32, idkeydigest: 48, authorkeydigest: 48 },
} as const;

/** Byte length of a hex register, or undefined if the TEE has no such register. */
export const registerLength = (tee: keyof typeof REGISTERS, register: string): number | undefined =>
  (REGISTERS[tee] as Record<string, number>)[register];
