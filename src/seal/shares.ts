import { combine, split } from 'shamir-secret-sharing';
import { negativeError } from '../core/errors.ts';

/**
 * Shamir's secret sharing over GF(2^8), of the content key: sealed-model.md, "Recipients". The package is strict about types (a Buffer is
 * refused), refuses a threshold of 1, and combines any shares into *some* secret: whoever calls checks every share's commitment first
 * and the combined key's after. Its table look-ups are not constant-time.
 */

const KEY_LENGTH = 32;
/** The key's bytes and one x coordinate, which is not the share's number. */
export const SHARE_LENGTH = KEY_LENGTH + 1;

/** `n` shares of 33 bytes, of which any `t` (2 at the least) give the key back and fewer say nothing about it. */
export async function splitContentKey(ck: Uint8Array, t: number, n: number): Promise<Uint8Array[]> {
  if (ck.length !== KEY_LENGTH) throw new RangeError('expected a content key of 32 bytes');
  const secret = new Uint8Array(ck);
  try {
    return await split(secret, n, t);
  } finally {
    secret.fill(0);
  }
}

/** The key that the shares give, which may be wrong: see above. Throws `ERR_SEAL_KEY` (exit 3) where they cannot be shares of one key. */
export async function combineShares(shares: readonly Uint8Array[]): Promise<Buffer> {
  const plain = shares.map((share) => new Uint8Array(share));
  try {
    const points = plain.map((share) => share[KEY_LENGTH] ?? 0);
    // A share at zero would be taken for the secret itself.
    if (
      plain.some((share) => share.length !== SHARE_LENGTH) ||
      points.includes(0) ||
      new Set(points).size !== points.length ||
      points.length < 2
    ) {
      throw negativeError('ERR_SEAL_KEY', 'expected shares of one content key, found shares that cannot be combined');
    }
    const secret = await combine(plain);
    const key = Buffer.from(secret);
    secret.fill(0);
    return key;
  } finally {
    for (const share of plain) share.fill(0);
  }
}
