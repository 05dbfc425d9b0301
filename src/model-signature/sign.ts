import type { KeyObject } from 'node:crypto';
import { usageError } from '../core/errors.ts';
import type { OnProgress } from '../core/progress.ts';
import { modelSigningHint, signBundle } from '../manifest/bundle.ts';
import { digestFiles } from '../model/index.ts';
import { DEFAULT_IGNORED, isIgnored, listForSignature, pathInModel } from './files.ts';
import { encodeModelStatement, parseModelStatement } from './statement.ts';

export interface SignedModel {
  /** The Sigstore bundle: the signature file's bytes. */
  bundle: Buffer;
  files: number;
  /** The model is a file, not a directory. */
  single: boolean;
  /** Root digest of OpenSSF Model Signing; not the model digest that images measure. Hex. */
  root: string;
  /** Files that the signature leaves out, the signature itself aside. */
  ignored: string[];
}

/**
 * Signs the plaintext model, a file or a directory, as OpenSSF Model Signing 1.0 has it (key method). `out` is where the signature
 * will lie: in the model, it is left out. Every byte is read. Throws `ERR_MODEL_*` (exit 2).
 */
export async function signModelFiles(
  model: string,
  key: { key: KeyObject; publicKey: KeyObject },
  out: string,
  onProgress?: OnProgress,
): Promise<SignedModel> {
  const listed = await listForSignature(model);
  const own = listed.single ? null : await pathInModel(model, out);
  const ignored = listed.single ? [] : [...DEFAULT_IGNORED, ...(own === null ? [] : [own])];
  const set = new Set(ignored);
  const covered = listed.files.filter(({ name }) => !isIgnored(name, set));
  if (covered.length === 0) throw usageError('ERR_MODEL_EMPTY', `the model ${model} has no files to sign`);
  for (const { name, file } of covered) {
    if (name === file.path || listed.single) continue;
    // It would be unsealed under its normalised name, and no longer be the file that was signed.
    throw usageError(
      'ERR_MODEL_ENTRY',
      `the model entry ${JSON.stringify(name)} is not in Unicode NFC form: rename it`,
    );
  }
  const digests = await digestFiles(
    covered.map(({ file }) => file),
    { onProgress },
  );
  const files = covered.map(({ name }, i) => ({ name, sha256: (digests[i] as Buffer).toString('hex') }));
  const statement = encodeModelStatement(listed.name, files, ignored);
  return {
    bundle: signBundle(statement, key.key, modelSigningHint(key.publicKey)),
    files: files.length,
    single: listed.single,
    root: parseModelStatement(statement).subject[0]?.digest.sha256 ?? '',
    ignored: listed.files.map(({ name }) => name).filter((name) => name !== own && isIgnored(name, set)),
  };
}
