import * as HPKE from 'hpke';
import { XWING } from './xwing.ts';

// Node announces its post-quantum WebCrypto as experimental, once for each of seven operations, on stderr. That is known here and
// says nothing to a user; every other warning passes.
const emitWarning = process.emitWarning;
process.emitWarning = ((...args: Parameters<typeof emitWarning>) => {
  const [warning, options] = args as unknown[];
  const type = options !== null && typeof options === 'object' ? (options as { type?: unknown }).type : options;
  if (type === 'ExperimentalWarning' && String(warning).includes('Web Crypto API')) return;
  Reflect.apply(emitWarning, process, args);
}) as typeof emitWarning;

const suite = new HPKE.CipherSuite(HPKE.KEM_MLKEM768_X25519, HPKE.KDF_HKDF_SHA256, HPKE.AEAD_AES_256_GCM);

/** An HPKE message: the encapsulated key (1120 bytes) and the ciphertext (plaintext + 16). */
export interface HpkeMessage {
  enc: Uint8Array;
  ciphertext: Uint8Array;
}

/**
 * Encrypts to a raw X-Wing public key (1216 bytes): HPKE (RFC 9180) base mode, KEM 0x647A (draft-ietf-hpke-pq), HKDF-SHA256,
 * AES-256-GCM, empty aad. Rejects if the key is not one.
 */
export async function hpkeSeal(publicRaw: Uint8Array, info: Uint8Array, plaintext: Uint8Array): Promise<HpkeMessage> {
  const key = await suite.DeserializePublicKey(publicRaw);
  const { encapsulatedSecret, ciphertext } = await suite.Seal(key, plaintext, { info });
  return { enc: encapsulatedSecret, ciphertext };
}

/** Decrypts with an X-Wing seed (32 bytes). Null if it does not open: wrong key, wrong info, or tampered. */
export async function hpkeOpen(seed: Uint8Array, message: HpkeMessage, info: Uint8Array): Promise<Buffer | null> {
  if (message.enc.length !== XWING.encBytes || message.ciphertext.length < 16) return null;
  // Extractable only because the KEM derives its two halves from the seed.
  const key = await suite.DeserializePrivateKey(seed, true);
  try {
    const plaintext = await suite.Open(key, message.enc, message.ciphertext, { info });
    return Buffer.from(plaintext);
  } catch (error) {
    if (error instanceof HPKE.OpenError || error instanceof HPKE.DecapError) return null;
    throw error;
  }
}
