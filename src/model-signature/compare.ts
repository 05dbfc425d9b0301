import { negativeError, usageError } from '../core/errors.ts';
import type { OnProgress } from '../core/progress.ts';
import { digestFiles, type ModelFile } from '../model/index.ts';
import { badPath } from '../model/paths.ts';
import { ignoredPaths, isIgnored, listForSignature, pathInModel } from './files.ts';
import { digestShards } from './shards.ts';
import { type ModelStatement, rootDigest } from './statement.ts';

/** How a model differs from what was signed. Names of files, or of shards; empty lists and true: it does not. */
export interface ModelComparison {
  files: number;
  bytes: number;
  missing: string[];
  extra: string[];
  changed: { name: string; expected: string; actual: string }[];
  /** The statement's own digest over its list. */
  root: { expected: string; actual: string };
  /** Files of the model that the signature leaves out, the signature itself aside; empty ones too where it is over shards. */
  ignored: string[];
}

/**
 * Compares a model, a file or a directory, with a verified statement (OpenSSF Model Signing 1.0, section 8.4). Every byte is read.
 * `signature` is the signature's own file, which is left out. Throws `ERR_MODEL_*` for a model that cannot be listed (a symbolic link,
 * for one), `ERR_MODEL_SIGNATURE_MALFORMED`, `ERR_MODEL_SIGNATURE_UNSUPPORTED` (exit 2).
 */
export async function compareModel(
  statement: ModelStatement,
  { model, signature, onProgress }: { model: string; signature: string; onProgress?: OnProgress | undefined },
): Promise<ModelComparison> {
  const { serialization, resources } = statement.predicate;
  const expected = signedResources(statement);
  const ignored = ignoredPaths(serialization.ignore_paths);
  const listed = await listForSignature(model);
  const own = listed.single ? null : await pathInModel(model, signature);
  if (own !== null) ignored.add(own);
  const isLeftOut = (name: string, size: number) =>
    (!listed.single && isIgnored(name, ignored)) || (serialization.method === 'shards' && size === 0);
  const covered = listed.single ? listed.files : listed.files.filter(({ name }) => !isIgnored(name, ignored));
  // The reference implementation calls the file of a model that is a single file "."; the specification, by its name.
  const lone = listed.single && resources.length === 1 && expected.has('.') ? '.' : null;
  const files = lone === null ? covered : covered.map(({ file }) => ({ name: lone, file }));
  const actual = new Map(
    serialization.method === 'files'
      ? await wholeFiles(files, onProgress)
      : await shards(files, serialization.shard_size, expected.size, onProgress),
  );
  return {
    files: files.length,
    bytes: files.reduce((sum, { file }) => sum + file.size, 0),
    missing: [...expected.keys()].filter((name) => !actual.has(name)),
    extra: [...actual.keys()].filter((name) => !expected.has(name)),
    changed: [...expected].flatMap(([name, digest]) => {
      const found = actual.get(name);
      return found === undefined || found === digest ? [] : [{ name, expected: digest, actual: found }];
    }),
    root: { expected: statement.subject[0]?.digest.sha256 ?? '', actual: rootDigest(resources) },
    ignored: listed.files
      .filter(({ name, file }) => isLeftOut(name, file.size))
      .map(({ name }) => name)
      .filter((name) => name !== own),
  };
}

/** Digests by name. Refuses what this toolkit does not compute, names that lead out of a model, and a name that stands there twice. */
function signedResources({ predicate }: ModelStatement): Map<string, string> {
  const { serialization, resources } = predicate;
  const { hash_type: hash, allow_symlinks: links, method } = serialization;
  if (hash !== 'sha256') throw unsupported(`digests by ${hash}; this version computes sha256 alone`);
  if (links) throw unsupported('symbolic links that were followed (allow_symlinks); a sealed model has none');
  const algorithms = method === 'files' ? [hash] : [hash, `${hash}-sharded-${serialization.shard_size}`];
  const expected = new Map<string, string>();
  for (const { name, digest, algorithm } of resources) {
    if (!algorithms.includes(algorithm) || digest.length !== 64)
      throw malformed(name, `expected a digest by ${hash}, found ${algorithm}`);
    const path = method === 'files' ? name : /^(.+):\d+:\d+$/s.exec(name)?.[1];
    if (path === undefined) throw malformed(name, 'expected PATH:START:END');
    const problem = path === '.' && resources.length === 1 ? null : badPath(path.normalize('NFC'));
    if (problem !== null) throw malformed(name, `it ${problem}`);
    if (expected.has(name)) throw malformed(name, 'it stands there twice');
    expected.set(name, digest);
  }
  return expected;
}

async function wholeFiles(files: Named[], onProgress?: OnProgress): Promise<[string, string][]> {
  const digests = await digestFiles(
    files.map(({ file }) => file),
    { onProgress },
  );
  return files.map(({ name }, i) => [name, (digests[i] as Buffer).toString('hex')]);
}

async function shards(
  files: Named[],
  size: number,
  most: number,
  onProgress?: OnProgress,
): Promise<[string, string][]> {
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  // A shard size of one byte would make more names than there is memory.
  const count = files.reduce((sum, { file }) => sum + Math.ceil(file.size / size), 0);
  if (count > most) {
    throw negativeError(
      'ERR_MODEL_SIGNATURE',
      `the model is not the one that was signed: expected ${most} shards of ${size} bytes, found ${count}`,
    );
  }
  const digests: [string, string][] = [];
  let done = 0;
  const onBytes = (bytes: number) => {
    done += bytes;
    onProgress?.({ phase: 'reading the model', done, total });
  };
  for (const { name, file } of files) digests.push(...(await digestShards(name, file, size, onBytes)));
  return digests;
}

type Named = { name: string; file: ModelFile };
const unsupported = (found: string) =>
  usageError(
    'ERR_MODEL_SIGNATURE_UNSUPPORTED',
    `the model's signature is of a kind that this version cannot judge: ${found}`,
    {
      hint: '`model_signing verify key` judges it',
    },
  );
const malformed = (name: string, why: string) =>
  usageError('ERR_MODEL_SIGNATURE_MALFORMED', `the signature names ${JSON.stringify(name.slice(0, 200))}: ${why}`);
