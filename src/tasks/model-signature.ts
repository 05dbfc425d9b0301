import type { KeyObject } from 'node:crypto';
import { lstat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fail, pass } from '../core/check.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile, writeFileAtomic } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { readBuildPrivateKey } from '../keys/ec.ts';
import { MAX_BUNDLE, parseBundle } from '../manifest/bundle.ts';
import { compareModel, type ModelComparison, parseModelStatement, signModelFiles } from '../model-signature/index.ts';
import { checkBundle } from './verify/manifest-signature.ts';
import type { Findings } from './verify/report.ts';

/** Where the signature of a directory lies, unless told otherwise: in it, so that it is sealed with it. */
export const MODEL_SIGNATURE = 'model.sig';
const WHAT = 'signature of the model';

/** "DIR/model.sig" for a directory, "FILE.sig" for a file. */
export async function signatureOf(model: string): Promise<string> {
  const directory = await lstat(model).then(
    (stat) => stat.isDirectory(),
    () => true,
  );
  return directory ? join(model, MODEL_SIGNATURE) : `${model}.sig`;
}

/**
 * `atoma-tee model sign`. Throws `ERR_KEY_*`, `ERR_MODEL_*`, and `ERR_OUTPUT_KIND` (exit 2) where `out` is a file that is no signature:
 * it could be the model itself.
 */
export async function signModel(options: {
  model: string;
  key: string;
  out?: string | undefined;
  onProgress?: OnProgress;
}) {
  const key = readBuildPrivateKey(await readSmallFile(options.key, 'build key'));
  const out = options.out ?? (await signatureOf(options.model));
  await requireSignature(out);
  const { bundle, ...signed } = await signModelFiles(options.model, key, out, options.onProgress);
  await writeFileAtomic(out, bundle);
  return { path: out, ...signed };
}

async function requireSignature(out: string): Promise<void> {
  const there = await lstat(out).catch(() => null);
  if (there === null) return;
  try {
    if (there.isFile()) parseBundle(await readSmallFile(out, WHAT, MAX_BUNDLE), WHAT);
    if (there.isFile()) return;
  } catch {
    // Said below.
  }
  throw usageError('ERR_OUTPUT_KIND', `expected to write the signature ${out}, found something else of that name`, {
    hint: 'give another --out',
  });
}

export interface JudgedSignature {
  signature: string;
  signer: KeyObject | undefined;
  /** Default: the directory in which the signature lies. */
  model?: string | undefined;
  onProgress?: OnProgress | undefined;
}

/** A model's signature: by `signer`, and over this model. Throws `ERR_NO_EXPECTATION` without a key, and what reading throws. */
export async function judgeModelSignature(judged: JudgedSignature, findings: Findings): Promise<void> {
  const { signer, signature, onProgress } = judged;
  if (signer === undefined) {
    throw usageError('ERR_NO_EXPECTATION', 'expected to be told whose signature it is, found nothing to compare with', {
      hint: 'give --key BUILD.pub',
    });
  }
  const bytes = await readSmallFile(signature, WHAT, MAX_BUNDLE);
  const bundle = await findings.step('signature.bundle', () => parseBundle(bytes, WHAT));
  if (bundle === undefined) return;
  checkBundle(bundle, signer, findings);
  // What nobody is known to have signed is not worth an hour of reading.
  if (findings.checks.some(({ status }) => status === 'fail')) return;
  const statement = await findings.step('signature.statement', () => parseModelStatement(bundle.envelope.payload));
  if (statement === undefined) return;
  const model = judged.model ?? dirname(signature);
  const found = await findings.step('model.list', () => compareModel(statement, { model, signature, onProgress }));
  if (found) addComparison(found, findings);
}

/** Named one by one up to here. */
const SHOWN = 20;

function addComparison(
  { files, bytes, missing, extra, changed, root, ignored }: ModelComparison,
  findings: Findings,
): void {
  const list = (id: string, names: string[], what: string) => {
    for (const name of names.slice(0, SHOWN)) findings.add(fail(id, { detail: `${JSON.stringify(name)} ${what}` }));
    if (names.length > SHOWN) findings.add(fail(id, { detail: `and ${names.length - SHOWN} more` }));
  };
  list('model.missing', missing, 'was signed, and is not there');
  list('model.extra', extra, 'is there, and was not signed');
  for (const { name, expected, actual } of changed.slice(0, SHOWN))
    findings.add(fail('model.changed', { expected, actual, detail: JSON.stringify(name) }));
  if (changed.length > SHOWN) findings.add(fail('model.changed', { detail: `and ${changed.length - SHOWN} more` }));
  if (root.expected !== root.actual)
    findings.add(fail('signature.subject', { ...root, detail: 'it contradicts its own list' }));
  if (missing.length + extra.length + changed.length === 0)
    findings.add(
      pass('model.files', `${files} ${files === 1 ? 'file' : 'files'}, ${bytes} bytes: every one as it was signed`),
    );
  if (ignored.length > 0) {
    const some = ignored.slice(0, 5).map((name) => JSON.stringify(name));
    const more = ignored.length > some.length ? ` and ${ignored.length - some.length} more` : '';
    findings.notChecked.push(`files that the signature of the model leaves out: ${some.join(', ')}${more}`);
  }
}
