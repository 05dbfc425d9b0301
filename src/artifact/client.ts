import { usageError } from '../core/errors.ts';
import { parseRegistryReference, type RegistryReference } from '../oci/reference.ts';
import { RegistryClient } from '../oci/registry-client.ts';
import { LIMITS, type RegistryLimits } from '../oci/registry-http.ts';
import { canonicalName } from '../oci/registry-names.ts';

/** What `push` and `pull` have in common. */
export interface Place {
  reference: RegistryReference;
  /** "localhost:5000/models/digits:1", for people. */
  what: string;
  client: RegistryClient;
  limits: RegistryLimits;
  signal: AbortSignal | undefined;
}

export interface PlaceOptions {
  /** REGISTRY/REPOSITORY:TAG or @DIGEST. */
  reference: string;
  /** Where credentials, proxies and ATOMA_TEE_INSECURE_REGISTRIES come from; by default the process's environment. */
  env?: NodeJS.ProcessEnv | undefined;
  limits?: RegistryLimits | undefined;
  signal?: AbortSignal | undefined;
}

/** Throws `ERR_OCI_REFERENCE` (exit 2). */
export function placeOf(options: PlaceOptions, push?: { from: string[] }): Place {
  const { env = process.env, limits = LIMITS, signal } = options;
  const reference = parseRegistryReference(options.reference);
  const { registry, repository, tag, digest } = reference;
  const what = `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
  return {
    reference,
    what,
    client: new RegistryClient(canonicalName(reference), { env, limits, signal, push }),
    limits,
    signal,
  };
}

/** A push needs a name that it can give. Throws `ERR_OCI_REFERENCE` (exit 2). */
export function requireTag({ tag, digest }: RegistryReference, what: string): string {
  if (tag !== undefined && digest === undefined) return tag;
  throw usageError('ERR_OCI_REFERENCE', `expected REGISTRY/REPOSITORY:TAG to push to, found ${what}`, {
    hint: 'the digest follows from what is pushed, and is printed',
  });
}
