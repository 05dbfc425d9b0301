import { type PullOptions, type PullResult, pullSealed } from '../artifact/pull.ts';
import { AtomaError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { readOwnerPublicKey } from '../keys/keys.ts';

export interface PullTask extends Omit<PullOptions, 'owner' | 'signal'> {
  /** Path of the owner's public key. */
  owner?: string | undefined;
}

/**
 * `atoma-tee pull`: as pullSealed; `warnings` are for people. An interrupt leaves what has come for the next run
 * (`ERR_INTERRUPTED`, exit 1).
 */
export async function pull(options: PullTask): Promise<PullResult & { warnings: string[] }> {
  if (options.out === undefined && options.manifest === undefined) {
    throw usageError('ERR_USAGE', 'expected --out FILE, --manifest FILE or both, found neither');
  }
  const owner = options.owner ? readOwnerPublicKey(await readSmallFile(options.owner, 'owner key')).raw : undefined;
  const stop = new AbortController();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const interrupt = (signal: string) => stop.abort(interrupted(signal));
  for (const signal of signals) process.once(signal, interrupt);
  try {
    const result = await pullSealed({ ...options, owner, signal: stop.signal });
    return { ...result, warnings: warnings(result) };
  } finally {
    for (const signal of signals) process.removeListener(signal, interrupt);
  }
}

const interrupted = (signal: string) =>
  new AtomaError('unexpected', 'ERR_INTERRUPTED', `stopped by ${signal}; what has come stays in OUT.pull.partial`, {
    hint: 'the same command goes on from there',
  });

function warnings({ owner, ownerChecked, manifest }: PullResult): string[] {
  return [
    ...(ownerChecked ? [] : [`note: signed by owner ${owner}; give --owner to insist on one`]),
    ...(manifest === null
      ? []
      : [`note: ${manifest.path} is what somebody attached, not verified: verify it before you trust it`]),
  ];
}
