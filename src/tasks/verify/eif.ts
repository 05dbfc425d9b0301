import { compare, pass } from '../../core/check.ts';
import type { OnProgress } from '../../core/progress.ts';
import { streamEif } from '../../nitro/index.ts';
import { compareMeasurement, type Expected } from './expect.ts';
import type { Findings } from './report.ts';

/** An image: structure, CRC, measurement. */
export async function verifyEif(path: string, expected: Expected, findings: Findings, onProgress?: OnProgress) {
  const measured = await findings.step('image.structure', () => streamEif(path, { onProgress }));
  if (!measured) return;
  const crc = (n: number) => n.toString(16).padStart(8, '0');
  findings.add(compare('image.crc', crc(measured.crc.stored), crc(measured.crc.computed)));
  findings.add(...compareMeasurement(expected, measured.measurement));
  if (measured.signature) {
    findings.notChecked.push('who signed the image: its signature was parsed, not judged');
  } else {
    findings.add(pass('image.unsigned', 'not signed, so no PCR8'));
  }
  findings.notChecked.push('image metadata, flags and default memory: they are not measured');
}
