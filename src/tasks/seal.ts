import { resolveSimulatedRoots } from '../attest/index.ts';
import { equalBytes, hex, knownHex } from '../core/bytes.ts';
import { negativeError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { keyId, readOwnerPrivateKey, readXWingPrivateKey, readXWingPublicKey } from '../keys/keys.ts';
import { type Policy, policyFromJson, sealModel } from '../seal/index.ts';
import { loadImage } from './image.ts';

export interface SealOptions {
  model: string;
  /** Paths. */
  manifest: string;
  ownerKey: string;
  brokers: string[];
  recovery?: string | undefined;
  out: string;
  threshold: number;
  /** JSON file; instead of the policy fields below. */
  policyFile?: string | undefined;
  acceptTcb?: string[] | undefined;
  platforms?: string[] | undefined;
  notAfter?: Date | undefined;
  allowSimulated: string[];
  /** An older sealed model whose unchanged parts are taken over, and its recovery key; paths. */
  reuse?: { sealed: string; key: string } | undefined;
  /** Digests every file of the model anew. */
  rehash?: boolean;
  onProgress?: OnProgress;
}

/**
 * `atoma-tee seal`: measures the image beside the manifest, makes the release policy, seals. Refuses to sign with another
 * key than the measured owner's (`ERR_SEAL_OWNER`), and any model but the measured one (`ERR_SEAL_MODEL_MISMATCH`).
 */
export async function seal(options: SealOptions) {
  const owner = readOwnerPrivateKey(await readSmallFile(options.ownerKey, 'owner key'));
  const brokers = await Promise.all(
    options.brokers.map(async (path) => readXWingPublicKey(await readSmallFile(path, 'broker key')).raw),
  );
  const recovery = options.recovery
    ? readXWingPublicKey(await readSmallFile(options.recovery, 'recovery key')).raw
    : undefined;
  const { reuse, rehash } = options;
  const reuseKey = reuse && readXWingPrivateKey(await readSmallFile(reuse.key, 'recovery key'));
  const { measured, config } = await loadImage(options.manifest, options.onProgress);
  if (!equalBytes(owner.publicRaw, knownHex(config.model.owner))) {
    throw negativeError(
      'ERR_SEAL_OWNER',
      `the image opens only what its measured owner signed: expected owner ${config.model.owner}, found ${hex(owner.publicRaw)}`,
      { hint: 'sign with the key that enclave.toml names, or build an image that names this one' },
    );
  }
  const policy = options.policyFile
    ? policyFromJson((await readSmallFile(options.policyFile, 'release policy')).toString('utf8'))
    : await makePolicy(options, measured.measurement, config);
  requireSameProject(policy, config);
  const simulated = policy.any.some(({ tee }) => tee === 'simulated');
  const sealed = await sealModel({
    model: options.model,
    policy,
    ownerKey: owner.key,
    brokers,
    threshold: options.threshold,
    ...(recovery ? { recovery } : {}),
    out: options.out,
    created: Math.floor(Date.now() / 1000),
    expectDigest: config.model.digest,
    ...(reuse && reuseKey ? { reuse: { sealed: reuse.sealed, key: reuseKey } } : {}),
    rehash,
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  });
  return {
    path: options.out,
    sealId: sealed.sealId,
    size: sealed.size,
    epoch: sealed.epoch,
    model: sealed.digest,
    measurement: measured.measurement,
    simulated,
    brokers: brokers.map((raw) => hex(keyId(raw))),
    recovery: recovery ? hex(keyId(recovery)) : null,
    warnings: warnings(brokers.length, recovery !== undefined, simulated),
  };
}

async function makePolicy(
  options: SealOptions,
  measurement: NitroMeasurement,
  config: MeasuredConfig,
): Promise<Policy> {
  const roots = await resolveSimulatedRoots(options.allowSimulated);
  return {
    any: roots.length > 0 ? roots.map((root) => ({ tee: 'simulated', root, of: measurement })) : [measurement],
    ...(options.acceptTcb ? { accept_tcb: [...new Set(['UpToDate', ...options.acceptTcb])] } : {}),
    ...(options.platforms ? { platforms: options.platforms } : {}),
    ...(options.notAfter ? { not_after: Math.floor(options.notAfter.getTime() / 1000) } : {}),
    project: config.project,
    model: config.model.digest,
  };
}

/** A policy for another project or model would be refused by the enclave: say so now, not on a stranger's machine. */
function requireSameProject(policy: Policy, config: MeasuredConfig): void {
  if (policy.project !== config.project || policy.model !== config.model.digest) {
    throw negativeError(
      'ERR_POLICY_MISMATCH',
      `the policy is for ${policy.project} (model ${policy.model}), but the image is ${config.project} (model ${config.model.digest})`,
    );
  }
}

function warnings(brokers: number, recovery: boolean, simulated: boolean): string[] {
  return [
    `note: ${brokers === 1 ? 'the broker' : 'each of the brokers'} can open this model: it is fully trusted with it`,
    ...(recovery ? [] : ['warning: no --recovery key: if the broker key is lost, so is what this file holds']),
    ...(simulated ? ['warning: SIMULATED: no hardware protects this model'] : []),
  ];
}
