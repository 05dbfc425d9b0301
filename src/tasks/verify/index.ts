import { parseRoots, resolveSimulatedRoots, type Tee } from '../../attest/index.ts';
import { fromHex, knownHex } from '../../core/bytes.ts';
import { usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import type { OnProgress } from '../../core/progress.ts';
import { readOwnerPublicKey, readXWingPrivateKey } from '../../keys/keys.ts';
import { policyFromJson } from '../../seal/index.ts';
import { readEndorsements } from '../endorsements.ts';
import { MAX_MANIFEST } from '../image.ts';
import { type ManifestFacts, manifestFacts, verifyBuildManifest } from './build-manifest.ts';
import { verifyEif } from './eif.ts';
import { type EvidenceTrust, verifyEvidenceFile } from './evidence.ts';
import { type Expected, expectMeasurement, noExpectation, parseExpect, uncompared } from './expect.ts';
import { fileKind } from './kind.ts';
import { verifyReceiptByKey, verifyReceiptFile } from './receipt.ts';
import { type Attachment, type FileResult, Findings, type Kind, type VerifyReport } from './report.ts';
import { verifySealedModel } from './sealed.ts';
import { askedFor, isTee, READS, requireUsed } from './used.ts';

/** Flags of `verify`; paths are paths, times are dates. */
export interface VerifyOptions {
  files: string[];
  /** Of evidence also the TEE: then it does not choose its own verifier. */
  kind?: Kind | Tee | undefined;
  manifest?: string | undefined;
  expect: string[];
  owner?: string | undefined;
  key?: string | undefined;
  evidence?: string | undefined;
  publicKey?: string | undefined;
  request?: string | undefined;
  response?: string | undefined;
  nonce?: string | undefined;
  maxAge?: number | undefined;
  at?: Date | undefined;
  /** A file or a directory. */
  endorsements?: string | undefined;
  /** PEM, in place of the vendor's pinned root. */
  root?: string | undefined;
  /** Intel's status names; product lines denied by default; the least privileged VMPL of SNP. */
  acceptTcb?: string[] | undefined;
  acceptProduct?: string[] | undefined;
  acceptVmpl?: number | undefined;
  /** Path of a release policy (JSON, as `seal --policy` takes it) that evidence has to satisfy. */
  policy?: string | undefined;
  allowSimulated: string[];
  /** Is given the bytes of evidence and receipts as they were judged; `index` is the result's. */
  onAttachment?: ((index: number, attachment: Attachment) => void) | undefined;
  onProgress?: OnProgress;
}

const MAX_MESSAGE = 256 << 20;

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

interface Context {
  manifest: ManifestFacts | undefined;
  expected: Expected | undefined;
  trust: EvidenceTrust;
}

async function readContext(options: VerifyOptions): Promise<Context> {
  const manifest = options.manifest === undefined ? undefined : await manifestFacts(options.manifest);
  const flags = parseExpect(options.expect);
  if (manifest && flags) throw usageError('ERR_USAGE', 'give --manifest or --expect, not both: they could differ');
  return {
    manifest,
    expected: manifest ? expectMeasurement(manifest.measurement) : flags,
    trust: {
      allowSimulated: await resolveSimulatedRoots(options.allowSimulated),
      now: new Date(),
      ...(options.at ? { at: options.at } : {}),
      ...(options.endorsements ? { endorsements: await readEndorsements(options.endorsements) } : {}),
      ...(options.root ? { roots: parseRoots(await readSmallFile(options.root, 'root certificate')) } : {}),
      acceptance: { tcb: options.acceptTcb, products: options.acceptProduct, vmpl: options.acceptVmpl },
      policy: options.policy
        ? policyFromJson((await readSmallFile(options.policy, 'release policy')).toString('utf8'))
        : undefined,
      tee: options.kind !== undefined && isTee(options.kind) ? options.kind : undefined,
      nonce: options.nonce === undefined ? undefined : hexFlag('--nonce', options.nonce),
    },
  };
}

type Attaching = VerifyOptions & { attach: (name: string, bytes: Uint8Array) => void };

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

async function verifyOneReceipt(file: string, options: Attaching, context: Context, findings: Findings) {
  const receipt = await readSmallFile(file, 'receipt');
  options.attach('receipt.cbor', receipt);
  const { maxAge } = options;
  if (options.publicKey !== undefined) {
    const key = hexFlag('--public-key', options.publicKey, 32);
    const { nonce, at, now } = context.trust;
    verifyReceiptByKey(receipt, key, { maxAge, nonce, now: at ?? now, ...(await readMessages(options)) }, findings);
    return;
  }
  if (options.evidence === undefined) {
    throw usageError('ERR_NO_EVIDENCE', 'expected the evidence that the receipt refers to, found none', {
      hint: 'give --evidence FILE, or --public-key HEX to check signature and claims only',
    });
  }
  const inputs = {
    evidence: await readSmallFile(options.evidence, 'evidence', 8 << 20),
    ...(await readMessages(options)),
    modelDigest: context.manifest?.modelDigest,
    maxAge,
  };
  options.attach(evidenceName(inputs.evidence), inputs.evidence);
  await verifyReceiptFile(receipt, inputs, need(context.expected, 'a receipt'), context.trust, findings);
}

/** Our own file is JSON; what vendors make is not. */
const evidenceName = (bytes: Uint8Array): string => (bytes[0] === 0x7b ? 'evidence.json' : 'evidence.bin');

async function readMessages({ request, response }: VerifyOptions) {
  const read = async (path: string | undefined, what: string) =>
    path === undefined ? undefined : await readSmallFile(path, what, MAX_MESSAGE);
  return { request: await read(request, 'request'), response: await read(response, 'response') };
}

async function sealedTrust(options: VerifyOptions, { manifest, trust }: Context) {
  const given = options.owner ? readOwnerPublicKey(await readSmallFile(options.owner, 'owner key')).raw : undefined;
  const owner = given ?? (manifest && knownHex(manifest.owner));
  if (owner === undefined) {
    throw usageError(
      'ERR_NO_EXPECTATION',
      'expected to be told who owns the sealed model, found nothing to compare with',
      {
        hint: 'give --manifest build.intoto.json, or --owner owner.pub',
      },
    );
  }
  const key = options.key ? readXWingPrivateKey(await readSmallFile(options.key, 'recovery key')) : undefined;
  return { owner, manifest, key, allowSimulated: trust.allowSimulated };
}

function need(expected: Expected | undefined, what: string): Expected {
  if (expected === undefined) throw noExpectation(what);
  return expected;
}

function hexFlag(flag: string, text: string, length?: number): Uint8Array {
  const bytes = fromHex(text);
  // An empty one is a variable of a script that was not set.
  if (bytes && bytes.length > 0 && (length === undefined || bytes.length === length)) return bytes;
  throw usageError(
    'ERR_USAGE',
    `${flag}: expected ${length === undefined ? 'hex' : `${length} bytes in hex`}, found "${text}"`,
  );
}
