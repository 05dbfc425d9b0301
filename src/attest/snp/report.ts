import { isZero } from '../../core/bytes.ts';
import { usageError } from '../../core/errors.ts';

/** A report's length, and how much of it is signed (AMD SEV-SNP ABI, document 56860, table "ATTESTATION_REPORT"). */
export const REPORT_LENGTH = 1184;
const SIGNED_LENGTH = 0x2a0;
const ECDSA_P384_SHA384 = 1;
const VERSIONS = { least: 2, most: 5 };

/** Which key signed: of the chip, or of the cloud provider. */
export type SigningKey = 'VCEK' | 'VLEK' | 'none';

/** The guest policy (same document, table "Guest Policy"). */
export interface GuestPolicy {
  abiMajor: number;
  abiMinor: number;
  smt: boolean;
  migrationAgent: boolean;
  debug: boolean;
  singleSocket: boolean;
  cxl: boolean;
  aes256: boolean;
  raplDisabled: boolean;
  ciphertextHiding: boolean;
  pageSwapDisabled: boolean;
}

/** An SEV-SNP attestation report, parsed but not verified; byte strings lie as in the report, little endian. */
export interface SnpReport {
  version: number;
  guestSvn: number;
  policy: GuestPolicy;
  familyId: Buffer;
  imageId: Buffer;
  vmpl: number;
  /** Security patch levels, 8 bytes each; tcb.ts says which byte is whose. */
  currentTcb: Buffer;
  reportedTcb: Buffer;
  committedTcb: Buffer;
  launchTcb: Buffer;
  platformInfo: bigint;
  authorKey: boolean;
  /** The host had the firmware not sign with the chip's key. */
  maskChipKey: boolean;
  signingKey: SigningKey;
  reportData: Buffer;
  measurement: Buffer;
  hostData: Buffer;
  idKeyDigest: Buffer;
  authorKeyDigest: Buffer;
  reportId: Buffer;
  /** Of the migration agent: all ones (or zeros) where there is none. */
  reportIdMa: Buffer;
  /** Version 3 and later. */
  cpuid: { family: number; model: number; stepping: number } | undefined;
  /** 64 bytes; zero where the host masked it. */
  chipId: Buffer;
  /** "major.minor.build" of the firmware. */
  currentFirmware: string;
  committedFirmware: string;
  /** Versions 4 and 5: which mitigations were verified at launch and now; bits are per platform. */
  mitigations: { launch: bigint; current: bigint } | undefined;
  /** The bytes under the signature. */
  signed: Buffer;
  /** r || s, 48 bytes each, big endian as everybody else has them. */
  signature: Buffer;
}

const POLICY_BITS: [keyof GuestPolicy, bigint][] = [
  ['smt', 16n],
  ['migrationAgent', 18n],
  ['debug', 19n],
  ['singleSocket', 20n],
  ['cxl', 21n],
  ['aes256', 22n],
  ['raplDisabled', 23n],
  ['ciphertextHiding', 24n],
  ['pageSwapDisabled', 25n],
];
const KNOWN_POLICY = 0x3ff_ffffn;
const MUST_BE_ONE = 17n;
const SIGNING_KEYS: Record<number, SigningKey> = { 0: 'VCEK', 1: 'VLEK', 7: 'none' };

/**
 * Parses a report of versions 2 to 5. What the ABI reserves must be zero: an unknown bit is firmware behaviour that nobody
 * looked at. Throws `ERR_EVIDENCE_MALFORMED` (exit 2). Verifies nothing.
 */
