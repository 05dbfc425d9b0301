import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Endorsements, VerifyEvidenceOptions } from '../../../src/attest/index.ts';
import {
  basicConstraints,
  extension,
  keyUsage,
  newKey,
  type RawCertificate,
  rawCertificate,
  SIGN_CERTIFICATES,
} from './certificates.ts';
import { der, TAG } from './der.ts';

// Reports as AMD's firmware makes them, under an ARK of our own: genuine ones for Genoa and Turin are not to be had here.

export const now = new Date('2026-11-22T10:00:00Z');
const rsa = () => generateKeyPairSync('rsa', { modulusLength: 4096 });
export const keys = { ark: rsa(), ask: rsa(), vek: newKey() };
/** keyCertSign and cRLSign. */
const ARK_USAGE = keyUsage(1, 0x06);

export const ark = rawCertificate(
  {
    subject: 'ARK',
    issuer: 'ARK',
    publicKey: keys.ark.publicKey,
    extensions: [basicConstraints(true), ARK_USAGE],
    serial: Buffer.from([1, 0, 0]),
  },
  keys.ark.privateKey,
);
export const ASK_SERIAL = Buffer.from([1, 0, 1]);
export const ask = (change: Partial<RawCertificate> = {}, issuerKey = keys.ark.privateKey) =>
  rawCertificate(
    {
      subject: 'ASK',
      issuer: 'ARK',
      publicKey: keys.ask.publicKey,
      extensions: [basicConstraints(true, 0), SIGN_CERTIFICATES],
      serial: ASK_SERIAL,
      ...change,
    },
    issuerKey,
  );

const ARC = '1.3.6.1.4.1.3704.1';
const integer = (value: number) => der(TAG.integer, Buffer.from(value < 0x80 ? [value] : [0, value]));
const ia5 = (text: string) => der(22, Buffer.from(text));

export interface VekChange {
  product?: string;
  /** Bootloader, TEE, SNP, microcode, and Turin's FMC. */
  levels?: { bl: number; tee: number; snp: number; ucode: number; fmc?: number };
  hwid?: Buffer | null;
  csp?: string;
  more?: Buffer[];
  without?: string[];
  certificate?: Partial<RawCertificate>;
  issuerKey?: KeyObject;
}

export const CHIP = Buffer.alloc(64, 0xc5);
export const LEVELS = { bl: 4, tee: 0, snp: 23, ucode: 211 };

/** A VCEK (or, with `csp`, a VLEK). */
export function vek(change: VekChange = {}): Buffer {
  const { bl, tee, snp, ucode, fmc }: NonNullable<VekChange['levels']> = change.levels ?? LEVELS;
  const hwid = change.hwid === undefined ? (change.csp === undefined ? CHIP : null) : change.hwid;
  const items: [string, Buffer][] = [
    ['1', integer(1)],
    ['2', ia5(change.product ?? 'Genoa-B1')],
    ['3.1', integer(bl)],
    ['3.2', integer(tee)],
    ['3.3', integer(snp)],
    ['3.8', integer(ucode)],
    ...(fmc === undefined ? [] : [['3.9', integer(fmc)] as [string, Buffer]]),
    ...(hwid === null ? [] : [['4', hwid] as [string, Buffer]]),
    ...(change.csp === undefined ? [] : [['5', ia5(change.csp)] as [string, Buffer]]),
  ];
  const extensions = items
    .filter(([arc]) => !change.without?.includes(arc))
    .map(([arc, value]) => extension(`${ARC}.${arc}`, value));
  return rawCertificate(
    {
      subject: 'SEV-VCEK',
      issuer: 'ASK',
      publicKey: keys.vek.publicKey,
      serial: Buffer.from([0]),
      extensions: [...extensions, ...(change.more ?? [])],
      ...change.certificate,
    },
    change.issuerKey ?? keys.ask.privateKey,
  );
}

/** TCB bytes for Milan and Genoa, and for Turin. */
export const oldTcb = ({ bl, tee, snp, ucode } = LEVELS) => Buffer.from([bl, tee, 0, 0, 0, 0, snp, ucode]);
export const turinTcb = ({
  bl,
  tee,
  snp,
  ucode,
  fmc,
}: {
  bl: number;
  tee: number;
  snp: number;
  ucode: number;
  fmc: number;
}) => Buffer.from([fmc, bl, tee, snp, 0, 0, 0, ucode]);

export interface ReportChange {
  version?: number;
  policy?: bigint;
  vmpl?: number;
  keyInfo?: number;
  cpuid?: [family: number, model: number, stepping: number];
  chipId?: Buffer;
  tcb?: Buffer;
  reported?: Buffer;
  committed?: Buffer;
  current?: Buffer;
  /** Bytes at offsets, before the report is signed. */
  bytes?: [offset: number, value: Buffer][];
  signer?: KeyObject;
}

/** A report (56860, table "ATTESTATION_REPORT") with anything about it replaced; without a change it is a Genoa's, version 3. */
export function snpReport(change: ReportChange = {}): Buffer {
  const report = Buffer.alloc(1184);
  const version = change.version ?? 3;
  const tcb = change.tcb ?? oldTcb();
  report.writeUInt32LE(version, 0);
  report.writeUInt32LE(2, 4);
  // ABI 1.55, SMT, and bit 17.
  report.writeBigUInt64LE(change.policy ?? 0x30137n, 8);
  report.writeUInt32LE(change.vmpl ?? 0, 0x30);
  report.writeUInt32LE(1, 0x34);
  (change.current ?? tcb).copy(report, 0x38);
  report.writeBigUInt64LE(0x25n, 0x40);
  report.writeUInt32LE(change.keyInfo ?? 0, 0x48);
  Buffer.alloc(64, 0xda).copy(report, 0x50);
  Buffer.alloc(48, 0x3e).copy(report, 0x90);
  Buffer.alloc(32, 0x40).copy(report, 0xc0);
  Buffer.alloc(32, 0xff).copy(report, 0x160);
  (change.reported ?? tcb).copy(report, 0x180);
  if (version >= 3) Buffer.from(change.cpuid ?? [0x19, 0x11, 1]).copy(report, 0x188);
  (change.chipId ?? CHIP).copy(report, 0x1a0);
  (change.committed ?? tcb).copy(report, 0x1e0);
  Buffer.from([21, 55, 1, 0, 21, 55, 1, 0]).copy(report, 0x1e8);
  tcb.copy(report, 0x1f0);
  for (const [offset, value] of change.bytes ?? []) value.copy(report, offset);
  const signature = sign('sha384', report.subarray(0, 0x2a0), {
    key: change.signer ?? keys.vek.privateKey,
    dsaEncoding: 'ieee-p1363',
  });
  Buffer.from(signature.subarray(0, 48)).reverse().copy(report, 0x2a0);
  Buffer.from(signature.subarray(48, 96))
    .reverse()
    .copy(report, 0x2a0 + 72);
  return report;
}

export const endorse = (certificates: Buffer[], crls: Buffer[] = []): Endorsements => ({
  certificates,
  crls,
  tcbInfos: [],
  qeIdentities: [],
});

export const trust = (
  certificates = [ask(), vek()],
  more: Partial<VerifyEvidenceOptions> = {},
): VerifyEvidenceOptions => ({ allowSimulated: [], now, roots: [ark], endorsements: endorse(certificates), ...more });
