import { lstatSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fromBase64, hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { readHead } from '../core/read-head.ts';
import { parseLock } from '../image/lock-file.ts';
import { MEASUREMENTS_FILE, type Measurements, parseMeasurements } from '../manifest/measurements.ts';
import { MANIFEST_FILE, parseStatement, type Statement } from '../manifest/statement.ts';
import { LOCK_FILE } from '../project/load.ts';
import { listedGramine, openGramine } from './gramine-side.ts';
import { lockOwner } from './lock-owners.ts';
import { findMeasurements } from './measurement-json.ts';
import { listedNitro, openNitro } from './nitro-side.ts';
import type { Side } from './sides.ts';
import type { SideFacts } from './types.ts';

export interface LoadOptions {
  /** Of a signed Gramine manifest. */
  libpal?: string | undefined;
  onProgress?: OnProgress | undefined;
}

const MAX_JSON = 128 << 20;
const HEAD = 1 << 16;

/**
 * Opens one side of a comparison, whatever it is: an EIF, a signed Gramine manifest, a build manifest (signed or not) or
 * measurements.json with the images beside it, a build directory, or a JSON document with a measurement.
 *
 * Throws `ERR_DIFF_INPUT` (exit 2) for anything else, and what the parsers throw.
 */
export async function loadSide(path: string, options: LoadOptions): Promise<Side> {
  const file = isDirectory(path) ? inDirectory(path) : path;
  const head = await readHead(file, HEAD);
  if (head.subarray(0, 4).toString('latin1') === '.eif') {
    const nitro = await openNitro(file, options.onProgress);
    return { ...blank(path, 'eif'), nitro };
  }
  if (/^\s*[[{]/.test(head.toString('latin1'))) {
    const document = await readSmallFile(file, 'JSON document', MAX_JSON);
    // A table of TOML begins like an array of JSON.
    const json = parseJson(document);
    if (json !== undefined) return loadJson(path, file, document, json, options);
  }
  if (
    !head.includes(0) &&
    /(^|\n)\s*(\[{1,2}(sgx|loader|libos|fs|sys)\b|(sgx|loader|libos|fs|sys)\.)/.test(head.toString('latin1'))
  ) {
    const gramine = await openGramine(file, options.libpal, options.onProgress);
    return { ...blank(path, 'gramine-manifest'), gramine, notes: gramine.notes };
  }
  throw notInput(path);
}

const blank = (path: string, kind: SideFacts['kind']): Side => ({ facts: { path, kind }, notes: [] });

async function loadJson(path: string, file: string, bytes: Buffer, json: unknown, options: LoadOptions): Promise<Side> {
  const fields = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  const signed = (fields.dsseEnvelope as { payload?: unknown } | undefined)?.payload;
  const statement = typeof signed === 'string' ? fromBase64(signed) : fields._type === undefined ? null : bytes;
  if (statement) return loadBuild(path, file, parseStatement(statement), options);
  if (fields.version === 1 && Array.isArray(fields.images)) {
    return withImages(blank(path, 'measurements'), dirname(file), parseMeasurements(bytes), [], options);
  }
  const measurements = findMeasurements(json);
  if (measurements.length === 0) throw notInput(path);
  const side = blank(path, 'measurement');
  side.notes.push('a measurement alone: only registers can be compared');
  for (const { target, registers, debug } of measurements) {
    if (target === 'nitro') side.nitro = { registers, debug };
    else side.gramine = { registers, debug, notes: [] };
  }
  return side;
}

async function loadBuild(path: string, file: string, statement: Statement, options: LoadOptions): Promise<Side> {
  const { externalParameters, internalParameters, resolvedDependencies } = statement.predicate.buildDefinition;
  const facts: SideFacts = {
    path,
    kind: 'build',
    project: externalParameters.project.name,
    toolkit: internalParameters.toolkit,
  };
  const pin = resolvedDependencies.find(({ name }) => name === LOCK_FILE)?.digest?.sha256;
  const lock = await findLock(dirname(file), pin);
  const side: Side = { facts, statement, notes: [], ...(lock ? { lock: lockOwner(lock) } : {}) };
  const listed = await readSmallFile(join(dirname(file), MEASUREMENTS_FILE), 'measurements', MAX_JSON).catch(
    () => null,
  );
  const names = statement.subject.map(({ name }) => name).filter((name) => !name.includes('/') && name !== '..');
  return withImages(side, dirname(file), listed && parseMeasurements(listed), names, options);
}

/** The lock that a build manifest pins, where it lies in the build directory or in the project above. */
async function findLock(directory: string, pin: string | undefined) {
  for (const place of [directory, dirname(directory)]) {
    const path = join(place, LOCK_FILE);
    const bytes = await readSmallFile(path, 'lock', 16 << 20).catch(() => null);
    if (bytes && hex(sha256(bytes)) === pin) return parseLock(bytes.toString('utf8'), path);
  }
  return null;
}

/** Images beside a document, and what measurements.json tells of those that are not there. */
async function withImages(
  side: Side,
  directory: string,
  listed: Measurements | null,
  subjects: string[],
  options: LoadOptions,
): Promise<Side> {
  const names = [...subjects, ...(listed?.images ?? []).map(({ file }) => file)].filter((name) => !name.includes('/'));
  const find = (suffix: string) => names.find((name) => name.endsWith(suffix) && isFile(join(directory, name)));
  const [eif, manifest] = [find('.eif'), find('.manifest.sgx')];
  const [nitro, gramine] = (['nitro', 'gramine'] as const).map((target) =>
    listed?.images.find((image) => image.target === target),
  );
  if (eif !== undefined) {
    side.nitro = await openNitro(join(directory, eif), options.onProgress);
    if (nitro?.target === 'nitro' && nitro.measurement.pcr0 !== side.nitro.registers.pcr0) {
      side.notes.push(
        `${eif} is not the image that ${MEASUREMENTS_FILE} beside it is of: the image's bytes are compared`,
      );
    }
  } else if (nitro?.target === 'nitro') {
    side.nitro = listedNitro(nitro);
    side.notes.push(`${nitro.file} is not there: ${MEASUREMENTS_FILE} tells which files differ, not how`);
  }
  if (manifest !== undefined) {
    side.gramine = await openGramine(join(directory, manifest), options.libpal, options.onProgress);
    side.notes.push(...side.gramine.notes);
  } else if (gramine?.target === 'gramine') {
    side.gramine = listedGramine(gramine);
    side.notes.push(`${gramine.file} is not there: ${MEASUREMENTS_FILE} tells which files differ, not how`);
  }
  if (side.nitro || side.gramine) return side;
  throw usageError(
    'ERR_DIFF_INPUT',
    `expected the images of ${side.facts.path} or their ${MEASUREMENTS_FILE} beside it, found neither`,
  );
}

/** What a directory is compared by. */
function inDirectory(path: string): string {
  const names = readdirSync(path);
  const known = [MANIFEST_FILE, MEASUREMENTS_FILE].find((name) => names.includes(name));
  if (known) return join(path, known);
  const images = names.filter((name) => name.endsWith('.eif') || name.endsWith('.manifest.sgx'));
  const [image] = images;
  if (image !== undefined && images.length === 1) return join(path, image);
  const found = images.length === 0 ? 'none' : `${images.length} of them`;
  throw usageError(
    'ERR_DIFF_INPUT',
    `${path}: expected ${MANIFEST_FILE}, ${MEASUREMENTS_FILE} or one image in the directory, found ${found}`,
  );
}

const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
const isFile = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}

const notInput = (path: string) =>
  usageError('ERR_DIFF_INPUT', `${path}: expected an image, a build or a measurement, found something else`, {
    hint: 'diff takes EIFs, signed Gramine manifests (NAME.manifest.sgx), build.intoto.json, measurements.json, build directories, and JSON with a measurement',
  });
