import { equalBytes, hex, knownHex } from '../core/bytes.ts';
import { cacheDirectory } from '../core/cache-directory.ts';
import { negativeError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { requireOtherThan } from '../core/same-file.ts';
import { keyId, readOwnerPrivateKey, readXWingPrivateKey, readXWingPublicKey } from '../keys/keys.ts';
import { sealModel } from '../seal/index.ts';
import type { ImageConfig } from './image.ts';
import { requireSignedModel } from './model-verify.ts';
import { commonConfig, type PolicyWishes, releasePolicy, warnings } from './release-policy.ts';
import { loadOrBelieve } from './stated-images.ts';

export interface SealOptions extends PolicyWishes {
  model: string;
  /** Paths. */
  manifest: string;
  /** Images that are not beside the manifest are believed: public key (path) of who must have signed it, or as it is. */
  manifestKey?: string | undefined;
  trustManifest?: boolean | undefined;
  ownerKey: string;
  /** Public key (path) of who must have signed the model; its model.sig is one of its files. */
  modelKey?: string | undefined;
  brokers: string[];
  recovery?: string | undefined;
  out: string;
  threshold: number;
  /** An older sealed model whose unchanged parts are taken over, and its recovery key; paths. */
  reuse?: { sealed: string; key: string } | undefined;
  /** Digests every file of the model anew. */
  rehash?: boolean;
  onProgress?: OnProgress;
}

/**
 * `atoma-tee seal`: measures the images beside the manifest, makes the release policy, seals. Refuses to sign with another
 * key than the measured owner's (`ERR_SEAL_OWNER`), any model but the measured one (`ERR_SEAL_MODEL_MISMATCH`), and to write over what it reads
 * (`ERR_OUTPUT_INPUT`).
 */
export async function seal(options: SealOptions) {
  await requireOtherThan(options.out, inputs(options));
  const owner = readOwnerPrivateKey(await readSmallFile(options.ownerKey, 'owner key'));
  const { brokers, recovery } = await readRecipients(options);
  const { reuse, rehash, threshold } = options;
  const reuseKey = reuse && readXWingPrivateKey(await readSmallFile(reuse.key, 'recovery key'));
  const trust = { key: options.manifestKey, trusted: options.trustManifest };
  const { images, stated } = await loadOrBelieve(options.manifest, trust, options.onProgress);
  const config = commonConfig(images);
  requireOwner(config, owner.publicRaw);
  const policy = await releasePolicy(images, options);
  const { model, modelKey, onProgress } = options;
  const unsigned = modelKey === undefined ? [] : await requireSignedModel(model, modelKey, onProgress);
  const sealed = await sealModel({
    model: options.model,
    policy,
    ownerKey: owner.key,
    brokers,
    threshold,
    ...(recovery ? { recovery } : {}),
    out: options.out,
    created: Math.floor(Date.now() / 1000),
    expectDigest: config.model.digest,
    ...(reuse && reuseKey ? { reuse: { sealed: reuse.sealed, key: reuseKey } } : {}),
    rehash,
    cacheDir: cacheDirectory(process.env),
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  });
  return {
    path: options.out,
    sealId: sealed.sealId,
    size: sealed.size,
    epoch: sealed.epoch,
    model: sealed.digest,
    reused: sealed.reused,
    measurement: images[0]?.measurement,
    policy,
    simulated: policy.any.some(({ tee }) => tee === 'simulated'),
    threshold: { t: threshold, n: brokers.length },
    brokers: brokers.map((raw) => hex(keyId(raw))),
    recovery: recovery ? hex(keyId(recovery)) : null,
    warnings: [
      ...warnings({ threshold, brokers: brokers.length, recovery: recovery !== undefined, policy, images }),
      ...unsigned.map((what) => `warning: sealed all the same: ${what}`),
      ...stated.map(
        (path) =>
          `warning: ${path} is not here: its measurement is what the ${options.manifestKey ? 'signed' : 'UNSIGNED'} manifest says`,
      ),
    ],
  };
}

/** Everything that is read but the older sealed model, whose place the new one may take. */
const inputs = (of: SealOptions) => [
  ...[of.model, of.manifest, of.manifestKey, of.ownerKey, of.modelKey, ...of.brokers, of.recovery, of.reuse?.key],
  of.policyFile,
];

/** Public keys (raw) from their files. */
export async function readRecipients(of: { brokers: string[]; recovery?: string | undefined }) {
  const read = async (path: string, what: string) => readXWingPublicKey(await readSmallFile(path, what)).raw;
  return {
    brokers: await Promise.all(of.brokers.map((path) => read(path, 'broker key'))),
    recovery: of.recovery === undefined ? undefined : await read(of.recovery, 'recovery key'),
  };
}

/** Throws `ERR_SEAL_OWNER` (exit 3) unless the image opens what this owner signs. */
export function requireOwner(config: ImageConfig, publicRaw: Uint8Array): void {
  if (equalBytes(publicRaw, knownHex(config.model.owner))) return;
  throw negativeError(
    'ERR_SEAL_OWNER',
    `the image opens only what its measured owner signed: expected owner ${config.model.owner}, found ${hex(publicRaw)}`,
    { hint: 'sign with the key that enclave.toml names, or build an image that names this one' },
  );
}
