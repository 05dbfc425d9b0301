import { hex } from '../../core/bytes.ts';
import type { SnpMeasurement } from '../../core/measurement.ts';
import type { ProductLine } from '../roots/amd.ts';
import type { SnpReport } from './report.ts';
import { lineOfCpu, readTcb, showTcb } from './tcb.ts';

/** Bits of PLATFORM_INFO (SEV-SNP ABI, attestation report). */
const PLATFORM = ['smt', 'tsme', 'ecc', 'rapl-disabled', 'ciphertext-hiding', 'alias-check-complete', '', 'tio'];

export const reportMeasurement = (report: SnpReport): SnpMeasurement => ({
  tee: 'snp',
  measurement: hex(report.measurement),
  hostdata: hex(report.hostData),
  idkeydigest: hex(report.idKeyDigest),
  authorkeydigest: hex(report.authorKeyDigest),
});

/** What a report says beside its measurement, in words. `line` is the certificate's; without one the CPUID's, else the bytes. */
export function reportFacts(report: SnpReport, line?: ProductLine): Record<string, string> {
  const { policy, cpuid, platformInfo, mitigations } = report;
  const known = line ?? (cpuid === undefined ? null : lineOfCpu(cpuid));
  const tcb = (bytes: Buffer) => {
    const parts = known === null ? null : readTcb(bytes, known);
    return parts === null ? hex(bytes) : showTcb(parts);
  };
  const { abiMajor, abiMinor, ...flags } = policy;
  const set = Object.entries(flags).flatMap(([name, on]) => (on ? [name] : []));
  const platform = PLATFORM.filter((name, bit) => name !== '' && ((platformInfo >> BigInt(bit)) & 1n) === 1n);
  return {
    version: String(report.version),
    vmpl: String(report.vmpl),
    guestSvn: String(report.guestSvn),
    policy: `ABI ${abiMajor}.${abiMinor}${set.length > 0 ? `, ${set.join(', ')}` : ''}`,
    platformInfo: platform.join(', ') || 'none',
    signingKey: report.signingKey,
    chipId: hex(report.chipId),
    ...(cpuid === undefined
      ? {}
      : {
          cpuid: `family 0x${cpuid.family.toString(16)} model 0x${cpuid.model.toString(16)} stepping ${cpuid.stepping}`,
        }),
    reportedTcb: tcb(report.reportedTcb),
    committedTcb: tcb(report.committedTcb),
    currentTcb: tcb(report.currentTcb),
    launchTcb: tcb(report.launchTcb),
    firmware: report.currentFirmware,
    committedFirmware: report.committedFirmware,
    ...(mitigations === undefined
      ? {}
      : { mitigations: `launch 0x${mitigations.launch.toString(16)}, current 0x${mitigations.current.toString(16)}` }),
    familyId: hex(report.familyId),
    imageId: hex(report.imageId),
    reportId: hex(report.reportId),
    reportIdMa: hex(report.reportIdMa),
  };
}
