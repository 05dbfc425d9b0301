import type { Attester } from '../attest/simulated-attester.ts';
import type { Tee } from '../attest/types.ts';
import { equalBytes, hex } from '../core/bytes.ts';
import { refusedError } from '../core/errors.ts';
import { hpkeOpen } from '../keys/hpke.ts';
import { newXWingSeed, xwingPublicFromSeed } from '../keys/xwing.ts';
import { KIND, type ParsedHeader, type Recipient } from '../seal/header.ts';
import { checkShare } from '../seal/recipients.ts';
import { type Challenge, decodeChallenge, decodeReply, encodeRelease, releaseBinder } from './protocol.ts';
import { decodeRefusal } from './refusal.ts';

// Runs inside the enclave: nothing here believes the host or the broker.

/** Sends one request to a broker. `path` is "/v1/challenge" or "/v1/release". */
export type Post = (path: string, body: Uint8Array) => Promise<{ status: number; body: Uint8Array }>;

export interface ShareRequest {
  post: Post;
  attester: Pick<Attester, 'attest'>;
  tee: Tee;
  header: ParsedHeader;
  /** Hears the key id (16 bytes) of the recipient that the broker says it is. */
  onBroker?: (keyId: Uint8Array) => void;
}

/**
 * One share and its number, checked against the commitment in the header, whose signature the caller has verified. Throws
 * `ERR_SEAL_SHARE` (exit 3), the broker's refusal or `ERR_RELEASE_REPLY`, `ERR_RELEASE_RECIPIENT` (exit 4).
 */
export async function requestShare(request: ShareRequest): Promise<{ number: number; share: Buffer }> {
  const { post, attester, tee, header: parsed, onBroker } = request;
  const answer = await post('/v1/challenge', new Uint8Array(0));
  if (answer.status !== 200) throw decodeRefusal(answer.status, answer.body);
  const challenge = decodeChallenge(answer.body);
  const recipient = recipientOf(parsed, challenge);
  onBroker?.(recipient.keyId);

  const { nonce } = challenge;
  const seed = newXWingSeed();
  try {
    const pkE = xwingPublicFromSeed(seed);
    const binder = releaseBinder({
      nonce,
      pkE,
      brokerKeyId: recipient.keyId,
      headerDigest: parsed.digest,
      share: recipient.share,
    });
    const evidence = await attester.attest({ userData: binder, nonce, reportData: binder });
    const body = encodeRelease({ nonce, tee, evidence, pkE, share: recipient.share, header: parsed.bytes });
    const { status, body: reply } = await post('/v1/release', body);
    if (status !== 200) throw decodeRefusal(status, reply);

    const share = await hpkeOpen(seed, decodeReply(reply), binder);
    if (share === null) {
      throw refusedError(
        'ERR_RELEASE_REPLY',
        'expected a share encrypted to this enclave, found one that does not open',
      );
    }
    checkShare(parsed.header, recipient, share);
    return { number: recipient.share, share };
  } finally {
    seed.fill(0);
  }
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
