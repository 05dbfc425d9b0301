import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { hex, knownHex, sha256 } from '../../core/bytes.ts';
import { compare, fail, pass, skipped } from '../../core/check.ts';
import { usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import type { OnProgress } from '../../core/progress.ts';
import { lockDependencies } from '../../image/dependencies.ts';
import { type InputsArchive, openInputsArchive, unpackProject } from '../../image/inputs-archive-read.ts';
import { type Lock, parseLock } from '../../image/lock-file.ts';
import { readOwnerPublicKey } from '../../keys/keys.ts';
import type { Statement } from '../../manifest/statement.ts';
import { digestModel } from '../../model/index.ts';
import { CONFIG_FILE, LOCK_FILE, loadConfig, type Project } from '../../project/load.ts';
import { type ProjectConfig, projectSchema } from '../../project/schema.ts';
import { disclosedModel } from '../build/bom.ts';
import { type ImageInputs, type Target, usedInputs } from '../build/content.ts';
import { firstKey } from './rebuild-compare.ts';
import type { Findings } from './report.ts';

export interface RebuildSource {
  /** Directory of the project. */
  project?: string | undefined;
  /** Archive of inputs. */
  inputs?: string | undefined;
}

/** What a rebuild is made from: the project as the manifest has it, and the lock that it names. */
export interface RebuildProject {
  project: Project;
  /** The model's digest, hex. */
  model: string;
  /** Of a build that tells of it. */
  disclosed: ImageInputs['disclosed'];
  lock: Lock;
  /** Hex, of the lock's bytes. */
  lockDigest: string;
  archive: InputsArchive | undefined;
}

/**
 * Finds the project of a manifest: `source.project`, else the archive's own copy (unpacked into `temporary`), else the directory
 * above the manifest's. Everything in it that the manifest speaks of is compared; undefined where something differs, and the
 * findings say what. Throws `ERR_CONFIG_NOT_FOUND`, `ERR_FILE_*` (exit 2), `ERR_INPUTS_INCOMPLETE` (exit 5).
 */
export async function rebuildProject(
  manifest: string,
  statement: Statement,
  targets: Target[],
  source: RebuildSource,
  temporary: string,
  findings: Findings,
  onProgress?: OnProgress,
): Promise<RebuildProject | undefined> {
  const { inputs } = source;
  const archive =
    inputs === undefined ? undefined : await findings.step('rebuild.archive', () => openInputsArchive(inputs));
  if (inputs !== undefined && archive === undefined) return undefined;
  const dir = await projectDirectory(manifest, source, archive, temporary, findings);
  if (dir === undefined) return undefined;

  const { externalParameters } = statement.predicate.buildDefinition;
  const config = await findings.step('rebuild.parameters', () => statedConfig(externalParameters.project));
  const lock = await findings.step('rebuild.lock-format', () => readLockIn(dir));
  if (!config || !lock) return undefined;
  const before = findings.checks.length;
  findings.add(lockCheck(statement, lock, targets));
  findings.add(configCheck(config, await loadConfig(dir)));
  findings.add(await ownerCheck(externalParameters.owner, resolve(dir, config.model.owner)));
  const digest = externalParameters.model.digest.sha256 ?? '';
  const stated = { digest, disclosed: externalParameters.model.disclosed === true };
  const model = await modelCheck(stated, resolve(dir, config.model.path), onProgress);
  findings.add(model.check);
  if (findings.checks.slice(before).some(({ status }) => status === 'fail')) return undefined;
  const project: Project = {
    ...{ dir, name: config.name, version: config.version, config, lockPath: join(dir, LOCK_FILE) },
    policyVersion: config.policy_version ?? config.version,
    model: { path: resolve(dir, config.model.path), owner: Buffer.from(knownHex(externalParameters.owner)) },
  };
  const disclosed = stated.disclosed && model.files ? disclosedModel(model.files, config.runtime.kind) : undefined;
  return { project, model: digest, disclosed, lock: lock.lock, lockDigest: lock.sha256, archive };
}

async function projectDirectory(
  manifest: string,
  { project }: RebuildSource,
  archive: InputsArchive | undefined,
  temporary: string,
  findings: Findings,
): Promise<string | undefined> {
  if (project !== undefined) return resolve(project);
  if (archive !== undefined) {
    const dir = join(temporary, 'project');
    await mkdir(dir, { mode: 0o700 });
    const done = await findings.step('rebuild.archived-project', () => unpackProject(archive, dir).then(() => true));
    return done ? dir : undefined;
  }
  const above = dirname(dirname(resolve(manifest)));
  if (existsSync(join(above, CONFIG_FILE))) return above;
  throw usageError(
    'ERR_CONFIG_NOT_FOUND',
    `expected the project of this manifest in ${above}, found no ${CONFIG_FILE}`,
    {
      hint: 'say where it is (--project DIR), or give an archive of its inputs (--inputs DIR)',
    },
  );
}

function statedConfig(project: unknown): ProjectConfig {
  const parsed = projectSchema.safeParse(project);
  if (parsed.success) return parsed.data;
  const at = parsed.error.issues[0]?.path.map(String).join('.') ?? '';
  throw usageError('ERR_MANIFEST_MALFORMED', `the manifest's project is none that this toolkit can build: ${at}`, {
    cause: parsed.error,
    hint: 'it was built by another version',
  });
}

async function readLockIn(dir: string) {
  const bytes = await readSmallFile(join(dir, LOCK_FILE), 'lock', 4 << 20);
  return { lock: parseLock(bytes.toString('utf8'), LOCK_FILE), sha256: hex(sha256(bytes)) };
}

function lockCheck(statement: Statement, { lock, sha256 }: { lock: Lock; sha256: string }, targets: Target[]) {
  const { resolvedDependencies } = statement.predicate.buildDefinition;
  const named = resolvedDependencies.find(({ name }) => name === LOCK_FILE)?.digest?.sha256 ?? 'not named';
  if (named === sha256) return pass('rebuild.lock', `sha256 ${sha256}`);
  const text = ({ uri, name, digest }: { uri?: string; name?: string; digest?: Record<string, string> }) =>
    `${uri ?? name} ${Object.entries(digest ?? {}).join()}`;
  const theirs = resolvedDependencies.filter(({ name }) => name !== LOCK_FILE).map(text);
  const ours = lockDependencies(usedInputs(lock, targets)).map(text);
  const differ = [...theirs.filter((one) => !ours.includes(one)), ...ours.filter((one) => !theirs.includes(one))];
  const names = [...new Set(differ.map((one) => one.split(' ')[0]))].slice(0, 10).join(', ');
  return fail('rebuild.lock', {
    expected: named,
    actual: sha256,
    detail: `another lock than the manifest's (${names === '' ? 'with the same inputs' : `inputs that differ: ${names}`})`,
  });
}

function configCheck(expected: ProjectConfig, found: ProjectConfig) {
  const key = firstKey(expected, found);
  if (key === null) return pass('rebuild.project', `${CONFIG_FILE} is the manifest's`);
  return fail('rebuild.project', { detail: `${CONFIG_FILE} differs from the manifest in "${key}"` });
}

async function ownerCheck(expected: string, path: string) {
  if (!existsSync(path)) return skipped('rebuild.owner', "the owner's key is not here: taken from the manifest");
  return compare('rebuild.owner', expected, hex(readOwnerPublicKey(await readSmallFile(path, 'owner key')).raw));
}

async function modelCheck(
  { digest, disclosed }: { digest: string; disclosed: boolean },
  path: string,
  onProgress?: OnProgress,
) {
  if (existsSync(path)) {
    const found = await digestModel(path, onProgress);
    return { check: compare('rebuild.model', digest, found.digest), files: found.files };
  }
  if (disclosed) {
    const detail = 'the bill of materials tells of the model (--disclose-model), and the model is not here';
    return { check: fail('rebuild.model', { detail }) };
  }
  const detail =
    'the model is not here: its digest, which is all of it that an image holds, is the one that the manifest states';
  return { check: skipped('rebuild.model', detail) };
}
