import { ClaimFailure } from '../attest/claim-reader.ts';
import { RECEIPT_LIMIT } from '../attest/receipt.ts';
import { decodeReceiptClaims } from '../attest/receipt-claims.ts';
import { hex } from '../core/bytes.ts';
import { parseSign1 } from '../core/cose.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { readXWingPrivateKey } from '../keys/keys.ts';
import type { Statement } from '../manifest/statement.ts';
import { inspectEif, nitroCliDescription } from '../nitro/index.ts';
import { inspectSealed } from '../seal/index.ts';
import { readManifest } from './image.ts';
import { inspectBundle } from './inspect-bundle.ts';
import { inspectEvidence } from './inspect-evidence.ts';
import { type InspectEnclaveOptions, inspectGramineManifest, inspectSigstruct } from './inspect-gramine.ts';
import { fileKind } from './verify/kind.ts';

/**
 * `atoma-tee inspect`: what a file claims, JSON-able, nothing verified. Throws `ERR_KIND_UNKNOWN` and the parsers' errors
 * (exit 2).
 */
export async function inspect(
  path: string,
  options: { key?: string | undefined; onProgress?: OnProgress } & InspectEnclaveOptions,
): Promise<Record<string, unknown>> {
  const kind = await fileKind(path);
  if (kind !== 'gramine-manifest' && (options.layout || options.libpal !== undefined)) {
    throw usageError('ERR_USAGE', `--layout and --libpal: expected a signed Gramine manifest, found ${kind}`);
  }
  switch (kind) {
    case 'eif':
      return { ...(await inspectEif(path, options.onProgress)) };
    case 'gramine-manifest':
      return inspectGramineManifest(path, options);
    case 'sigstruct':
      return inspectSigstruct(path);
    case 'sealed-model': {
      const key = options.key ? readXWingPrivateKey(await readSmallFile(options.key, 'recovery key')) : undefined;
      return { ...(await inspectSealed(path, key)), kind: 'sealed-model' };
    }
    case 'build-manifest':
      return inspectManifest(await readManifest(path));
    case 'manifest-signature':
    case 'model-signature':
      return inspectBundle(path, kind, inspectManifest);
    case 'evidence':
      return inspectEvidence(await readSmallFile(path, 'evidence', 8 << 20));
    case 'receipt':
      return inspectReceipt(await readSmallFile(path, 'receipt'));
  }
}

/** `inspect --nitro-cli`: the text that `nitro-cli describe-eif` prints. Throws as `nitroCliDescription`. */
export const inspectAsNitroCli = (path: string, onProgress?: OnProgress): Promise<string> =>
  nitroCliDescription(path, onProgress);

function inspectManifest({ subject, predicate }: Statement) {
  const { externalParameters, internalParameters, resolvedDependencies } = predicate.buildDefinition;
  return {
    kind: 'build-manifest',
    verified: false,
    images: subject.map(({ name, digest }) => ({ name, ...digest })),
    project: externalParameters.project,
    model: externalParameters.model.digest,
    owner: externalParameters.owner,
    ...internalParameters,
    inputs: resolvedDependencies.map(({ name, uri, digest }) => ({ name: name ?? uri, ...digest })),
  };
}

function receiptClaims(payload: Uint8Array) {
  try {
    return decodeReceiptClaims(payload);
  } catch (cause) {
    if (!(cause instanceof ClaimFailure)) throw cause;
    throw usageError('ERR_RECEIPT_MALFORMED', `receipt: ${cause.code}: ${cause.message}`, { cause });
  }
}

function inspectReceipt(bytes: Buffer) {
  const message = parseSign1(bytes, { what: 'receipt', maxBytes: RECEIPT_LIMIT, tag: 'required' });
  const { measurements, iat, ...claims } = receiptClaims(message.payload);
  const show = (fields: object) =>
    Object.fromEntries(Object.entries(fields).map(([name, v]) => [name, v instanceof Uint8Array ? hex(v) : v]));
  return {
    kind: 'receipt',
    verified: false,
    time: new Date(iat * 1000).toISOString(),
    ...show(claims),
    measurements: show(measurements),
  };
}
