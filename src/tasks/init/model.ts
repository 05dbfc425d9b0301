import { lstatSync } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { AtomaError, usageError } from '../../core/errors.ts';
import { ioError } from '../../core/files.ts';
import { FORMAT_BYTES, modelFormat } from '../../model/format.ts';
import { GGUF_HEADER_LIMIT, readGguf } from '../../model/gguf.ts';
import { findOnnx, listModel, type ModelFile } from '../../model/index.ts';
import type { OnnxDescription } from '../../model/onnx-describe.ts';
import { readSafetensors, safetensorsHeaderLength, type WeightsFacts } from '../../model/safetensors.ts';
import { describeGraph } from './graph.ts';
import { counted } from './words.ts';

export interface FoundModel {
  /** Absolute. */
  path: string;
  /** The same, its links followed. */
  real: string;
  files: ModelFile[];
  /** Bytes of all files. */
  size: number;
  format: 'onnx' | 'safetensors' | 'gguf' | 'unknown';
  /** For people: "ONNX, 4 tensors, 9610 parameters". */
  summary: string;
  /** Of an ONNX model. */
  graph?: OnnxDescription;
}

/** What cannot be served, by how its files begin or are called, and what to do about it. */
const UNSUPPORTED: { looks: (file: string, head: Buffer) => boolean; what: string; mend: string }[] = [
  {
    looks: (file, head) =>
      isPickle(head) || /\.(pt|pth|ckpt|pkl|pickle|joblib)$/i.test(file) || /pytorch_model.*\.bin$/i.test(file),
    what: 'a Python pickle, which can run any code when it is loaded',
    mend: 'export it to ONNX (torch.onnx.export), or save the weights as safetensors and serve them by a program of yours',
  },
  {
    looks: (file, head) => head.toString('latin1').startsWith('\x89HDF\r\n\x1a\n') || /\.(h5|hdf5|keras)$/i.test(file),
    what: 'a Keras model',
    mend: 'export it to ONNX (model.export(..., format="onnx"), or tf2onnx)',
  },
  {
    looks: (file, head) => head.toString('latin1', 4, 8) === 'TFL3' || /\.tflite$/i.test(file),
    what: 'a TensorFlow Lite model',
    mend: 'export it to ONNX (tf2onnx --tflite)',
  },
  {
    looks: (file) => /(^|\/)saved_model\.pb$/i.test(file),
    what: 'a TensorFlow SavedModel',
    mend: 'export it to ONNX (tf2onnx --saved-model)',
  },
];
/** Files that tell of a format; more are not opened to find out. */
const MOST_LOOKED_AT = 256;

/**
 * Finds out what a model is, from names and first bytes; opens nothing but regular files and runs nothing of it. `any`: what
 * is not known is taken, too: a program of the user's serves it. `copied`:
 * a link to a model is followed, as its files are going to be copied.
 *
 * Throws `ERR_MODEL_UNSUPPORTED`, `ERR_MODEL_HEADER`, and what listModel, findOnnx and describeGraph throw (exit 2).
 */
export async function lookAtModel(path: string, any: boolean, copied = false): Promise<FoundModel> {
  const files = copied ? await listBehind(path) : await listModel(path).catch((error) => withCopyHint(path, error));
  const size = files.reduce((sum, file) => sum + file.size, 0);
  const found = { path: resolve(path), real: await realpath(path), files, size };
  const named = (pattern: RegExp) => files.filter((file) => pattern.test(file.path));
  if (named(/\.onnx$/).length > 0) {
    const graph = files.find((file) => file.path === findOnnx(files)) as ModelFile;
    return { ...found, format: 'onnx', ...describeGraph(graph.absolute, files.length === 1) };
  }
  for (const [format, pattern] of [
    ['safetensors', /\.safetensors$/],
    ['gguf', /\.gguf$/],
  ] as const) {
    const weights = named(pattern).slice(0, MOST_LOOKED_AT);
    if (weights.length > 0) return { ...found, format, summary: await summary(format, weights) };
  }
  if (!any) await refuseUnsupported(path, files.slice(0, MOST_LOOKED_AT));
  const first = files[0] as ModelFile;
  const known = modelFormat(first.path, await readHead(first.absolute, FORMAT_BYTES));
  return {
    ...found,
    format: 'unknown',
    summary: known ?? `${files.length} ${files.length === 1 ? 'file' : 'files'} of a format that is not known here`,
  };
}

/** A link as people's model stores are full of: the file behind it has another name, and this one is meant. */
async function listBehind(path: string): Promise<ModelFile[]> {
  const real = await realpath(path).catch(() => path);
  const files = await listModel(real);
  return lstatSync(real).isFile() ? files.map((file) => ({ ...file, path: basename(path).normalize('NFC') })) : files;
}

function withCopyHint(path: string, error: unknown): never {
  const link = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink();
  if (!link || !(error instanceof AtomaError)) throw error;
  throw usageError('ERR_MODEL_ENTRY', `the model ${path} is a symbolic link; expected a file or a directory`, {
    hint: '--copy takes what it points to into the project',
  });
}

async function summary(format: 'safetensors' | 'gguf', files: ModelFile[]): Promise<string> {
  const all: (WeightsFacts | null)[] = [];
  for (const { absolute, size } of files) all.push(await readWeights(format, absolute, size));
  const name = format === 'gguf' ? 'GGUF' : 'safetensors';
  if (all.includes(null)) return name;
  const sum = (field: 'tensors' | 'parameters') => all.reduce((total, facts) => total + (facts?.[field] ?? 0), 0);
  const architecture = all.find((facts) => facts?.architecture)?.architecture;
  return [name, architecture, counted(sum('tensors'), 'tensor'), counted(sum('parameters'), 'parameter')]
    .filter(Boolean)
    .join(', ');
}

async function readWeights(format: 'safetensors' | 'gguf', path: string, size: number): Promise<WeightsFacts | null> {
  if (format === 'gguf') return readGguf(await readHead(path, GGUF_HEADER_LIMIT), size);
  const length = safetensorsHeaderLength(await readHead(path, 8), size);
  return readSafetensors(await readHead(path, length), size);
}

async function refuseUnsupported(path: string, files: ModelFile[]): Promise<void> {
  for (const file of files) {
    const head = await readHead(file.absolute, FORMAT_BYTES);
    const known = UNSUPPORTED.find(({ looks }) => looks(file.path, head));
    if (known !== undefined) throw unsupported(path, known.what, known.mend);
  }
}

const unsupported = (path: string, what: string, mend: string): AtomaError =>
  usageError('ERR_MODEL_UNSUPPORTED', `expected an ONNX, safetensors or GGUF model in ${path}, found ${what}`, {
    hint: `${mend}; a program of yours that loads it as it is: --runtime command --image IMAGE`,
  });

/** Protocol 2 and later begin with PROTO and its number, and end with STOP (Python, pickletools.py). */
const isPickle = (head: Buffer): boolean => head[0] === 0x80 && (head[1] ?? 0) >= 2 && (head[1] ?? 0) <= 5;

async function readHead(path: string, length: number): Promise<Buffer> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    throw ioError(error, `cannot read the model ${path}`);
  }
  try {
    const { size } = await handle.stat();
    const head = Buffer.alloc(Math.min(length, size));
    const { bytesRead } = await handle.read(head, 0, head.length, 0);
    return head.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
