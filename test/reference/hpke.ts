import { gcm } from '@noble/ciphers/aes.js';
import { x25519 } from '@noble/curves/ed25519.js';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { sha3_256, shake256 } from '@noble/hashes/sha3.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { concat, utf8 } from './cbor.ts';
import type { Trace } from './refused.ts';

// docs/sealed-model-format.md, "Recipients": X-Wing and HPKE's key schedule, written out.

const LABEL = new Uint8Array([0x5c, 0x2e, 0x2f, 0x2f, 0x5e, 0x5c]);
const SUITE = concat(utf8('HPKE'), new Uint8Array([0x64, 0x7a, 0, 1, 0, 2]));

function expandSeed(seed: Uint8Array) {
  const expanded = shake256(seed, { dkLen: 96 });
  const mlkem = ml_kem768.keygen(expanded.slice(0, 64));
  const x = expanded.slice(64);
  return { mlkem, x, xPublic: x25519.getPublicKey(x) };
}

/** The raw public key (1216 bytes) of a seed (32). */
export function xwingPublic(seed: Uint8Array): Uint8Array {
  const { mlkem, xPublic } = expandSeed(seed);
  return concat(mlkem.publicKey, xPublic);
}

const combine = (ssM: Uint8Array, ssX: Uint8Array, ctX: Uint8Array, pkX: Uint8Array): Uint8Array =>
  sha3_256(concat(ssM, ssX, ctX, pkX, LABEL));

function keySchedule(shared: Uint8Array, info: Uint8Array, trace?: Trace) {
  const labeledExtract = (salt: Uint8Array, label: string, ikm: Uint8Array) =>
    extract(sha256, concat(utf8('HPKE-v1'), SUITE, utf8(label), ikm), salt);
  const labeledExpand = (prk: Uint8Array, label: string, context: Uint8Array, length: number) =>
    expand(sha256, prk, concat(new Uint8Array([0, length]), utf8('HPKE-v1'), SUITE, utf8(label), context), length);
  const none = new Uint8Array();
  const context = concat(
    new Uint8Array([0]),
    labeledExtract(none, 'psk_id_hash', none),
    labeledExtract(none, 'info_hash', info),
  );
  const secret = labeledExtract(shared, 'secret', none);
  const key = labeledExpand(secret, 'key', context, 32);
  const nonce = labeledExpand(secret, 'base_nonce', context, 12);
  trace?.('HPKE context', context);
  trace?.('HPKE secret', secret);
  trace?.('HPKE key', key);
  trace?.('HPKE nonce', nonce);
  return gcm(key, nonce);
}

/** `random` gives m of ML-KEM (32 bytes) and the ephemeral X25519 private key (32). */
export function hpkeSeal(
  publicRaw: Uint8Array,
  info: Uint8Array,
  plaintext: Uint8Array,
  random: (what: string, length: number) => Uint8Array,
  trace?: Trace,
): { enc: Uint8Array; ciphertext: Uint8Array } {
  const pkX = publicRaw.slice(1184);
  const m = ml_kem768.encapsulate(publicRaw.slice(0, 1184), random('ML-KEM m', 32));
  const ephemeral = random('ephemeral X25519 private key', 32);
  const ctX = x25519.getPublicKey(ephemeral);
  const ssX = x25519.getSharedSecret(ephemeral, pkX);
  const shared = combine(m.sharedSecret, ssX, ctX, pkX);
  trace?.('ss_M', m.sharedSecret);
  trace?.('ss_X', ssX);
  trace?.('shared secret', shared);
  return { enc: concat(m.cipherText, ctX), ciphertext: keySchedule(shared, info, trace).encrypt(plaintext) };
}

/** Null where it does not open. */
export function hpkeOpen(
  seed: Uint8Array,
  enc: Uint8Array,
  ciphertext: Uint8Array,
  info: Uint8Array,
): Uint8Array | null {
  const { mlkem, x, xPublic } = expandSeed(seed);
  const ctX = enc.slice(1088);
  try {
    const ssM = ml_kem768.decapsulate(enc.slice(0, 1088), mlkem.secretKey);
    return keySchedule(combine(ssM, x25519.getSharedSecret(x, ctX), ctX, xPublic), info).decrypt(ciphertext);
  } catch {
    return null;
  }
}
