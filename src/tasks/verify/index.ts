import type { KeyObject } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { readSmallFile } from '../../core/files.ts';
import { bundlePath } from '../../manifest/bundle.ts';
import { MEASUREMENTS_FILE } from '../../manifest/measurements.ts';
import { MAX_MANIFEST } from '../image.ts';
import { verifyBuildManifest } from './build-manifest.ts';
import { type Context, need, readContext, sealedTrust } from './context.ts';
import { verifyEif } from './eif.ts';
import { verifyEvidenceFile } from './evidence.ts';
import { uncompared } from './expect.ts';
import { checkEnclave, readEnclave } from './gramine.ts';
import { fileKind } from './kind.ts';
import { manifestSignature, signedManifest } from './manifest-signature.ts';
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
  const files: [file: string, kind: Kind][] = [];
  const { kind } = options;
  const wanted = kind !== undefined && isTee(kind) ? 'evidence' : kind;
  for (const file of options.files) files.push([file, wanted ?? (await fileKind(file))]);
  const kinds = files.map(([, kind]) => kind);
  requireUsed(options, kinds);
  const context = await readContext(options, kinds);
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
      await verifyManifestFile(file, context.key.signer, findings, moment, options);
      break;
    case 'manifest-signature': {
      const signed = await signedManifest(file, context.key.signer, findings);
      if (signed) await verifyManifestBytes(signed.path, signed.statement, findings, moment, options);
      break;
    }
    case 'model-signature': {
      const { judgeModelSignature } = await import('../model-signature.ts');
      await judgeModelSignature({ signature: file, signer: context.key.signer, onProgress }, findings);
      break;
    }
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

/** A manifest and, with a key, its signature; else who made it is said to be unknown. */
async function verifyManifestFile(
  file: string,
  signer: KeyObject | undefined,
  findings: Findings,
  moment: Date,
  options: VerifyOptions,
): Promise<void> {
  const bytes = await readSmallFile(file, 'build manifest', MAX_MANIFEST);
  if (signer) await manifestSignature(file, bytes, signer, findings);
  else findings.notChecked.push(unsigned(file));
  await verifyManifestBytes(file, bytes, findings, moment, options);
}

async function verifyManifestBytes(
  file: string,
  bytes: Buffer,
  findings: Findings,
  moment: Date,
  options: VerifyOptions,
): Promise<void> {
  await verifyBuildManifest(file, bytes, findings, moment, options.onProgress);
  findings.notChecked.push(BOM_STATED);
  if (options.rebuild) await (await import('./rebuild.ts')).verifyRebuild(file, bytes, options, findings);
  else findings.notChecked.push(...NOT_REBUILT);
}

const BOM_STATED =
  'what bom.cdx.json says of licences, and of packages inside the enclave program or a container image';
const NOT_REBUILT = [
  `the parts and files that ${MEASUREMENTS_FILE} lists: it only explains the registers (--rebuild checks them)`,
  'that its inputs give these outputs: --rebuild builds them again and compares (docs/reproduce.md)',
];

const unsigned = (manifest: string): string =>
  existsSync(bundlePath(manifest))
    ? `who made the build manifest: it is signed (${basename(bundlePath(manifest))}), but no key was given that says by whom: --key BUILD.pub`
    : 'who made the build manifest: it is not signed';
