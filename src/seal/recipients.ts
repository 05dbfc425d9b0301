import { equalBytes, hex, sha256 } from '../core/bytes.ts';
import { encodeCbor } from '../core/cbor.ts';
import { negativeError } from '../core/errors.ts';
import { hpkeOpen, hpkeSeal } from '../keys/hpke.ts';
import { keyId } from '../keys/keys.ts';
import { KIND, type Recipient, type SealHeader } from './header.ts';
import { checkContentKey } from './secrets.ts';

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
