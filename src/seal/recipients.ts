import { equalBytes, hex, sha256 } from '../core/bytes.ts';
import { encodeCbor } from '../core/cbor.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { hpkeOpen, hpkeSeal } from '../keys/hpke.ts';
import { keyId } from '../keys/keys.ts';
import { KIND, type Recipient, type SealHeader } from './header.ts';
import { checkContentKey } from './secrets.ts';
import { splitContentKey } from './shares.ts';

export { checkContentKey };

/** What of a header a share is bound to. */
export type ShareContext = Pick<SealHeader, 'suite' | 'sealId' | 'epoch' | 'policyBytes' | 'owner' | 'threshold'>;

/** HPKE info of a share: sealed-model.md, "Recipients". A share opens under this policy, owner, epoch and seal only. */
const shareInfo = (header: ShareContext, share: number): Uint8Array =>
  encodeCbor([
    'atseal/1 share',
    header.suite,
    header.sealId,
    header.epoch,
    new Uint8Array(sha256(header.policyBytes)),
    header.owner,
    header.threshold.t,
    header.threshold.n,
    share,
  ]);

/** Commits to the plaintext of a share, so that whoever releases another one can be named. */
const shareCommitment = ({ sealId, epoch }: ShareContext, share: number, plaintext: Uint8Array): Buffer =>
  sha256(encodeCbor(['atseal/1 commit', sealId, epoch, share, new Uint8Array(plaintext)]));

/** Wraps the content key or a share of it to a raw X-Wing public key (1216 bytes). */
export async function wrapShare(
  header: ShareContext,
  to: { kind: number; share: number; publicRaw: Uint8Array },
  plaintext: Uint8Array,
): Promise<Recipient> {
  const { enc, ciphertext } = await hpkeSeal(to.publicRaw, shareInfo(header, to.share), plaintext);
  return {
    kind: to.kind,
    keyId: keyId(to.publicRaw),
    share: to.share,
    enc,
    ciphertext,
    commitment: shareCommitment(header, to.share, plaintext),
  };
}

/** To whom a content key goes: raw X-Wing public keys (1216 bytes each). */
export interface RecipientKeys {
  /** Share 1 is the first one's, and so on. */
  brokers: Uint8Array[];
  /** How many of them it takes. */
  threshold: number;
  /** Opens alone. */
  recovery?: Uint8Array | undefined;
}

/** Throws `ERR_SEAL_RECIPIENTS`, `ERR_SEAL_THRESHOLD` (exit 2) unless a content key can be wrapped to these. */
export function checkRecipients({ brokers, threshold, recovery }: RecipientKeys): void {
  if (brokers.length < 1 || brokers.length > 255) {
    throw usageError('ERR_SEAL_RECIPIENTS', `expected 1 to 255 brokers, found ${brokers.length}`);
  }
  if (!Number.isInteger(threshold) || threshold < 1 || threshold > brokers.length) {
    throw usageError(
      'ERR_SEAL_THRESHOLD',
      `expected a threshold of 1 to ${brokers.length}, the number of brokers; found ${threshold}`,
    );
  }
  const all = [...brokers, ...(recovery ? [recovery] : [])].map(hex);
  if (new Set(all).size !== all.length)
    throw usageError('ERR_SEAL_RECIPIENTS', 'the same key is named twice among brokers and recovery key');
}

/**
 * Wraps a content key: to each broker the key itself (threshold 1) or its share, to the recovery key the key itself. Brokers come first, in
 * the order of their shares. Throws as checkRecipients.
 */
export async function wrapContentKey(
  context: Omit<ShareContext, 'threshold'>,
  keys: RecipientKeys,
  ck: Uint8Array,
): Promise<Recipient[]> {
  checkRecipients(keys);
  const { brokers, threshold: t, recovery } = keys;
  const n = brokers.length;
  const header = { ...context, threshold: { t, n } };
  const shares = t === 1 ? brokers.map(() => new Uint8Array(ck)) : await splitContentKey(ck, t, n);
  try {
    const recipients = brokers.map((publicRaw, i) =>
      wrapShare(header, { kind: KIND.broker, share: i + 1, publicRaw }, shares[i] ?? new Uint8Array()),
    );
    if (recovery) recipients.push(wrapShare(header, { kind: KIND.recovery, share: 0, publicRaw: recovery }, ck));
    return await Promise.all(recipients);
  } finally {
    for (const share of shares) share.fill(0);
  }
}

/**
 * Unwraps a recipient's share with its X-Wing seed: 32 bytes of content key, or 33 of a share. That it opens proves that policy, owner,
 * epoch and threshold are those that were sealed. Throws `ERR_SEAL_SHARE` (exit 3).
 */
export async function openShare(header: ShareContext, recipient: Recipient, privateSeed: Uint8Array): Promise<Buffer> {
  const plaintext = await hpkeOpen(privateSeed, recipient, shareInfo(header, recipient.share));
  if (!plaintext) {
    throw negativeError(
      'ERR_SEAL_SHARE',
      'the share in the sealed header does not open: wrong key, or the header was changed',
    );
  }
  checkShare(header, recipient, plaintext);
  return plaintext;
}

/** Throws `ERR_SEAL_SHARE` (exit 3) unless `plaintext` is what the recipient's commitment says, whoever opened it. */
export function checkShare(header: ShareContext, recipient: Recipient, plaintext: Uint8Array): void {
  if (!equalBytes(shareCommitment(header, recipient.share, plaintext), recipient.commitment)) {
    throw negativeError('ERR_SEAL_SHARE', 'the share is not the one that the sealed header commits to');
  }
}

/** The recipient of a kind (KIND) with this key id (16 bytes), if any. */
export const findRecipient = (
  header: Pick<SealHeader, 'recipients'>,
  kind: number,
  id: Uint8Array,
): Recipient | undefined => header.recipients.find((r) => r.kind === kind && equalBytes(r.keyId, id));

/** An X-Wing key pair: a seed of 32 bytes and the raw public key. */
export interface PrivateKey {
  seed: Uint8Array;
  publicRaw: Uint8Array;
}

/**
 * The content key (32 bytes), with a private key that alone can open: the recovery key or, with threshold 1, a broker's. Throws
 * `ERR_SEAL_RECIPIENT`, `ERR_SEAL_SHARE`, `ERR_SEAL_KEY` (exit 3).
 */
export async function unwrapContentKey(header: SealHeader, key: PrivateKey): Promise<Buffer> {
  const id = keyId(key.publicRaw);
  const broker = header.threshold.t === 1 ? findRecipient(header, KIND.broker, id) : undefined;
  const recipient = findRecipient(header, KIND.recovery, id) ?? broker;
  if (!recipient) {
    const recovery = header.recipients.find((r) => r.kind === KIND.recovery);
    throw negativeError(
      'ERR_SEAL_RECIPIENT',
      `the key ${hex(id)} does not open this sealed model: expected ${recovery ? `its recovery key ${hex(recovery.keyId)}` : 'a key it was sealed to; it has no recovery key'}`,
    );
  }
  const ck = await openShare(header, recipient, key.seed);
  checkContentKey(header, ck);
  return ck;
}
