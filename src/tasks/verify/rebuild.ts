import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compare, fail, pass, skipped } from '../../core/check.ts';
import { AtomaError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import type { OnProgress } from '../../core/progress.ts';
import { temporary } from '../../core/temporary.ts';
import type { DiffReport } from '../../diff/index.ts';
import { Cache } from '../../image/cache.ts';
import { importInputs } from '../../image/inputs-archive-read.ts';
import { loadToolkit, requireToolkit } from '../../image/toolkit.ts';
import {
  compareMeasurements,
  compareParts,
  differenceLine,
  type MeasurementDifference,
} from '../../manifest/compare-measurements.ts';
import { parseExpectedMeasurements } from '../../manifest/expected-measurements.ts';
import { MEASUREMENTS_FILE, type Measurements, parseMeasurements } from '../../manifest/measurements.ts';
import { MANIFEST_FILE, parseStatement, type Statement } from '../../manifest/statement.ts';
import { digestModel } from '../../model/index.ts';
import { disclosedModel } from '../build/bom.ts';
import { type ImageInputs, type Target, usedInputs } from '../build/content.ts';
import { type Signers, writeImages } from '../build/write.ts';
import { diff } from '../diff.ts';
import { besideManifest, gramineSubject, isGramine, isNitro, MAX_MANIFEST, nitroSubject } from '../image.ts';
import { sigstructName } from './gramine-image.ts';
import { compareOutput, type RebuiltOutput } from './rebuild-compare.ts';
import { type RebuildProject, type RebuildSource, rebuildProject } from './rebuild-project.ts';
import { AnotherImage, replayedEifSigner, replayedSgxSigner } from './rebuild-signers.ts';
import type { Findings } from './report.ts';

export interface RebuildOptions extends RebuildSource {
  /** Fetch nothing; an archive of inputs implies it. */
  offline?: boolean | undefined;
  /** Default: the shared cache. With an archive of inputs a fresh one is used, whatever this says. */
  cacheDir?: string | undefined;
  /** Instead of this toolkit's own enclave program. */
  programPath?: string | undefined;
  onProgress?: OnProgress | undefined;
}

/** What a rebuild found, for `verify --json`: the same measurement and the same bytes are two things. */
export interface RebuildReport {
  /** The registers of every image, of its own bytes. */
  measurementEqual: boolean;
  /** Every byte of every output, with the signatures that were there. */
  byteEqual: boolean;
  outputs: RebuiltOutput[];
  /** Registers, parts and files that differ from those that measurements.json lists, the most telling first. */
  differences: MeasurementDifference[];
  /** What `atoma-tee diff` says of the two builds, where bytes differ and both can be read: A is what was there, B the rebuild. */
  diff?: DiffReport;
}

/** So many are told. */
const TOLD = 200;
const TESTED_NODE = '24';

/**
 * `verify MANIFEST --rebuild`: builds again from the lock that the manifest names, in a fresh directory that goes away, and
 * compares measurements and bytes with what lies beside the manifest. `bytes`: the manifest's.
 *
 * What is not the manifest's (lock, project, owner, model, toolkit) is a failed check, and nothing is built. Throws what
 * providing inputs throws where one is missing (exit 5).
 */
export async function verifyRebuild(
  manifest: string,
  bytes: Buffer,
  options: RebuildOptions,
  findings: Findings,
): Promise<void> {
  const statement = await findings.step('rebuild.statement', () => parseStatement(bytes));
  if (!statement) return;
  const targets: Target[] = [
    ...(statement.subject.some(isNitro) ? ['nitro' as const] : []),
    ...(statement.subject.some(isGramine) ? ['gramine' as const] : []),
  ];
  const fresh = await mkdtemp(join(tmpdir(), 'atoma-tee-rebuild-'));
  const keep = temporary(fresh);
  try {
    const { onProgress } = options;
    const from = await rebuildProject(manifest, statement, targets, options, fresh, findings, onProgress);
    const toolkit = await loadToolkit(options.programPath);
    if (from)
      await findings.step(
        'rebuild.toolkit',
        () => requireToolkit(from.lock.toolkit, toolkit),
        () => toolkit.pin.version,
      );
    if (!from || findings.checks.some(({ id, status }) => id === 'rebuild.toolkit' && status === 'fail')) return;
    findings.add(nodeCheck());
    const out = join(fresh, 'out');
    await mkdir(out, { mode: 0o700 });
    const inputs = await findings.step('rebuild.inputs', () => provide(from, targets, { ...options, fresh, toolkit }));
    if (inputs && statement.predicate.buildDefinition.externalParameters.model.disclosed) {
      inputs.disclosed = await restated(from, findings, onProgress);
    }
    const signers = inputs && (await replayedSigners(manifest, statement, from, findings));
    if (!inputs || !signers) return;
    const built = await findings.step('rebuild.build', () => build(out, inputs, targets, signers, from.lockDigest));
    if (built) await judge(manifest, statement, out, findings);
  } finally {
    await rm(fresh, { recursive: true, force: true });
    keep();
  }
}

const nodeCheck = () => {
  const { node } = process.versions;
  return node.split('.')[0] === TESTED_NODE
    ? pass('rebuild.node', `Node ${node}`)
    : skipped('rebuild.node', `Node ${node}: that it gives the bytes of Node ${TESTED_NODE} was never tested`);
};

async function provide(
  { project, model, disclosed, lock, archive }: RebuildProject,
  targets: Target[],
  { fresh, toolkit, ...options }: RebuildOptions & { fresh: string; toolkit: ImageInputs['toolkit'] },
): Promise<ImageInputs> {
  const cache = await Cache.open(archive ? join(fresh, 'cache') : options.cacheDir);
  const { onProgress } = options;
  if (archive) await importInputs(archive, cache, onProgress);
  const offline = archive !== undefined || (options.offline ?? false);
  return { project, model, disclosed, toolkit, cache, offline, onProgress, lock: usedInputs(lock, targets) };
}

/** What `build --disclose-model` told of the model, from the model; undefined where it is not here. */
async function restated({ project }: RebuildProject, findings: Findings, onProgress?: OnProgress) {
  const { path } = project.model;
  if (existsSync(path)) {
    const { files } = await digestModel(path, onProgress);
    return disclosedModel(files, project.config.runtime.kind);
  }
  const detail = 'the bill of materials describes the model, which is not here: its description cannot be made again';
  findings.add(skipped('rebuild.disclosed-model', detail));
  return undefined;
}

/** Undefined where an enclave's signature holds nowhere: it cannot be set aside. */
async function replayedSigners(
  manifest: string,
  statement: Statement,
  { project }: RebuildProject,
  findings: Findings,
): Promise<Signers | undefined> {
  const signers: Signers = {};
  if (statement.subject.some(isNitro)) {
    const path = besideManifest(manifest, nitroSubject(statement).name);
    const found = await findings.step('rebuild.image', async () => ({ signer: await replayedEifSigner(path) }));
    if (!found) return undefined;
    signers.nitro = found.signer;
    const [wanted, there] = [project.config.nitro.sign, found.signer].map((one) => (one ? 'signed' : 'not signed'));
    findings.add(compare('rebuild.signature', wanted as string, there as string, `the image is ${there}`));
  }
  if (statement.subject.some(isGramine)) {
    const path = besideManifest(manifest, sigstructName(gramineSubject(statement).name));
    const found = await findings.step('rebuild.sigstruct', async () => ({ signer: await replayedSgxSigner(path) }));
    if (found && !found.signer)
      findings.add(fail('rebuild.signature', { detail: 'the signature of the enclave does not hold' }));
    if (!found?.signer) return undefined;
    signers.gramine = found.signer;
  }
  return signers;
}

/** Builds once more without a signature where the image turns out to be another than the one that was signed. */
async function build(out: string, inputs: ImageInputs, targets: Target[], signers: Signers, lockDigest: string) {
  try {
    return await writeImages(out, inputs, targets, signers, lockDigest);
  } catch (error) {
    if (!(error instanceof AnotherImage)) throw error;
    return writeImages(out, inputs, targets, { ...signers, nitro: undefined }, lockDigest);
  }
}

async function judge(manifest: string, statement: Statement, out: string, findings: Findings): Promise<void> {
  const read = (path: string) => readSmallFile(path, 'measurements', MAX_MANIFEST);
  const theirBytes = await read(besideManifest(manifest, MEASUREMENTS_FILE));
  const theirs = parseMeasurements(theirBytes);
  const ours = parseMeasurements(await read(join(out, MEASUREMENTS_FILE)));
  const differences = differencesOf(theirs, theirBytes, ours);
  const listedEqual = differences.every(({ kind }) => kind === 'part' || kind === 'file');
  for (const image of ours.images) {
    const [expected, actual] = [theirs.images.find(({ target }) => target === image.target), image].map(registers);
    for (const [name, value] of Object.entries(actual ?? {})) {
      findings.add(compare(`rebuild.${name}`, expected?.[name] ?? 'none', value));
    }
  }

  const built = (await readdir(out)).sort();
  const named = [...statement.subject, ...statement.predicate.runDetails.byproducts].flatMap(({ name }) => name ?? []);
  const names = [...new Set([...built, ...named])];
  const outputs: RebuiltOutput[] = [];
  for (const name of names) {
    const there = name === MANIFEST_FILE ? manifest : besideManifest(manifest, name);
    const found = await compareOutput(name, there, join(out, name));
    outputs.push(found);
    findings.add(
      found.equal
        ? pass('rebuild.bytes', name)
        : fail('rebuild.bytes', { detail: `${name} differs: ${found.difference}` }),
    );
  }
  const byteEqual = outputs.every(({ equal }) => equal);
  const explained = byteEqual ? undefined : await explain(manifest, join(out, MANIFEST_FILE));
  // measurements.json is what somebody says of an image: where the image has other bytes, its own registers count.
  const imagesEqual = outputs.every(({ name, equal }) => equal || UNMEASURED.test(name));
  const measurementEqual = listedEqual && (imagesEqual || sameRegisters(ours, explained));
  const first = byteEqual ? null : (firstItem(explained) ?? listedFile(differences));
  findings.add(
    verdict('rebuild.measurement-equal', measurementEqual, 'the registers of every image'),
    verdict('rebuild.byte-equal', byteEqual, 'every byte of every output, signatures set aside'),
    ...(first ? [fail('rebuild.first-file', { detail: first })] : []),
  );
  const told = differences.slice(0, TOLD);
  findings.rebuild = {
    measurementEqual,
    byteEqual,
    outputs,
    differences: told,
    ...(explained ? { diff: explained } : {}),
  };
}

/** Undefined where one of the two is nothing that can be compared file by file: that it differs is known by then. */
async function explain(theirs: string, ours: string): Promise<DiffReport | undefined> {
  try {
    const found = await diff({ a: theirs, b: ours });
    return { ...found, b: { ...found.b, path: 'the rebuild' } };
  } catch (error) {
    if (error instanceof AtomaError) return undefined;
    throw error;
  }
}

/** The first file, or else part, that the bytes of an image differ in: "nitro ramdisk1 rootfs/app/program.mjs: content, first at byte 12". */
function firstItem(report: DiffReport | undefined): string | null {
  for (const { target, parts } of report?.images ?? []) {
    const part = parts.find(({ status }) => status === 'different');
    if (part === undefined) continue;
    const [item] = part.items;
    const { changes, context } = item ?? part;
    const what = changes.map(({ what }) => what).join(', ') || 'content';
    const at = context ? `, first at byte ${context.offset}` : '';
    return `${[target, part.name, ...(item ? [item.path] : [])].join(' ')}: ${what}${at}`;
  }
  return null;
}

function listedFile(differences: MeasurementDifference[]): string | null {
  const found = differences.find(({ kind }) => kind === 'file');
  return found ? differenceLine(found) : null;
}

/** Outputs that no register is of. */
const UNMEASURED = /\.json$|\.oci$/;

/** False also where an image could not be measured. */
const sameRegisters = ({ images }: Measurements, report: DiffReport | undefined): boolean =>
  images.every(({ target }) => {
    const found = report?.images.find((image) => image.target === target)?.registers;
    return found?.every(({ status }) => status === 'equal') ?? false;
  });

const verdict = (id: string, good: boolean, what: string) =>
  good ? pass(id, what) : fail(id, { detail: `not equal: ${what}` });

/** Parts and files also where the registers are the same: areas of an enclave and a signature's size are not all measured. */
function differencesOf(theirs: Measurements, theirBytes: Buffer, ours: Measurements): MeasurementDifference[] {
  const found = compareMeasurements(parseExpectedMeasurements(theirBytes), ours.images);
  const covered = new Set(found.map(({ target }) => target));
  const others = ours.images.flatMap((image) => {
    const listed = theirs.images.find(({ target }) => target === image.target);
    return listed && !covered.has(image.target) ? compareParts(listed, image) : [];
  });
  return [...found, ...others];
}

const registers = (image: Measurements['images'][number] | undefined): Record<string, string> =>
  Object.fromEntries(
    Object.entries(image?.measurement ?? {}).flatMap(([name, value]) =>
      name === 'tee' ? [] : [[name, String(value)]],
    ),
  );
