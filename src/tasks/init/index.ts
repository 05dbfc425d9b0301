import { lstatSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { AtomaError, usageError } from '../../core/errors.ts';
import { ioError } from '../../core/files.ts';
import type { OnProgress } from '../../core/progress.ts';
import { generateKey, type KeyType } from '../../keys/generate.ts';
import { CONFIG_FILE, LOCK_FILE } from '../../project/load.ts';
import { lockProject } from '../lock/index.ts';
import { Answers, type Asker } from './ask.ts';
import { exampleRequest } from './graph.ts';
import { Placement } from './place.ts';
import { type Replies, replies } from './questions.ts';
import { commands, configText, ignoreText, KEYS, KEYS_IGNORE, type Plan, readmeText } from './texts.ts';

/** What flags said; the rest is asked. */
export interface InitOptions {
  dir: string;
  model?: string | undefined;
  name?: string | undefined;
  version?: string | undefined;
  targets?: ('nitro' | 'gramine')[] | undefined;
  runtime?: 'onnx' | 'command' | undefined;
  image?: string | undefined;
  command?: string[] | undefined;
  port?: number | undefined;
  /** A file, or "new". */
  owner?: string | undefined;
  copy?: boolean | undefined;
  /** Write atoma-tee.lock; default: true. */
  lock?: boolean | undefined;
  /** Take the defaults. */
  yes?: boolean | undefined;
  /** A person at a terminal, where there is one. */
  asker?: Asker | undefined;
  /** Instead of this toolkit's own enclave program, for the lock. */
  programPath?: string;
  onProgress?: OnProgress | undefined;
}

/** The shape of `init --json`. Paths of files are relative to `dir`. */
export interface InitResult {
  dir: string;
  name: string;
  model: { path: string; format: string; summary: string; copied: boolean };
  targets: string[];
  files: string[];
  /** What was there already and was left as it is. */
  kept: string[];
  /** Absent where it could not be written: `notes` says why. */
  lock?: string;
  notes: string[];
  /** For a shell in `dir`. */
  commands: string[];
}

const MODEL = 'model';

/**
 * Makes a project out of a model: enclave.toml, keys, an example request, a README, the lock. Nothing that is there is overwritten, and
 * a failure, an interrupt included, leaves nothing.
 *
 * Throws `ERR_INIT_ANSWER`, `ERR_INIT_EXISTS`, `ERR_INIT_MODEL`, `ERR_MODEL_*`, `ERR_KEY_*`, `ERR_OCI_REFERENCE`, `ERR_CONFIG_*` (exit 2).
 * That a lock cannot be written now is a note, not a failure.
 */
export async function initProject(options: InitOptions): Promise<InitResult> {
  const dir = await realDirectory(options.dir);
  if (lstatSync(join(dir, KEYS), { throwIfNoEntry: false })?.isSymbolicLink()) throw taken(KEYS);
  for (const name of [CONFIG_FILE, LOCK_FILE]) if (isThere(join(dir, name))) throw taken(name);
  const found = await replies(options, dir, new Answers({ asker: options.asker, yes: options.yes ?? false }));
  refuseForCommand(options, found.kind);
  const plan = planOf(options, dir, found);
  const config = await configText(plan);
  const placement = new Placement(dir);
  const result: InitResult = {
    ...{ dir, name: plan.name, targets: plan.targets, files: [], kept: [], notes: [], commands: commands(plan) },
    model: { path: plan.model.path, format: found.model.format, summary: plan.model.summary, copied: found.copy },
  };
  try {
    if (found.copy) await copyModel(found, placement, options.onProgress);
    await writeKeys(plan, found.owner, placement, result);
    await writeTexts(plan, dir, placement, result);
    // Last: without it the rest is no project.
    await placement.write(CONFIG_FILE, config);
    result.files.unshift(CONFIG_FILE);
    placement.keep();
  } catch (error) {
    placement.undo();
    throw error;
  }
  if (options.lock !== false) await lock(dir, options, result);
  return result;
}

function planOf(options: InitOptions, dir: string, { model, kind, image, name, targets, copy, owner }: Replies): Plan {
  const inside = copy || model.real.startsWith(`${dir}/`);
  const path = relative(dir, inside ? model.real : model.path);
  const directory = copy || !lstatSync(model.path).isFile();
  const { summary, size, graph } = model;
  return {
    ...{ name, version: options.version ?? '1.0.0', targets, kind, image, command: options.command },
    port: options.port ?? 8080,
    model: { path: copy ? MODEL : path, summary, size, inside, directory },
    owner: { public: `${KEYS}/owner.key.pub`, private: owner === undefined ? `${KEYS}/owner.key` : undefined },
    request: kind === 'onnx' && graph !== undefined ? exampleRequest(graph.inputs) : undefined,
  };
}

async function copyModel({ model }: Replies, placement: Placement, onProgress: OnProgress | undefined): Promise<void> {
  let done = 0;
  const report = (count: number) => {
    done += count;
    onProgress?.({ phase: 'copying the model', done, total: model.size });
  };
  placement.directory('.');
  placement.make(MODEL);
  for (const file of model.files) await placement.copy(file.absolute, join(MODEL, file.path), report);
}

async function writeKeys(
  plan: Plan,
  owner: Buffer | undefined,
  placement: Placement,
  result: InitResult,
): Promise<void> {
  placement.directory('.');
  placement.directory(KEYS, 0o700);
  const ignore = join(KEYS, '.gitignore');
  if (await placement.writeIfAbsent(ignore, KEYS_IGNORE)) result.files.push(ignore);
  else throw taken(ignore);
  const wanted: KeyType[] = ['broker', 'recovery', ...(plan.targets.includes('gramine') ? (['sgx'] as const) : [])];
  if (owner === undefined) wanted.unshift('owner');
  else {
    await placement.write(plan.owner.public, owner);
    result.files.push(plan.owner.public);
  }
  for (const type of wanted) {
    const { privatePem, publicPem } = generateKey(type);
    const path = join(KEYS, `${type}.key`);
    await placement.write(path, privatePem, 0o600);
    await placement.write(`${path}.pub`, publicPem);
    result.files.push(path, `${path}.pub`);
  }
}

/** What a directory of somebody's may well have: theirs stays. */
async function writeTexts(plan: Plan, dir: string, placement: Placement, result: InitResult): Promise<void> {
  const { request } = plan;
  const texts: [path: string, text: string][] = [
    [isThere(join(dir, 'README.md')) ? 'ENCLAVE.md' : 'README.md', await readmeText(plan)],
    ['.gitignore', await ignoreText(plan)],
    ...(request !== undefined && 'text' in request ? [['request.json', request.text] as [string, string]] : []),
  ];
  if (request !== undefined && 'reason' in request) result.notes.push(`no request.json: ${request.reason}`);
  for (const [path, text] of texts) {
    if (await placement.writeIfAbsent(path, text)) result.files.push(path);
    else result.kept.push(path);
  }
  if (result.kept.includes('.gitignore')) {
    result.notes.push('add dist/, *.sealed and the weights to your .gitignore; keys/ has one of its own');
  }
}

async function lock(dir: string, { onProgress, programPath }: InitOptions, result: InitResult): Promise<void> {
  const again = `then run: atoma-tee lock ${relative('', dir) || '.'}`;
  try {
    const { warnings } = await lockProject(dir, {
      ...(onProgress ? { onProgress } : {}),
      ...(programPath === undefined ? {} : { programPath }),
    });
    result.notes.push(...warnings);
    result.lock = LOCK_FILE;
    result.files.push(LOCK_FILE);
  } catch (error) {
    if (!(error instanceof AtomaError)) throw error;
    const mend = error.hint === undefined ? '' : `; ${error.hint}`;
    result.notes.push(`${LOCK_FILE} could not be written yet: ${error.message} (${error.code})${mend}; ${again}`);
  }
}

/** The directory that is meant, its links followed as far as it is there: ".." of a path in enclave.toml starts from that one. */
async function realDirectory(given: string): Promise<string> {
  const path = resolve(given);
  if (isThere(path)) {
    return realpath(path).catch((error) => {
      throw ioError(error, `cannot make a project in ${given}`);
    });
  }
  return dirname(path) === path ? path : join(await realDirectory(dirname(path)), basename(path));
}

/** The toolkit serves ONNX itself: what only a command has would be lost without a word. Throws `ERR_USAGE`. */
function refuseForCommand(options: InitOptions, kind: Replies['kind']): void {
  const unused = (['image', 'command', 'port'] as const).filter((name) => options[name] !== undefined);
  if (kind === 'command' || unused.length === 0) return;
  throw usageError('ERR_USAGE', `--${unused[0]}: expected a model that a program serves, found an ONNX model`, {
    hint: 'leave it out: the toolkit serves ONNX itself; or say --runtime command',
  });
}

const isThere = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

const taken = (name: string) =>
  usageError('ERR_INIT_EXISTS', `expected a directory without ${basename(name)}, found one that has ${name}`, {
    hint: 'there is a project already: `atoma-tee lock` and `atoma-tee build` go on; or name another directory',
  });
