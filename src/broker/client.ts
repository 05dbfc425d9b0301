import type { Attester } from '../attest/simulated-attester.ts';
import type { Tee } from '../attest/types.ts';
import { equalBytes, hex } from '../core/bytes.ts';
import { negativeError, refusedError } from '../core/errors.ts';
import { hpkeOpen } from '../keys/hpke.ts';
import { newXWingSeed, xwingPublicFromSeed } from '../keys/xwing.ts';
import { KIND, type ParsedHeader, type Recipient, verifyHeaderSignature } from '../seal/header.ts';
import { checkContentKey, checkShare } from '../seal/recipients.ts';
import { type Challenge, decodeChallenge, decodeReply, encodeRelease, releaseBinder } from './protocol.ts';
import { decodeRefusal } from './refusal.ts';

// Runs inside the enclave: nothing here believes the host or the broker.

/** Sends one request to a broker. `path` is "/v1/challenge" or "/v1/release". */
export type Post = (path: string, body: Uint8Array) => Promise<{ status: number; body: Uint8Array }>;

export interface ReleaseOptions {
  post: Post;
  attester: Pick<Attester, 'attest'>;
  tee: Tee;
  header: ParsedHeader;
  /** What the image measured: the owner's raw Ed25519 key (32 bytes), the project, the model digest (hex). */
  measured: { owner: Uint8Array; project: string; model: string };
}

/**
 * Asks a broker for the content key of a sealed model (threshold 1) and returns its 32 bytes. Before asking: the header is
 * signed by the measured owner. After: share commitment, key commitment, and that the policy names the measured project
 * and model.
 *
 * Throws `ERR_SEAL_OWNER`, `ERR_SEAL_SIGNATURE`, `ERR_SEAL_SHARE`, `ERR_SEAL_KEY`, `ERR_RELEASE_MISMATCH` (exit 3), the
 * broker's refusal or `ERR_RELEASE_REPLY`, `ERR_RELEASE_RECIPIENT`, `ERR_RELEASE_THRESHOLD` (exit 4).
 */
export async function requestRelease(options: ReleaseOptions): Promise<Buffer> {
  const { header: parsed, measured } = options;
  const { header } = parsed;
  verifyHeaderSignature(parsed, measured.owner);
  if (header.threshold.t !== 1) {
    const found = `${header.threshold.t} of ${header.threshold.n}`;
    throw refusedError('ERR_RELEASE_THRESHOLD', `expected a model sealed with threshold 1, found ${found}`);
  }
  const contentKey = await requestShare(options);
  checkContentKey(header, contentKey);
  const { project, model } = header.policy;
  if (project !== measured.project || model !== measured.model) {
    throw negativeError(
      'ERR_RELEASE_MISMATCH',
      `expected a policy for project ${measured.project} and model ${measured.model}, found ${project} and ${model}`,
    );
  }
  return contentKey;
}

/** One share, checked against the commitment in the header, which the caller has verified. */
export async function requestShare({ post, attester, tee, header: parsed }: ReleaseOptions): Promise<Buffer> {
  const answer = await post('/v1/challenge', new Uint8Array(0));
  if (answer.status !== 200) throw decodeRefusal(answer.status, answer.body);
  const challenge = decodeChallenge(answer.body);
  const recipient = recipientOf(parsed, challenge);

  const seed = newXWingSeed();
  const pkE = xwingPublicFromSeed(seed);
  const binder = releaseBinder({
    nonce: challenge.nonce,
    pkE,
    brokerKeyId: recipient.keyId,
    headerDigest: parsed.digest,
    share: recipient.share,
  });
  const evidence = await attester.attest({ userData: binder, nonce: challenge.nonce, reportData: binder });
  const { nonce } = challenge;
  const body = encodeRelease({ nonce, tee, evidence, pkE, share: recipient.share, header: parsed.bytes });
  const { status, body: reply } = await post('/v1/release', body);
  if (status !== 200) throw decodeRefusal(status, reply);

  const share = await hpkeOpen(seed, decodeReply(reply), binder);
  seed.fill(0);
  if (share === null) {
    throw refusedError('ERR_RELEASE_REPLY', 'expected a share encrypted to this enclave, found one that does not open');
  }
  checkShare(parsed.header, recipient, share);
  return share;
}

/** The broker's recipient in the header; a broker that does not say who it is must be the only one. */
function recipientOf({ header }: ParsedHeader, { broker }: Challenge): Recipient {
  const brokers = header.recipients.filter((r) => r.kind === KIND.broker);
  const found = broker === undefined ? brokers : brokers.filter((r) => equalBytes(r.keyId, broker));
  if (found[0] !== undefined && found.length === 1) return found[0];
  throw refusedError(
    'ERR_RELEASE_RECIPIENT',
    `expected a broker that the model is sealed to (key id ${brokers.map((r) => hex(r.keyId)).join(' or ')}), found ${broker === undefined ? 'one that does not say which' : hex(broker)}`,
    { hint: 'use the broker whose .pub was given to `seal --to`' },
  );
}
