import { createHmac, randomBytes } from 'node:crypto';
import { equalBytes } from '../core/bytes.ts';
import { encodeCbor } from '../core/cbor.ts';
import { negativeError } from '../core/errors.ts';
import type { SealHeader } from './header.ts';

// What derives from the content key CK: sealed-model.md, "Keys".

export const newContentKey = (): Buffer => randomBytes(32);

/**
 * X(label): HKDF-Expand-SHA-512 (RFC 5869 section 2.3) of CK with "atoma-tee/seal/v1/" || label || 00 || seal id, 32 bytes, which is
 * the first block of the expansion.
 */
function derive(ck: Uint8Array, label: string, sealId: Uint8Array): Buffer {
  return createHmac('sha512', ck)
    .update(`atoma-tee/seal/v1/${label}\0`)
    .update(sealId)
    .update('\x01')
    .digest()
    .subarray(0, 32);
}

/** CC: commits a header to one content key. */
export const keyCommitment = (ck: Uint8Array, sealId: Uint8Array): Buffer => derive(ck, 'commit', sealId);
export const indexKey = (ck: Uint8Array, sealId: Uint8Array): Buffer => derive(ck, 'index', sealId);

/** Throws `ERR_SEAL_KEY` (exit 3) unless `ck` is the content key that the header commits to. Constant time. */
export function checkContentKey(header: SealHeader, ck: Uint8Array): void {
  if (ck.length !== 32 || !equalBytes(keyCommitment(ck, header.sealId), header.commitment)) {
    throw negativeError('ERR_SEAL_KEY', 'the content key is not the one that the sealed header commits to');
  }
}

/** AAD of the index. */
export const indexAad = (sealId: Uint8Array): Uint8Array => encodeCbor(['atseal/1 index', sealId]);
/** AAD of a part; `length` is of the plaintext. */
export const partAad = (id: Uint8Array, length: number): Uint8Array => encodeCbor(['atseal/1 part', id, length]);
