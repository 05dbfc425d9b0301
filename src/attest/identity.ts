import { equalBytes, hex, sha256 } from '../core/bytes.ts';
import { encodeCbor } from '../core/cbor.ts';
import { type Check, compare, fail, pass, skipped } from '../core/check.ts';
import { usageError } from '../core/errors.ts';
import type { Claims } from './types.ts';

/** Identifiers of the one suite that request keys have: X-Wing (0x647A), HKDF-SHA256, AES-256-GCM (RFC 9180 registries). */
const KEM = 0x647a;
const KDF_AEAD = Buffer.from([0, 1, 0, 2]);
const PUBLIC_LENGTH = 1216;
const CONFIG_LENGTH = 1 + 2 + PUBLIC_LENGTH + 2 + KDF_AEAD.length;

/** The keys that an enclave makes at start: Ed25519 for receipts, X-Wing for requests. */
export interface EnclaveIdentity {
  /** Raw Ed25519 public key, 32 bytes. */
  ed25519: Uint8Array;
  /** One key configuration of RFC 9458 section 3.1, without the length prefix that the media type puts before each. */
  keyConfig: Uint8Array;
}

/** The key configuration of a raw X-Wing public key (1216 bytes). `id` is the one-byte key identifier. */
export function encodeKeyConfig(publicRaw: Uint8Array, id = 0): Buffer {
  if (publicRaw.length !== PUBLIC_LENGTH) throw new TypeError(`an X-Wing public key has ${PUBLIC_LENGTH} bytes`);
  const head = Buffer.from([id, KEM >> 8, KEM & 0xff]);
  return Buffer.concat([head, publicRaw, Buffer.from([0, KDF_AEAD.length]), KDF_AEAD]);
}

/** Takes a key configuration apart. Throws `ERR_KEY_CONFIG` (exit 2) for any other suite or length. */
export function parseKeyConfig(bytes: Uint8Array): { id: number; publicRaw: Buffer } {
  const buffer = Buffer.from(bytes);
  if (
    buffer.length !== CONFIG_LENGTH ||
    buffer.readUInt16BE(1) !== KEM ||
    buffer.readUInt16BE(3 + PUBLIC_LENGTH) !== KDF_AEAD.length ||
    !buffer.subarray(5 + PUBLIC_LENGTH).equals(KDF_AEAD)
  ) {
    throw usageError(
      'ERR_KEY_CONFIG',
      `expected a key configuration (RFC 9458) of ${CONFIG_LENGTH} bytes for X-Wing, HKDF-SHA256, AES-256-GCM`,
    );
  }
  return { id: buffer.readUInt8(0), publicRaw: buffer.subarray(3, 3 + PUBLIC_LENGTH) };
}

/** user_data of Nitro-shaped identity evidence (key-release.md, "The enclave's identity"). */
export const identityUserData = (keyConfig: Uint8Array): Buffer =>
  sha256(encodeCbor(['atoma-tee/identity/v1', sha256(keyConfig)]));

/** report_data of identity evidence where there is one field of 64 bytes (SGX, TDX, SNP); same place of the design. */
export const identityReportData = (identity: EnclaveIdentity, nonce: Uint8Array | null): Buffer =>
  Buffer.concat([
    sha256(identity.ed25519),
    sha256(encodeCbor(['atoma-tee/identity/v1', nonce, sha256(identity.keyConfig)])),
  ]);

/**
 * What the enclave asks its attester for: public_key, user_data and the caller's nonce (16 to 64 bytes) or none; and
 * report_data, which stands for all three.
 */
export function identityRequest(identity: EnclaveIdentity, nonce?: Uint8Array) {
  if (nonce !== undefined && (nonce.length < 16 || nonce.length > 64)) {
    throw usageError('ERR_ATTEST_NONCE', `expected a nonce of 16 to 64 bytes, found ${nonce.length}`);
  }
  return {
    publicKey: identity.ed25519,
    userData: identityUserData(identity.keyConfig),
    reportData: identityReportData(identity, nonce ?? null),
    ...(nonce === undefined ? {} : { nonce }),
  };
}

const shown = (bytes: Uint8Array | undefined | null) => (bytes ? hex(bytes) : 'none');

/**
 * Checks that evidence binds both keys of an identity, and the nonce: `undefined` expects nothing of it (reported as not
 * checked), null expects boot evidence without one. `identity.nonce` is what an evidence file says the nonce is: where the
 * evidence has a digest of it only (SGX, TDX, SNP), it has to be the one in the digest.
 */
export function checkIdentity(
  identity: EnclaveIdentity & { nonce?: Uint8Array | null },
  claims: Claims,
  nonce?: Uint8Array | null,
): Check[] {
  if (claims.reportData !== undefined) return checkReportData(identity, claims.reportData, nonce);
  return [
    compare('identity.ed25519', shown(claims.publicKey), shown(identity.ed25519), 'public_key of the evidence'),
    claims.userData !== undefined && equalBytes(claims.userData, identityUserData(identity.keyConfig))
      ? pass('identity.key-config', 'user_data of the evidence')
      : fail('identity.key-config', {
          expected: hex(identityUserData(identity.keyConfig)),
          actual: shown(claims.userData),
        }),
    nonce === undefined
      ? skipped('identity.nonce', 'no nonce was given: the evidence may be old')
      : compare('identity.nonce', shown(nonce), shown(claims.nonce)),
  ];
}

function checkReportData(
  identity: EnclaveIdentity & { nonce?: Uint8Array | null },
  reportData: Uint8Array,
  nonce?: Uint8Array | null,
): Check[] {
  const said = identity.nonce ?? null;
  const expected = identityReportData(identity, said);
  const half = (bytes: Uint8Array, index: number) => hex(bytes.subarray(32 * index, 32 * index + 32));
  return [
    compare('identity.ed25519', half(expected, 0), half(reportData, 0), 'SHA-256 in the first half of report_data'),
    compare(
      'identity.key-config',
      half(expected, 1),
      half(reportData, 1),
      'second half of report_data, with the nonce',
    ),
    nonce === undefined
      ? skipped('identity.nonce', 'no nonce was given: the evidence may be old')
      : compare('identity.nonce', shown(nonce), shown(said)),
  ];
}
