import type { Claims } from '../attest/types.ts';
import { equalBytes } from '../core/bytes.ts';
import { hpkeSeal } from '../keys/hpke.ts';
import { type ParsedHeader, parseHeader, verifyHeaderSignature } from '../seal/header.ts';
import { refusal, refuseErrors } from './refusal.ts';

// Steps of a release that need nothing of the broker's own.

/** SGX, TDX, SNP: report_data is the binder. Nitro-shaped: user_data is it, nonce the nonce, public_key absent. */
export function checkBinder(claims: Claims, binder: Buffer, nonce: Uint8Array): void {
  if (claims.reportData !== undefined && equalBytes(claims.reportData, binder)) return;
  const found =
    claims.userData === undefined || !equalBytes(claims.userData, binder)
      ? 'evidence made for something else'
      : claims.nonce === undefined || !equalBytes(claims.nonce, nonce)
        ? 'evidence with another nonce'
        : claims.publicKey !== undefined
          ? 'evidence with a public key'
          : undefined;
  if (found === undefined) return;
  throw refusal('ERR_RELEASE_BINDER', 'binder', 'evidence made for this nonce, key, broker, header and share', found);
}

/** The header, signed by the owner in it; `digest` is the SHA-256 of all these bytes. */
export function readHeader(bytes: Uint8Array, digest: Uint8Array): Promise<ParsedHeader> {
  return refuseErrors('ERR_RELEASE_HEADER', 'header', 'a sealed header signed by its owner', () => {
    const parsed = parseHeader(bytes);
    // Padding is not covered by the header digest, so two byte strings would stand for one header.
    if (!equalBytes(parsed.digest, digest)) throw refusal('ERR_RELEASE_HEADER', 'header', 'no padding', 'padding');
    verifyHeaderSignature(parsed);
    return parsed;
  });
}

/** Encrypts a share to the key that the evidence vouches for, and overwrites it. */
export async function rewrap(pkE: Uint8Array, binder: Buffer, share: Buffer) {
  try {
    return await hpkeSeal(pkE, binder, share);
  } catch (cause) {
    throw refusal('ERR_RELEASE_REQUEST', 'pkE', 'an X-Wing public key', 'something else', cause);
  } finally {
    share.fill(0);
  }
}
