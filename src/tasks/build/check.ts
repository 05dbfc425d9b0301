import { join } from 'node:path';
import { negativeError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import type { DiffReport } from '../../diff/index.ts';
import { compareMeasurements, type MeasurementDifference } from '../../manifest/compare-measurements.ts';
import { type ExpectedImage, parseExpectedMeasurements } from '../../manifest/expected-measurements.ts';
import { MEASUREMENTS_FILE, parseMeasurements } from '../../manifest/measurements.ts';
import { diff } from '../diff.ts';
import type { Target } from './content.ts';

const MAX_MEASUREMENTS = 32 << 20;
/** `details` of an error is for scripts and job summaries; a base image can differ in ten thousands of files. */
const TOLD = 1000;

/** `details` of ERR_BUILD_CHECK. */
export interface CheckDetails {
  differences: MeasurementDifference[];
  /** How many more there are. */
  omitted: number;
  /** What `atoma-tee diff` says: A is the file, B this build. */
  diff?: DiffReport | undefined;
}

/** The measurements that `build --check FILE` compares with. Throws `ERR_MEASUREMENTS_MALFORMED`, `ERR_FILE_*` (exit 2). */
export const readExpected = async (path: string): Promise<ExpectedImage[]> =>
  parseExpectedMeasurements(await readSmallFile(path, 'measurements', MAX_MEASUREMENTS));

/**
 * Compares the build in `dir` with what was expected, before anything of it is published. `targets`: those that were asked
 * for by name, so that others of the file are not missed. Throws `ERR_BUILD_CHECK` (exit 3) with the differences.
 */
export async function requireExpected(
  dir: string,
  file: string,
  expected: ExpectedImage[],
  targets: Target[] | undefined,
): Promise<void> {
  const { images } = parseMeasurements(
    await readSmallFile(join(dir, MEASUREMENTS_FILE), 'measurements', MAX_MEASUREMENTS),
  );
  const wanted = expected.filter(({ target }) => targets === undefined || targets.includes(target));
  const differences = compareMeasurements(wanted, images);
  if (differences.length === 0) return;
  const names = differences.filter(({ kind }) => kind === 'register' || kind === 'image').map(({ name }) => name);
  throw negativeError(
    'ERR_BUILD_CHECK',
    `this build has other measurements than expected: ${names.join(', ')}; nothing was written`,
    {
      hint: 'if the change is meant, build without --check and commit the new measurements.json; `atoma-tee diff` explains two builds',
      details: {
        differences: differences.slice(0, TOLD),
        omitted: Math.max(0, differences.length - TOLD),
        // The build goes away with this error: it is compared now.
        diff: await diff({ a: file, b: join(dir, MEASUREMENTS_FILE) }).then(
          (found) => ({ ...found, b: { ...found.b, path: 'this build' } }),
          () => undefined,
        ),
      },
    },
  );
}
