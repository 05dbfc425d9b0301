import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { sha256 } from '../core/bytes.ts';
import { isStrictPoint } from '../core/ed25519.ts';
import { usageError } from '../core/errors.ts';
import { type PemBlock, parsePem } from './pem.ts';
import { decodeXWingPrivate, decodeXWingPublic, xwingPublicFromSeed } from './xwing.ts';

/** Key id: the first 16 bytes of SHA-256 of the raw public key (sealed-model.md, "Conventions"). */
export const keyId = (raw: Uint8Array): Buffer => Buffer.from(sha256(raw).subarray(0, 16));

/**
 * The owner's Ed25519 public key from SPKI PEM. Throws `ERR_KEY_MALFORMED`, or `ERR_KEY_KIND` that says which kind was found (exit
 * 2). A point of small order is no owner: `ERR_KEY_WEAK`.
 */
export function readOwnerPublicKey(pem: Uint8Array, what = 'owner public key'): { raw: Buffer; key: KeyObject } {
  const block = parsePem(pem, what);
  const found = identify(block);
  if (found.kind !== 'Ed25519 public key') throw wrongKind(what, 'an Ed25519 public key', found.kind);
  const raw = rawEd25519(found.key);
  if (!isStrictPoint(raw))
    throw usageError('ERR_KEY_WEAK', `the ${what} is a point of small order, under which anything verifies`);
  return { raw, key: found.key };
}

/** The owner's Ed25519 private key from PKCS#8 PEM. Errors as readOwnerPublicKey. */
export function readOwnerPrivateKey(pem: Uint8Array, what = 'owner key'): { key: KeyObject; publicRaw: Buffer } {
  const found = identify(parsePem(pem, what));
  if (found.kind !== 'Ed25519 private key') throw wrongKind(what, 'an Ed25519 private key', found.kind);
  return { key: found.key, publicRaw: ownerPublicRaw(found.key) };
}

/** A broker's or recovery X-Wing public key from SPKI PEM; `raw` has 1216 bytes. Errors as readOwnerPublicKey. */
export function readXWingPublicKey(pem: Uint8Array, what = 'recipient public key'): { raw: Buffer } {
  const block = parsePem(pem, what);
  const raw = block.label === 'PUBLIC KEY' ? decodeXWingPublic(block.der) : null;
  if (!raw) throw wrongKind(what, 'an X-Wing public key', identify(block).kind);
  return { raw };
}

/** A broker's or recovery X-Wing private key from PKCS#8 PEM; `seed` has 32 bytes. Errors as readOwnerPublicKey. */
export function readXWingPrivateKey(pem: Uint8Array, what = 'private key'): { seed: Buffer; publicRaw: Buffer } {
  const block = parsePem(pem, what);
  const seed = block.label === 'PRIVATE KEY' ? decodeXWingPrivate(block.der) : null;
  if (!seed) throw wrongKind(what, 'an X-Wing private key', identify(block).kind);
  return { seed, publicRaw: xwingPublicFromSeed(seed) };
}

const NAMES: Record<string, string> = { ed25519: 'Ed25519', ec: 'EC', rsa: 'RSA', x25519: 'X25519' };
type Found = { kind: string; key: KeyObject };

/** What a PEM block is, in words: "Ed25519 public key". */
export function identify(
  block: PemBlock,
): Found | { kind: 'X-Wing public key' | 'X-Wing private key' | 'unknown'; key?: never } {
  const { label, der } = block;
  if (label === 'PUBLIC KEY' && decodeXWingPublic(der)) return { kind: 'X-Wing public key' };
  if (label === 'PRIVATE KEY' && decodeXWingPrivate(der)) return { kind: 'X-Wing private key' };
  try {
    if (label === 'PUBLIC KEY') return named(createPublicKey({ key: der, format: 'der', type: 'spki' }));
    if (label === 'PRIVATE KEY') return named(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }));
  } catch {
    return { kind: 'unknown' };
  }
  return { kind: 'unknown' };
}

function named(key: KeyObject): Found {
  const type = key.asymmetricKeyType ?? 'unknown';
  return { kind: `${NAMES[type] ?? type} ${key.type} key`, key };
}

/** The raw public key (32 bytes) of an Ed25519 private key. */
export const ownerPublicRaw = (key: KeyObject): Buffer => rawEd25519(createPublicKey(key));

const rawEd25519 = (key: KeyObject): Buffer => Buffer.from(key.export({ format: 'der', type: 'spki' }).subarray(-32));

/** `ERR_KEY_KIND`: says which kind was found. */
export function wrongKind(what: string, expected: string, found: string): Error {
  const article = /^[AEIOX]/.test(found) ? 'an' : 'a';
  const kind = found === 'unknown' ? 'something else' : `${article} ${found}`;
  return usageError('ERR_KEY_KIND', `the ${what} is of the wrong kind: expected ${expected}, found ${kind}`, {
    hint:
      found.endsWith('private key') && expected.endsWith('public key') ? 'give the file that ends in .pub' : undefined,
  });
}
