import { parseRoots, resolveSimulatedRoots } from '../../attest/index.ts';
import { fromHex, knownHex } from '../../core/bytes.ts';
import { usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import { readOwnerPublicKey } from '../../keys/keys.ts';
import { policyFromJson } from '../../seal/index.ts';
import { readEndorsements } from '../endorsements.ts';
import { type ManifestFacts, manifestFacts } from './build-manifest.ts';
import type { EvidenceTrust } from './evidence.ts';
import { type Expected, expectMeasurement, noExpectation, parseExpect } from './expect.ts';
import { type GivenKey, readKey } from './key.ts';
import type { VerifyOptions } from './options.ts';
import type { Kind } from './report.ts';
import { isTee } from './used.ts';

/** What files are judged by, read once for all of them. */
export interface Context {
  manifest: ManifestFacts | undefined;
  expected: Expected | undefined;
  trust: EvidenceTrust;
  key: GivenKey;
}

/** Reads what the flags name; `kinds` are of the files that are judged. Throws `ERR_USAGE` and what reading throws. */
export async function readContext(options: VerifyOptions, kinds: Kind[]): Promise<Context> {
  const manifest = options.manifest === undefined ? undefined : await manifestFacts(options.manifest);
  const flags = parseExpect(options.expect);
  if (manifest && flags) throw usageError('ERR_USAGE', 'give --manifest or --expect, not both: they could differ');
  return {
    manifest,
    key: await readKey(options.key, kinds),
    expected: manifest ? expectMeasurement(...manifest.measurements) : flags,
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

export async function sealedTrust(options: VerifyOptions, { manifest, trust, key }: Context) {
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
  return { owner, manifest, key: key.recovery, allowSimulated: trust.allowSimulated };
}

/** Throws `ERR_NO_EXPECTATION` where nothing was said. */
export function need(expected: Expected | undefined, what: string, register?: string): Expected {
  if (expected === undefined) throw noExpectation(what, register);
  return expected;
}

export function hexFlag(flag: string, text: string, length?: number): Uint8Array {
  const bytes = fromHex(text);
  // An empty one is a variable of a script that was not set.
  if (bytes && bytes.length > 0 && (length === undefined || bytes.length === length)) return bytes;
  throw usageError(
    'ERR_USAGE',
    `${flag}: expected ${length === undefined ? 'hex' : `${length} bytes in hex`}, found "${text}"`,
  );
}
