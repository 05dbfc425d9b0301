import { sha256 } from '../../core/bytes.ts';
import { compare, fail } from '../../core/check.ts';
import { negativeError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import type { NitroMeasurement, SgxMeasurement } from '../../core/measurement.ts';
import type { OnProgress } from '../../core/progress.ts';
import { MEASUREMENTS_FILE, type Measurements, parseMeasurements } from '../../manifest/measurements.ts';
import { parseStatement, type Statement } from '../../manifest/statement.ts';
import { measuredConfigTap, streamEif } from '../../nitro/index.ts';
import { besideManifest, isGramine, isNitro, MAX_MANIFEST, nitroSubject, readManifest } from '../image.ts';
import { configurationChecks } from './configuration.ts';
import { signatureChecks } from './eif.ts';
import { sigstructName, verifyGramineImage } from './gramine-image.ts';
import type { Findings } from './report.ts';
import { unseen } from './unseen.ts';

export type ImageMeasurement = NitroMeasurement | SgxMeasurement;

/** What a build manifest says is right, for judging other files by it. */
export interface ManifestFacts {
  statement: Statement;
  /** One per image, each of another TEE. */
  measurements: ImageMeasurement[];
  /** Hex. */
  modelDigest: string;
  owner: string;
  project: string;
}

/**
 * Reads a manifest as the standard to compare with. The measurement comes from measurements.json, whose digest the manifest
 * holds; its image need not be here. Throws `ERR_MANIFEST_MEASUREMENTS` (exit 3) if that digest is another.
 */
export const manifestFacts = async (path: string): Promise<ManifestFacts> =>
  statedFacts(path, await readManifest(path));

/** The same of a statement that was read from `path`. */
export async function statedFacts(path: string, statement: Statement): Promise<ManifestFacts> {
  const { measurements, checks } = await loadMeasurements(path, statement);
  if (checks.some(({ status }) => status === 'fail')) {
    throw negativeError(
      'ERR_MANIFEST_MEASUREMENTS',
      `${MEASUREMENTS_FILE} beside ${path} is not the one of this manifest`,
    );
  }
  const images = statement.subject.filter((subject) => isNitro(subject) || isGramine(subject));
  if (images.length === 0) nitroSubject(statement);
  const found = images.map(({ name }) => {
    const image = measurements.images.find(({ file }) => file === name);
    if (image) return image.measurement as ImageMeasurement;
    throw negativeError('ERR_MANIFEST_MEASUREMENTS', `${MEASUREMENTS_FILE} beside ${path} does not hold ${name}`);
  });
  const { externalParameters } = statement.predicate.buildDefinition;
  return {
    statement,
    measurements: found,
    modelDigest: externalParameters.model.digest.sha256 ?? '',
    owner: externalParameters.owner,
    project: String(externalParameters.project.name),
  };
}

/** A build manifest: every output has its digest, the measurement is recomputed, the image measured what the manifest says. */
export async function verifyBuildManifest(
  path: string,
  bytes: Buffer,
  findings: Findings,
  now: Date,
  onProgress?: OnProgress,
) {
  const statement = await findings.step('manifest.statement', () => parseStatement(bytes));
  if (!statement) return;
  const loaded = await findings.step('manifest.measurements', () => loadMeasurements(path, statement));
  if (!loaded) return;
  findings.add(...loaded.checks);
  await verifyBom(path, statement, loaded.measurements, findings);
  findings.notChecked.push(...(await unseen(path, statement)));
  for (const subject of statement.subject) {
    if (isGramine(subject)) {
      await verifyGramineImage(path, statement, subject, loaded.measurements, findings, onProgress);
    } else if (isNitro(subject)) {
      await verifyNitroImage(path, statement, subject, loaded.measurements, findings, now, onProgress);
    } else if (!signatures(statement).has(subject.name)) {
      const detail = `expected images, and signatures of enclaves, found ${JSON.stringify(subject.name)}: nothing here can check it`;
      findings.add(fail('manifest.subject', { detail }));
    }
  }
}

/** Subjects that are looked at together with their enclaves. */
const signatures = ({ subject }: Statement): Set<string> =>
  new Set(subject.filter(isGramine).map(({ name }) => sigstructName(name)));

async function verifyNitroImage(
  manifest: string,
  statement: Statement,
  subject: Statement['subject'][number],
  measurements: Measurements,
  findings: Findings,
  now: Date,
  onProgress?: OnProgress,
): Promise<void> {
  const tap = measuredConfigTap();
  const measured = await findings.step('image.structure', () =>
    streamEif(besideManifest(manifest, subject.name), {
      onRamdisk: tap.onRamdisk,
      tolerant: true,
      fileDigests: ['sha256', 'sha384'],
      onProgress,
    }),
  );
  if (!measured) return;
  const listed = measurements.images.find((image) => image.target === 'nitro' && image.file === subject.name);
  const registers = listed?.target === 'nitro' ? listed.measurement : undefined;
  findings.add(
    compare('image.sha256', subject.digest.sha256 ?? 'none', measured.sha256 ?? 'none'),
    compare('image.sha384', subject.digest.sha384 ?? 'none', measured.sha384 ?? 'none'),
    compare('image.listed-sha256', listed?.sha256 ?? 'not listed', measured.sha256 ?? 'none'),
    compare('image.crc', String(measured.crc.stored), String(measured.crc.computed)),
  );
  if (measured.signature || measured.signatureError) findings.add(...signatureChecks(measured, now));
  for (const register of ['pcr0', 'pcr1', 'pcr2', 'pcr8'] as const) {
    const [expected = 'not listed', actual = 'none'] = [registers?.[register], measured.measurement[register]];
    if (register === 'pcr8' && expected === 'not listed' && actual === 'none') continue;
    findings.add(compare(`measurement.${register}`, expected, actual));
  }
  const measuredConfig = await findings.step('configuration.format', () => tap.config());
  if (!measuredConfig) return;
  findings.add(...configurationChecks(statement, measuredConfig, subject.name));
}

/** The bill of materials beside the manifest: the one that it names, of the same inputs, model and images. */
async function verifyBom(path: string, statement: Statement, measurements: Measurements, findings: Findings) {
  const { BOM_FILE } = await import('../../bom/facts.ts');
  const listed = statement.predicate.runDetails.byproducts.find(({ name }) => name === BOM_FILE);
  const bytes = await readSmallFile(besideManifest(path, BOM_FILE), 'bill of materials', MAX_MANIFEST);
  findings.add(compare('bom.digest', listed?.digest?.sha256 ?? 'not listed', sha256(bytes).toString('hex')));
  const { bomChecks, parseBom } = await import('../../bom/check.ts');
  const bom = await findings.step('bom.format', () => parseBom(bytes));
  if (bom) findings.add(...bomChecks(bom, statement, measurements));
}

async function loadMeasurements(manifest: string, statement: Statement) {
  const listed = statement.predicate.runDetails.byproducts.find(({ name }) => name === MEASUREMENTS_FILE);
  const bytes = await readSmallFile(besideManifest(manifest, MEASUREMENTS_FILE), 'measurements', MAX_MANIFEST);
  const check = compare(
    'manifest.measurements-digest',
    listed?.digest?.sha256 ?? 'not listed',
    sha256(bytes).toString('hex'),
  );
  return { measurements: parseMeasurements(bytes), checks: [check] };
}
