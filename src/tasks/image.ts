import { basename, dirname, join } from 'node:path';
import { negativeError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { parseStatement, type Statement } from '../manifest/statement.ts';
import { type MeasuredEif, measuredConfigTap, requireCrc, streamEif } from '../nitro/index.ts';

/** Build manifests list every file of an image; more than this is not one. */
export const MAX_MANIFEST = 32 << 20;

export async function readManifest(path: string): Promise<Statement> {
  return parseStatement(await readSmallFile(path, 'build manifest', MAX_MANIFEST));
}

/** A subject's or byproduct's file, which must lie beside the manifest: a name is never a path out of its directory. */
export function besideManifest(manifest: string, name: string): string {
  if (name !== basename(name) || name === '.' || name === '..' || name === '' || name.includes('\0')) {
    throw usageError('ERR_MANIFEST_MALFORMED', `the manifest names "${name}", expected a file beside it`);
  }
  return join(dirname(manifest), name);
}

/** The Nitro image of a manifest. Throws `ERR_MANIFEST_NO_IMAGE` (exit 2). */
export const nitroSubject = (statement: Statement) => imageSubject(statement, '.eif', 'a Nitro image');

/** The Gramine image of a manifest. Throws `ERR_MANIFEST_NO_IMAGE` (exit 2). */
export const gramineSubject = (statement: Statement) => imageSubject(statement, '.manifest.sgx', 'a Gramine image');

function imageSubject({ subject: subjects }: Statement, suffix: string, what: string): Statement['subject'][number] {
  const subject = subjects.find(({ name }) => name.endsWith(suffix));
  if (subject) return subject;
  throw usageError('ERR_MANIFEST_NO_IMAGE', `expected ${what} (NAME${suffix}) in the build manifest, found none`, {
    hint: '`atoma-tee build --target` says what is built',
  });
}

export interface BuiltImage {
  statement: Statement;
  path: string;
  measured: MeasuredEif;
  config: MeasuredConfig;
}

/**
 * Measures the image beside a manifest, in one pass with reading its measured configuration; its digest must be the
 * manifest's. Throws `ERR_IMAGE_DIGEST` or `ERR_EIF_CRC` (exit 3), and what reading and parsing throw.
 */
export async function loadImage(manifest: string, onProgress?: OnProgress): Promise<BuiltImage> {
  const statement = await readManifest(manifest);
  const subject = nitroSubject(statement);
  const path = besideManifest(manifest, subject.name);
  const { measured, config } = await measureImage(path, onProgress);
  requireDigest(subject, measured, path);
  requireCrc(measured);
  return { statement, path, measured, config };
}

/** An image of a manifest as it was found beside it. */
export interface MeasuredImage {
  target: 'nitro';
  path: string;
  measurement: NitroMeasurement;
  config: MeasuredConfig;
}

/** Every image of a manifest, each measured anew: what a release policy is made of. Throws as `loadImage`. */
export async function loadImages(
  manifest: string,
  onProgress?: OnProgress,
): Promise<{ statement: Statement; images: MeasuredImage[] }> {
  const { statement, path, measured, config } = await loadImage(manifest, onProgress);
  return { statement, images: [{ target: 'nitro', path, measurement: measured.measurement, config }] };
}

/** Throws `ERR_IMAGE_DIGEST` (exit 3) where a measured image is not the one that a manifest names. */
export function requireDigest(
  { digest }: Statement['subject'][number],
  { sha256 }: { sha256?: string | undefined },
  path: string,
): void {
  if (sha256 !== undefined && sha256 === digest.sha256) return;
  throw negativeError(
    'ERR_IMAGE_DIGEST',
    `${path} is not the image of this manifest: expected sha256 ${digest.sha256}, found ${sha256}`,
  );
}

/** Measures any image of ours. */
export async function measureImage(path: string, onProgress?: OnProgress) {
  const tap = measuredConfigTap();
  const measured = await streamEif(path, { onRamdisk: tap.onRamdisk, onProgress });
  return { measured, config: tap.config() };
}
