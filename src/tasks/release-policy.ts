import { resolveSimulatedRoots } from '../attest/index.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { type Binding, bindsSigner, measurementPolicy, type Policy, policyFromJson } from '../seal/policy.ts';
import type { ImageConfig, MeasuredImage } from './image.ts';

/** What `seal` and `rebind` are told about the release policy. */
export interface PolicyWishes {
  /** JSON file; instead of the fields below. */
  policyFile?: string | undefined;
  bind?: Binding | undefined;
  /** SGX: lowest version of the product that may open the model. */
  minIsvsvn?: number | undefined;
  acceptTcb?: string[] | undefined;
  platforms?: string[] | undefined;
  notAfter?: Date | undefined;
  /** Roots ("local" or fingerprints): the policy is for the simulated TEE. */
  allowSimulated: string[];
}

/**
 * The release policy for the images of one manifest: an alternative for each. Throws `ERR_POLICY_*`, `ERR_USAGE` (exit 2), and
 * `ERR_POLICY_MISMATCH` (exit 3) for a policy file of another project or model: the enclave would refuse it, on a stranger's machine.
 */
export async function releasePolicy(images: MeasuredImage[], wishes: PolicyWishes): Promise<Policy> {
  const config = commonConfig(images);
  const policy = wishes.policyFile
    ? policyFromJson((await readSmallFile(wishes.policyFile, 'release policy')).toString('utf8'))
    : await makePolicy(images, wishes, config);
  if (policy.project !== config.project || policy.model !== config.model.digest) {
    throw negativeError(
      'ERR_POLICY_MISMATCH',
      `the policy is for ${policy.project} (model ${policy.model}), but the image is ${config.project} (model ${config.model.digest})`,
    );
  }
  return policy;
}

async function makePolicy(images: MeasuredImage[], wishes: PolicyWishes, config: ImageConfig): Promise<Policy> {
  const { bind = 'image', minIsvsvn, acceptTcb, platforms, notAfter } = wishes;
  const measurements = images.map(({ measurement }) => measurement);
  if (minIsvsvn !== undefined && !measurements.some(({ tee }) => (tee as string) === 'sgx')) {
    throw usageError('ERR_USAGE', '--min-isvsvn: expected an SGX image beside the manifest, found none');
  }
  const accepted = measurements.map((measurement) => measurementPolicy(measurement, { bind, minIsvsvn }));
  const roots = await resolveSimulatedRoots(wishes.allowSimulated);
  return {
    any:
      roots.length > 0
        ? roots.flatMap((root) => accepted.map((of) => ({ tee: 'simulated' as const, root, of })))
        : accepted,
    ...(acceptTcb ? { accept_tcb: [...new Set(['UpToDate', ...acceptTcb])] } : {}),
    ...(platforms ? { platforms } : {}),
    ...(notAfter ? { not_after: Math.floor(notAfter.getTime() / 1000) } : {}),
    project: config.project,
    model: config.model.digest,
  };
}

/** The images of a manifest are of one project, model and owner. Throws `ERR_POLICY_MISMATCH` (exit 3). */
export function commonConfig(images: MeasuredImage[]): ImageConfig {
  const [first, ...others] = images;
  if (first === undefined) throw new RangeError('a manifest without images');
  const { project, model } = first.config;
  const other = others.find(
    ({ config: c }) => c.project !== project || c.model.digest !== model.digest || c.model.owner !== model.owner,
  );
  if (other === undefined) return first.config;
  throw negativeError(
    'ERR_POLICY_MISMATCH',
    `expected images of one project, model and owner, found ${first.path} and ${other.path} that differ`,
  );
}

/** What the owner should know about who can open the model, besides the enclave. */
export function warnings(of: {
  threshold: number;
  brokers: number;
  recovery: boolean;
  policy: Policy;
  images: MeasuredImage[];
}): string[] {
  const { threshold: t, brokers: n, recovery, policy } = of;
  const trusted =
    t > 1
      ? `any ${t} of the ${n} brokers together can open this model; fewer learn nothing of it`
      : `${n === 1 ? 'the broker' : 'each of the brokers'} can open this model: it is fully trusted with it`;
  const lost = n === 1 ? 'the broker key is lost' : `${n - t + 1} broker keys are lost`;
  return [
    `note: ${trusted}`,
    ...(recovery ? [] : [`warning: no --recovery key: if ${lost}, so is what this file holds`]),
    ...(bindsSigner(policy)
      ? [
          'warning: the policy names a signer, not an image: whoever holds that signing key decides which programs can open this model',
        ]
      : []),
    ...(policy.not_after !== undefined && policy.not_after * 1000 < Date.now()
      ? ['warning: not_after is in the past: no broker releases this model']
      : []),
    ...(policy.any.some(({ tee }) => tee === 'simulated')
      ? ['warning: SIMULATED: no hardware protects this model']
      : []),
    ...of.images.flatMap((image) =>
      image.target === 'gramine' && image.debug
        ? [
            `warning: ${image.path} is a DEBUG enclave: the host can read all of its memory; brokers release nothing to one that runs on SGX`,
          ]
        : [],
    ),
  ];
}
