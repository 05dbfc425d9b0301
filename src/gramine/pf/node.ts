import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto';

/** Every key encrypts once, so the IV is all zeros. */
const IV = Buffer.alloc(12);

// A key object, because Node 24 takes 20 microseconds to find out that bytes are none: longer than it encrypts a node.

/** AES-128-GCM without AAD, into `out`; returns the tag. A key is never used twice with an IV. */
export function encryptNode(out: Buffer, key: Uint8Array, plain: Uint8Array, iv: Uint8Array = IV): Buffer {
  const cipher = createCipheriv('aes-128-gcm', createSecretKey(key), iv);
  const bytes = cipher.update(plain);
  cipher.final();
  bytes.copy(out);
  free(bytes);
  return cipher.getAuthTag();
}

/** The plaintext, or null if it does not authenticate (the tags are compared in constant time by OpenSSL). */
export function decryptNode(key: Uint8Array, tag: Uint8Array, bytes: Uint8Array, iv: Uint8Array = IV): Buffer | null {
  const decipher = createDecipheriv('aes-128-gcm', createSecretKey(key), iv, { authTagLength: 16 }).setAuthTag(tag);
  const plain = decipher.update(bytes);
  try {
    decipher.final();
  } catch {
    plain.fill(0);
    return null;
  }
  return plain;
}

/** At once: node:crypto makes a new buffer each time, and the garbage collector takes its time. */
function free(bytes: Buffer): void {
  if (bytes.byteLength === bytes.buffer.byteLength) (bytes.buffer as ArrayBuffer).transfer(0);
}