export function parseReport(bytes: Uint8Array): SnpReport {
  const report = Buffer.from(bytes);
  if (report.length !== REPORT_LENGTH) throw malformed(`expected ${REPORT_LENGTH} bytes, found ${report.length}`);
  const u32 = (offset: number) => report.readUInt32LE(offset);
  const slice = (offset: number, length: number) => report.subarray(offset, offset + length);
  const version = u32(0);
  if (version < VERSIONS.least || version > VERSIONS.most) {
    throw malformed(`expected version ${VERSIONS.least} to ${VERSIONS.most}, found ${version}`);
  }
  if (u32(0x34) !== ECDSA_P384_SHA384) throw malformed(`expected ECDSA P-384 with SHA-384 (1), found ${u32(0x34)}`);
  const keys = u32(0x48);
  const signingKey = SIGNING_KEYS[(keys >> 2) & 7];
  if (signingKey === undefined || keys >>> 5 !== 0) throw malformed('unknown key information');
  checkReserved(report, version);
  return {
    version,
    guestSvn: u32(4),
    policy: readPolicy(report.readBigUInt64LE(8)),
    familyId: slice(0x10, 16),
    imageId: slice(0x20, 16),
    vmpl: u32(0x30),
    currentTcb: slice(0x38, 8),
    platformInfo: report.readBigUInt64LE(0x40),
    authorKey: (keys & 1) !== 0,
    maskChipKey: (keys & 2) !== 0,
    signingKey,
    reportData: slice(0x50, 64),
    measurement: slice(0x90, 48),
    hostData: slice(0xc0, 32),
    idKeyDigest: slice(0xe0, 48),
    authorKeyDigest: slice(0x110, 48),
    reportId: slice(0x140, 32),
    reportIdMa: slice(0x160, 32),
    reportedTcb: slice(0x180, 8),
    cpuid:
      version >= 3
        ? { family: report.readUInt8(0x188), model: report.readUInt8(0x189), stepping: report.readUInt8(0x18a) }
        : undefined,
    chipId: slice(0x1a0, 64),
    committedTcb: slice(0x1e0, 8),
    currentFirmware: firmware(report, 0x1e8),
    committedFirmware: firmware(report, 0x1ec),
    launchTcb: slice(0x1f0, 8),
    mitigations:
      version >= 4 ? { launch: report.readBigUInt64LE(0x1f8), current: report.readBigUInt64LE(0x200) } : undefined,
    signed: slice(0, SIGNED_LENGTH),
    signature: Buffer.concat([bigEndian(slice(SIGNED_LENGTH, 72)), bigEndian(slice(SIGNED_LENGTH + 72, 72))]),
  };
}

function checkReserved(report: Buffer, version: number): void {
  const reserved: [from: number, to: number][] = [
    [0x4c, 0x50],
    [version >= 3 ? 0x18b : 0x188, 0x1a0],
    [0x1eb, 0x1ec],
    [0x1ef, 0x1f0],
    [version >= 4 ? 0x208 : 0x1f8, SIGNED_LENGTH],
    [SIGNED_LENGTH + 144, REPORT_LENGTH],
  ];
  const bad = reserved.find(([from, to]) => !isZero(report.subarray(from, to)));
  if (bad) throw malformed(`bytes 0x${bad[0].toString(16)} to 0x${(bad[1] - 1).toString(16)} are not zero`);
}

function readPolicy(bits: bigint): GuestPolicy {
  if ((bits & ~KNOWN_POLICY) !== 0n) throw malformed(`unknown bits in the guest policy 0x${bits.toString(16)}`);
  if (((bits >> MUST_BE_ONE) & 1n) === 0n) throw malformed('bit 17 of the guest policy is not one');
  const flags = Object.fromEntries(POLICY_BITS.map(([name, bit]) => [name, ((bits >> bit) & 1n) === 1n]));
  return { abiMajor: Number((bits >> 8n) & 0xffn), abiMinor: Number(bits & 0xffn), ...flags } as unknown as GuestPolicy;
}

const firmware = (report: Buffer, at: number): string =>
  `${report.readUInt8(at + 2)}.${report.readUInt8(at + 1)}.${report.readUInt8(at)}`;

/** 72 bytes little endian, of which P-384 needs 48. */
function bigEndian(number: Buffer): Buffer {
  if (!isZero(number.subarray(48))) throw malformed('a number of the signature is longer than 48 bytes');
  return Buffer.from(number.subarray(0, 48)).reverse();
}

const malformed = (why: string) => usageError('ERR_EVIDENCE_MALFORMED', `SEV-SNP report: ${why}`);
