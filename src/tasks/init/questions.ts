import { lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { AtomaError, usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import { readOwnerPublicKey } from '../../keys/keys.ts';
import { parseReference, referenceText } from '../../oci/reference.ts';
import type { Answers } from './ask.ts';
import type { InitOptions } from './index.ts';
import { type FoundModel, lookAtModel } from './model.ts';
import { projectName } from './words.ts';

/** What makes an owner's key pair, in the place of a file's name. */
export const NEW_OWNER = 'new';
const TARGETS = [
  { name: 'nitro: AWS Nitro Enclaves; runs here too, SIMULATED', value: 'nitro' },
  { name: 'gramine: Intel SGX; needs an installed Gramine to lock and build', value: 'gramine' },
];

/** Everything that is asked, in this order; what a flag said is not. */
export interface Replies {
  model: FoundModel;
  kind: 'onnx' | 'command';
  image: string | undefined;
  name: string;
  targets: ('nitro' | 'gramine')[];
  copy: boolean;
  /** The bytes of the owner's public key; undefined: make a pair. */
  owner: Buffer | undefined;
}

/** Throws `ERR_INIT_ANSWER`, and what says that an answer will not do (exit 2). */
export async function replies(options: InitOptions, dir: string, answers: Answers): Promise<Replies> {
  const any = options.runtime === 'command';
  const look = (path: string) => lookAtModel(path, any, options.copy === true);
  const path = await answers.get(options.model, {
    flag: '--model',
    ...onlyOne(await candidates([dir, '.'])),
    ask: async (asker) => {
      const found = await candidates([dir, '.']);
      const other = { name: 'another one', value: '' };
      const choices = [...found.map((name) => ({ name, value: name })), other];
      const chosen = found.length === 0 ? '' : await asker.one({ message: 'Model', choices });
      return (
        chosen || asker.text({ message: 'Model, a file or a directory', check: (text) => complaint(() => look(text)) })
      );
    },
  });
  const model = await look(path);
  const kind = runtimeOf(options.runtime, model);
  const server = kind === 'onnx' ? '' : '; a program of yours is to serve it';
  answers.say(`${model.summary}${server}`);
  const image = kind === 'onnx' ? undefined : await imageOf(options, dir, answers);
  const name = await answers.get(options.name, {
    flag: '--name',
    fallback: projectName(resolve(dir) === process.cwd() ? path : dir),
    ask: (asker) =>
      asker.text({
        message: 'Name of the project',
        fallback: projectName(resolve(dir) === process.cwd() ? path : dir),
        check: async (text) => (isName(text) ? null : 'lower-case letters, digits and hyphens, at most 64'),
      }),
  });
  const targets = await targetsOf(options, kind, answers);
  const copy = await copyOf(options, dir, model, answers);
  const owner = await answers.get(options.owner, {
    flag: '--owner',
    fallback: NEW_OWNER,
    ask: (asker) =>
      asker.text({
        message: "Owner's public key (a file; new: make a pair)",
        fallback: NEW_OWNER,
        check: (text) => complaint(() => readOwner(text)),
      }),
  });
  const key = await readOwner(owner);
  answers.requireAll();
  return { model, kind, image, name, targets, copy, owner: key };
}

const isName = (text: string): boolean => /^[a-z0-9][a-z0-9-]{0,63}$/.test(text);

const onlyOne = (found: string[]) => (found.length === 1 ? { fallback: found[0] as string } : {});

/** What looks like a model in a directory, at most a handful. */
async function candidates(dirs: string[]): Promise<string[]> {
  const unique = [...new Set(dirs.map((dir) => resolve(dir)))];
  const found: string[] = [];
  for (const dir of unique) {
    for (const name of (await readdir(dir).catch(() => [])).sort()) {
      const path = join(dir, name);
      const model = /\.(onnx|safetensors|gguf)$/i.test(name) || (name === 'model' && isDirectory(path));
      if (model && found.length < 8) found.push(relative('', path) || path);
    }
  }
  return found;
}

const isDirectory = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

function runtimeOf(asked: InitOptions['runtime'], { format, path }: FoundModel): 'onnx' | 'command' {
  if (asked === 'onnx' && format !== 'onnx') {
    throw usageError('ERR_MODEL_NOT_ONNX', `expected an ONNX model for --runtime onnx, found none in ${path}`, {
      hint: 'convert it to ONNX, or take --runtime command --image IMAGE: a program of yours that serves it',
    });
  }
  return asked ?? (format === 'onnx' ? 'onnx' : 'command');
}

/** A path counts from the working directory on a command line, and from the project in enclave.toml. */
async function imageOf({ image, command }: InitOptions, dir: string, answers: Answers): Promise<string | undefined> {
  if (image === undefined && command !== undefined) return undefined;
  const text = await answers.get(image, {
    flag: '--image',
    ask: (asker) =>
      asker.text({
        message: 'Its container image (docker-archive:FILE, oci:REGISTRY/NAME:TAG, ...)',
        check: (answer) => complaint(async () => parseReference(answer, '.')),
      }),
  });
  const reference = parseReference(text, '.');
  return referenceText(
    reference.kind === 'oci' ? reference : { ...reference, path: relative(resolve(dir), reference.path) },
  );
}

async function targetsOf(
  { targets }: InitOptions,
  kind: 'onnx' | 'command',
  answers: Answers,
): Promise<Replies['targets']> {
  if (kind === 'command' && targets?.includes('gramine')) {
    throw usageError('ERR_CONFIG_UNSUPPORTED', 'expected the target nitro for a command, found gramine', {
      hint: 'docs/gramine.md: a manifest template of your own, `gramine manifest` and `gramine sign`',
    });
  }
  if (kind === 'command') return ['nitro'];
  const chosen = await answers.get<string[]>(targets, {
    flag: '--target',
    fallback: ['nitro'],
    ask: (asker) => asker.some({ message: 'Build for', choices: TARGETS, fallback: ['nitro'] }),
  });
  return TARGETS.map(({ value }) => value as 'nitro' | 'gramine').filter((target) => chosen.includes(target));
}

async function copyOf(
  { copy }: InitOptions,
  dir: string,
  { path, real }: FoundModel,
  answers: Answers,
): Promise<boolean> {
  const project = resolve(dir);
  if (real === project || project.startsWith(`${real}/`)) {
    throw usageError('ERR_INIT_MODEL', `expected a model that does not hold the project, found ${path}`, {
      hint: `move its files into a directory of their own, such as ${join(relative('', project) || '.', 'model')}`,
    });
  }
  if (real.startsWith(`${project}/`)) return false;
  return answers.get(copy, {
    flag: '--copy',
    fallback: false,
    written: () => '--no-copy',
    ask: (asker) =>
      asker.yesNo({ message: `Copy the model into the project (it lies in ${dirname(path)})`, fallback: false }),
  });
}

async function readOwner(text: string): Promise<Buffer | undefined> {
  if (text === NEW_OWNER) return undefined;
  const bytes = await readSmallFile(text, 'owner key');
  readOwnerPublicKey(bytes);
  return bytes;
}

/** What a check has against an answer, for the person who gave it. */
async function complaint(check: () => Promise<unknown>): Promise<string | null> {
  try {
    await check();
    return null;
  } catch (error) {
    if (!(error instanceof AtomaError)) throw error;
    return error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
  }
}
