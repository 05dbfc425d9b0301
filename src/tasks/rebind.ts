import { hex } from '../core/bytes.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { requireOtherThan } from '../core/same-file.ts';
import { keyId, readOwnerPrivateKey, readXWingPrivateKey } from '../keys/keys.ts';
import type { Policy } from '../seal/policy.ts';
import { rebindModel } from '../seal/rebind.ts';
import { loadImages } from './image.ts';
import { commonConfig, type PolicyWishes, releasePolicy, warnings } from './release-policy.ts';
import { readRecipients, requireOwner } from './seal.ts';

export interface RebindOptions extends PolicyWishes {
  /** Paths. */
  sealed: string;
  manifest: string;
  ownerKey: string;
  key: string;
  brokers: string[];
  recovery?: string | undefined;
  out: string;
  threshold: number;
  onProgress?: OnProgress;
}

/**
 * `atoma-tee rebind`: a new header for a sealed model, for the images beside the manifest. Throws as rebindModel, and `ERR_SEAL_OWNER`
 * (exit 3) where the images measure another owner.
 */
export async function rebind(options: RebindOptions) {
  const { manifest, ownerKey, policyFile } = options;
  await requireOtherThan(options.out, [
    manifest,
    ownerKey,
    options.key,
    ...options.brokers,
    options.recovery,
    policyFile,
  ]);
  const owner = readOwnerPrivateKey(await readSmallFile(options.ownerKey, 'owner key'));
  const key = readXWingPrivateKey(await readSmallFile(options.key, 'recovery key'));
  const { brokers, recovery } = await readRecipients(options);
  const { images } = await loadImages(options.manifest, options.onProgress);
  requireOwner(commonConfig(images), owner.publicRaw);
  const policy = await releasePolicy(images, options);
  const { threshold } = options;
  const { old, ...result } = await rebindModel({
    sealed: options.sealed,
    ownerKey: owner.key,
    key,
    policy,
    brokers,
    threshold,
    recovery,
    out: options.out,
    created: Math.floor(Date.now() / 1000),
    onProgress: options.onProgress,
  });
  const who = { threshold, brokers: brokers.length, recovery: result.recovery !== undefined, policy, images };
  return {
    ...result,
    recovery: result.recovery ?? null,
    policy,
    simulated: policy.any.some(({ tee }) => tee === 'simulated'),
    threshold: { t: threshold, n: brokers.length },
    brokers: brokers.map((raw) => hex(keyId(raw))),
    replaces: { epoch: old.epoch, headerDigest: old.headerDigest },
    warnings: [...warnings(who), ...lost(old.policy, policy)],
  };
}

const LIMITS = ['min_tcb_evaluation', 'platforms', 'not_after'] as const;

/** The policy is made anew: what the old one demanded and the new one does not is easily forgotten. */
const lost = (before: Policy, after: Policy): string[] =>
  LIMITS.filter((name) => before[name] !== undefined && after[name] === undefined).map(
    (name) => `warning: the old policy had ${name}, the new one has not`,
  );
