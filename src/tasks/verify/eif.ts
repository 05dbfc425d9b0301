import { type Check, compare, fail, pass } from '../../core/check.ts';
import type { OnProgress } from '../../core/progress.ts';
import { checkSignature, type MeasuredEif, streamEif, validity, validityProblem } from '../../nitro/index.ts';
import { compareMeasurement, type Expected, registersFor } from './expect.ts';
import type { Findings } from './report.ts';

/** An image: structure, CRC, measurement, signature. The signing certificate has to be valid at `now`. */
export async function verifyEif(
  path: string,
  expected: Expected,
  findings: Findings,
  onProgress?: OnProgress,
  now: Date = new Date(),
) {
  const measured = await findings.step('image.structure', () => streamEif(path, { tolerant: true, onProgress }));
  if (!measured) return;
  const crc = (n: number) => n.toString(16).padStart(8, '0');
  findings.add(compare('image.crc', crc(measured.crc.stored), crc(measured.crc.computed)));
  findings.add(...signatureChecks(measured, now));
  findings.add(...compareMeasurement(expected, measured.measurement));
  if (measured.signature && !('pcr8' in (registersFor(expected, 'nitro') ?? {}))) {
    findings.notChecked.push(
      `who signed the image: any certificate will do (--expect pcr8=${measured.signature.pcr8} insists on this one)`,
    );
  }
  findings.notChecked.push('image metadata, flags and default memory: they are not measured');
}

/**
 * Whether an image's signature is its own certificate's, over the registers that were computed, and whether that
 * certificate is valid at `now`: nitro-cli starts no image otherwise. Whose certificate it is, PCR8 says.
 */
export function signatureChecks({ signature, signatureError, measurement }: MeasuredEif, now: Date): Check[] {
  if (signatureError) {
    return [fail('image.signature', { detail: `${signatureError.message} (${signatureError.code})` })];
  }
  if (!signature) return [pass('image.unsigned', 'not signed, so no PCR8')];
  const { valid, reason } = checkSignature(signature, measurement.pcr0);
  const subject = signature.certificate.subject.replaceAll('\n', ', ');
  const problem = validityProblem(signature.certificate, now);
  return [
    valid
      ? pass('image.signature', `PCR0 signed by ${subject}`)
      : fail('image.signature', { detail: `${reason} (ERR_EIF_UNVERIFIED)` }),
    problem === null
      ? pass('image.certificate', `valid until ${validity(signature.certificate).notAfter.toISOString()}`)
      : fail('image.certificate', { detail: `the signing certificate ${problem} (ERR_CERTIFICATE_VALIDITY)` }),
  ];
}
