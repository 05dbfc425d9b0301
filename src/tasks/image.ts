import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { negativeError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import type { NitroMeasurement, SgxMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { gramineNames } from '../gramine/image-manifest.ts';
import { parseStatement, type Statement } from '../manifest/statement.ts';
import { measuredConfigTap, requireCrc, streamEif } from '../nitro/index.ts';

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

type Subject = Statement['subject'][number];
const [EIF, SIGNED_MANIFEST] = ['.eif', gramineNames('').manifest];

export const isNitro = ({ name }: Subject): boolean => name.endsWith(EIF);
export const isGramine = ({ name }: Subject): boolean => name.endsWith(SIGNED_MANIFEST);

/** The Nitro image of a manifest. Throws `ERR_MANIFEST_NO_IMAGE` (exit 2). */
export const nitroSubject = ({ subject }: Statement): Subject => subject.find(isNitro) ?? noImage(EIF, 'a Nitro image');

/** The Gramine image of a manifest. Throws `ERR_MANIFEST_NO_IMAGE` (exit 2). */
export const gramineSubject = ({ subject }: Statement): Subject =>
  subject.find(isGramine) ?? noImage(SIGNED_MANIFEST, 'a Gramine image');

function noImage(suffix: string, what: string): never {
  throw usageError('ERR_MANIFEST_NO_IMAGE', `expected ${what} (NAME${suffix}) in the build manifest, found none`, {
    hint: '`atoma-tee build --target` says what is built',
  });
}

/** The signature that goes with a Gramine image, under its name. Throws `ERR_MANIFEST_MALFORMED` (exit 2). */
export function sigstructSubject({ subject }: Statement, name: string): Subject {
  const found = subject.find((other) => other.name === name);
  if (found) return found;
  throw usageError('ERR_MANIFEST_MALFORMED', `expected the manifest to name ${name} beside its enclave, found none`);
}

/** Of a measured configuration, what a release policy is made of. */
export type ImageConfig = Pick<MeasuredConfig, 'project' | 'model'>;

/** An image of a manifest as it was found beside it. */
export type MeasuredImage =
  | { target: 'nitro'; path: string; measurement: NitroMeasurement; config: ImageConfig }
  | {
      target: 'gramine';
      /** NAME.manifest.sgx; its signature and its directory (root, libpal.so, libsysdb.so) lie beside it. */
      path: string;
      sigstruct: string;
      directory: string;
      measurement: SgxMeasurement;
      config: ImageConfig;
      /** The host can read the memory of a debug enclave. */
      debug: boolean;
    };

/** Gives an image that is not beside its manifest, from what somebody trusted says of it. */
export type AbsentImage = (statement: Statement, subject: Subject, path: string) => Promise<MeasuredImage>;

/**
 * Every image of a manifest, each measured anew: what a release policy is made of. Its digest must be the manifest's;
 * the configuration of a Gramine image counts only with the digest that is measured.
 *
 * Throws `ERR_MANIFEST_NO_IMAGE` (exit 2), `ERR_IMAGE_DIGEST`, `ERR_EIF_CRC`, `ERR_SIGSTRUCT_*`, `ERR_GRAMINE_FILE_DIGEST`
 * (exit 3), and what reading and parsing throw. `absent` stands in for images that are not there.
 */
export async function loadImages(
  manifest: string,
  onProgress?: OnProgress,
  absent?: AbsentImage,
): Promise<{ statement: Statement; images: MeasuredImage[] }> {
  const statement = await readManifest(manifest);
  const images: MeasuredImage[] = [];
  for (const subject of statement.subject) {
    const path = besideManifest(manifest, subject.name);
    const measured = isNitro(subject) || isGramine(subject);
    if (measured && absent && !isThere(path)) images.push(await absent(statement, subject, path));
    else if (isNitro(subject)) images.push(await loadNitro(subject, path, onProgress));
    else if (isGramine(subject)) images.push(await loadGramine(statement, subject, path, onProgress));
  }
  if (images.length === 0) nitroSubject(statement);
  return { statement, images };
}

/** A Gramine image is measured from its directory too. */
const isThere = (path: string): boolean =>
  existsSync(path) && (!isGramine({ name: path, digest: {} }) || existsSync(gramineFiles(path).directory));

/** What belongs to NAME.manifest.sgx. */
export function gramineFiles(path: string): { sigstruct: string; directory: string } {
  const { sigstruct, directory } = gramineNames(path.slice(0, -SIGNED_MANIFEST.length));
  return { sigstruct, directory };
}

async function loadNitro(subject: Subject, path: string, onProgress?: OnProgress): Promise<MeasuredImage> {
  const { measured, config } = await measureImage(path, onProgress);
  requireDigest(subject, measured, path);
  requireCrc(measured);
  return { target: 'nitro', path, measurement: measured.measurement, config };
}

async function loadGramine(
  statement: Statement,
  subject: Subject,
  path: string,
  onProgress?: OnProgress,
): Promise<MeasuredImage> {
  const { readBuiltImage } = await import('../gramine/built-image.ts');
  const { sha256, measurement, config, name, settings } = await readBuiltImage(path, { onProgress });
  requireDigest(subject, { sha256: sha256.manifest }, path);
  const names = gramineNames(name);
  const [sigstruct, directory] = [names.sigstruct, names.directory].map((file) => join(dirname(path), file));
  requireDigest(sigstructSubject(statement, names.sigstruct), { sha256: sha256.sigstruct }, sigstruct as string);
  return {
    target: 'gramine',
    path,
    sigstruct: sigstruct as string,
    directory: directory as string,
    measurement,
    config,
    debug: settings.debug,
  };
}

/** Throws `ERR_IMAGE_DIGEST` (exit 3) where a measured image is not the one that a manifest names. */
export function requireDigest({ digest }: Subject, { sha256 }: { sha256?: string | undefined }, path: string): void {
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
