import { readSmallFile } from '../../core/files.ts';
import { MAX_MANIFEST } from '../image.ts';
import { verifyBuildManifest } from './build-manifest.ts';
import { type Context, need, readContext, sealedTrust } from './context.ts';
import { verifyEif } from './eif.ts';
import { verifyEvidenceFile } from './evidence.ts';
import { uncompared } from './expect.ts';
import { checkEnclave, readEnclave } from './gramine.ts';
import { fileKind } from './kind.ts';
import type { VerifyOptions } from './options.ts';
import { type Attaching, evidenceName, verifyOneReceipt } from './receipt-files.ts';
import { type FileResult, Findings, type Kind, type VerifyReport } from './report.ts';
import { verifySealedModel } from './sealed.ts';
import { askedFor, isTee, READS, requireUsed } from './used.ts';

export type { VerifyOptions } from './options.ts';

/**
 * `atoma-tee verify`: judges every file; the verdict is a pass only if all of them pass. Throws (exit 2) where there is
 * nothing to compare with, never a pass.
 */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const context = await readContext(options);
  const files: [file: string, kind: Kind][] = [];
  const { kind } = options;
  const wanted = kind !== undefined && isTee(kind) ? 'evidence' : kind;
  for (const file of options.files) files.push([file, wanted ?? (await fileKind(file))]);
  requireUsed(
    options,
    files.map(([, kind]) => kind),
  );
  const results: FileResult[] = [];
  for (const [index, [file, kind]] of files.entries()) {
    const attach = (name: string, bytes: Uint8Array) => options.onAttachment?.(index, { name, bytes });
    results.push(await verifyFile(file, kind, { ...options, attach }, context));
  }
  return {
    verdict: results.every(({ verdict }) => verdict === 'pass') ? 'pass' : 'fail',
    simulated: results.some(({ simulated }) => simulated),
    policy: askedFor(options),
    results,
  };
}

async function verifyFile(file: string, kind: Kind, options: Attaching, context: Context): Promise<FileResult> {
  const findings = new Findings();
  const { onProgress } = options;
  const moment = context.trust.at ?? context.trust.now;
  switch (kind) {
    case 'build-manifest':
      await verifyBuildManifest(
        file,
        await readSmallFile(file, 'build manifest', MAX_MANIFEST),
        findings,
        moment,
        onProgress,
      );
      break;
    case 'eif':
      await verifyEif(file, need(context.expected, 'an image'), findings, onProgress, moment);
      break;
    case 'gramine-manifest':
    case 'sigstruct': {
      const { libpal, acceptDebug, files } = options;
      const expected = need(context.expected, 'an enclave', 'mrenclave=HEX');
      await checkEnclave(
        await readEnclave(file, kind, { files, libpal }),
        { expected, acceptDebug, onProgress },
        findings,
      );
      break;
    }
    case 'sealed-model':
      await verifySealedModel(file, await sealedTrust(options, context), findings, onProgress);
      break;
    case 'evidence': {
      // A policy names the measurements that will do.
      const expected = context.trust.policy ? context.expected : need(context.expected, 'evidence');
      const bytes = await readSmallFile(file, 'evidence', 8 << 20);
      options.attach(evidenceName(bytes), bytes);
      await verifyEvidenceFile(bytes, expected, context.trust, findings);
      break;
    }
    case 'receipt':
      await verifyOneReceipt(file, options, context, findings);
      break;
  }
  if (READS[kind].includes('expect') && context.expected) findings.notChecked.push(...uncompared(context.expected));
  return findings.result(file, kind);
}
