import { negativeError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { readEcPublicKey } from '../keys/ec.ts';
import { judgeModelSignature, signatureOf } from './model-signature.ts';
import { Findings, type VerifyReport } from './verify/report.ts';

/** `atoma-tee model verify`: whether a model, a file or a directory, is the one that `key` signed. Shape of `verify`. */
export async function verifyModel(options: {
  model: string;
  key: string;
  signature?: string | undefined;
  onProgress?: OnProgress;
}): Promise<VerifyReport> {
  const signer = readEcPublicKey(await readSmallFile(options.key, 'key'));
  const signature = options.signature ?? (await signatureOf(options.model));
  const findings = new Findings();
  const { model, onProgress } = options;
  await judgeModelSignature({ signature, signer, model, onProgress }, findings);
  const result = findings.result(signature, 'model-signature');
  return {
    verdict: result.verdict,
    simulated: false,
    policy: { now: new Date().toISOString(), flags: { '--key': [options.key], '--signature': [signature] } },
    results: [result],
  };
}

/**
 * `seal --model-key`: throws `ERR_MODEL_SIGNATURE` (exit 3), which names what is wrong, unless `key` signed this model. Returns what the
 * signature says nothing of: such files are sealed all the same.
 */
export async function requireSignedModel(model: string, key: string, onProgress?: OnProgress): Promise<string[]> {
  const { verdict, results } = await verifyModel({ model, key, ...(onProgress ? { onProgress } : {}) });
  if (verdict === 'pass') return results.flatMap(({ notChecked }) => notChecked);
  const wrong = results.flatMap(({ checks }) => checks).find(({ status }) => status === 'fail');
  const why = `${wrong?.id}${wrong?.detail === undefined ? '' : `: ${wrong.detail}`}`;
  throw negativeError('ERR_MODEL_SIGNATURE', `the model is not the one that the key ${key} signed (${why})`, {
    hint: '`atoma-tee model verify` says everything that is wrong with it',
  });
}
