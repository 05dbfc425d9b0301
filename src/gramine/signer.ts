import { createPrivateKey, createPublicKey, type KeyObject, sign as signWith } from 'node:crypto';
import { negativeError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { parsePem } from '../keys/pem.ts';
import { askSigner } from './external-signer.ts';
import { MODULUS_SIZE, signerOf, verifyRsa } from './sigstruct.ts';

/** Signs enclaves. Made by `readSgxSigner`. */
export interface SgxSigner {
  /** 384 bytes, little-endian as SIGSTRUCT holds it. */
  modulus: Buffer;
  /** SHA-256 of the modulus, hex. */
  mrsigner: string;
  /** RSASSA-PKCS1-v1_5 with SHA-256 over the message: 384 bytes, big-endian, verified with the public key. */
  sign(message: Buffer): Promise<Buffer>;
}

export type SgxSignerSource =
  /** Paths: a PEM file (PKCS#1 or PKCS#8), and the file that holds its passphrase where it is encrypted. */
  | { key: string; passphrase?: string | undefined }
  /** A command for `sh -c`, and the path of its public key (PEM: SPKI or PKCS#1). `limitMs` is for tests. */
  | { signer: string; publicKey: string; limitMs?: number };

const MAX_KEY = 1 << 16;
const HINT = 'make one with: atoma-tee keygen --type sgx --out FILE';

/**
 * Reads the key of an enclave's signer: RSA-3072 with the exponent 3, nothing else (Intel SDM, volume 3D, "SIGSTRUCT").
 * Throws `ERR_KEY_MALFORMED`, `ERR_KEY_KIND`, `ERR_KEY_ENCRYPTED`, `ERR_KEY_PASSPHRASE`, `ERR_FILE_*` (exit 2). `sign` throws
 * `ERR_SIGNER` (exit 1) and `ERR_SIGNER_SIGNATURE` (exit 3).
 */
export async function readSgxSigner(from: SgxSignerSource): Promise<SgxSigner> {
  if ('key' in from) {
    const key = await readPrivateKey(from.key, from.passphrase);
    return signer(createPublicKey(key), async (message) => signWith('sha256', message, key));
  }
  const { signer: command, publicKey, limitMs } = from;
  return signer(await readPublicKey(publicKey), (message) => askSigner(command, message, limitMs));
}

function signer(key: KeyObject, sign: (message: Buffer) => Promise<Buffer>): SgxSigner {
  const modulus = modulusOf(key);
  return {
    modulus,
    mrsigner: signerOf(modulus),
    async sign(message) {
      const signature = await sign(message);
      if (signature.length === MODULUS_SIZE && verifyRsa(key, message, signature)) return signature;
      throw negativeError(
        'ERR_SIGNER_SIGNATURE',
        `expected a signature of ${MODULUS_SIZE} bytes by the public key (RSASSA-PKCS1-v1_5, SHA-256), found another ${signature.length} bytes`,
        {
          hint: 'the signer must sign what it reads, with SHA-256, and print the raw signature: openssl dgst -sha256 -sign KEY',
        },
      );
    },
  };
}

async function readPrivateKey(path: string, passphraseFile: string | undefined): Promise<KeyObject> {
  const pem = await readSmallFile(path, 'signing key', MAX_KEY);
  const passphrase = passphraseFile === undefined ? undefined : await readPassphrase(passphraseFile);
  const encrypted = /-----BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: 4,ENCRYPTED/m.test(pem.toString('latin1'));
  if (encrypted && passphrase === undefined) {
    throw usageError('ERR_KEY_ENCRYPTED', `the signing key ${path} is encrypted; expected a passphrase for it`, {
      hint: 'give --passphrase-file FILE',
    });
  }
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: pem, format: 'pem', ...(encrypted && passphrase ? { passphrase } : {}) });
  } catch {
    // OpenSSL's reason is not passed on: it speaks of the key's content.
    throw encrypted
      ? usageError('ERR_KEY_PASSPHRASE', `the signing key ${path} does not open with this passphrase`)
      : usageError('ERR_KEY_MALFORMED', `the signing key ${path} is not a private key in PEM`, { hint: HINT });
  } finally {
    passphrase?.fill(0);
    pem.fill(0);
  }
  requireKind(key, 'signing key');
  return key;
}

/** The file's first line: editors end it with a line feed, which is no part of a passphrase. */
async function readPassphrase(path: string): Promise<Buffer> {
  const bytes = await readSmallFile(path, 'passphrase', 1 << 12);
  const end = bytes.at(-1) === 0x0a ? (bytes.at(-2) === 0x0d ? -2 : -1) : bytes.length;
  const passphrase = bytes.subarray(0, end);
  if (passphrase.length > 0) return passphrase;
  throw usageError('ERR_KEY_PASSPHRASE', `expected a passphrase in ${path}, found nothing`);
}

async function readPublicKey(path: string): Promise<KeyObject> {
  const { label, der } = parsePem(await readSmallFile(path, 'public key', MAX_KEY), 'public key');
  const type = label === 'PUBLIC KEY' ? 'spki' : label === 'RSA PUBLIC KEY' ? 'pkcs1' : undefined;
  if (type === undefined) {
    throw usageError(
      'ERR_KEY_KIND',
      `the public key ${path} is of the wrong kind: expected one in PEM, found a ${label.toLowerCase()}`,
    );
  }
  let key: KeyObject;
  try {
    key = createPublicKey({ key: der, format: 'der', type });
  } catch {
    throw usageError('ERR_KEY_MALFORMED', `the public key ${path} is not a public key in PEM`, { hint: HINT });
  }
  requireKind(key, 'public key');
  return key;
}

function requireKind(key: KeyObject, what: string): void {
  const { modulusLength, publicExponent, namedCurve } = key.asymmetricKeyDetails ?? {};
  const type = key.asymmetricKeyType;
  if (type === 'rsa' && modulusLength === MODULUS_SIZE * 8 && publicExponent === 3n) return;
  const rsa = `RSA-${modulusLength} with exponent ${publicExponent}`;
  const found = type === 'rsa' ? rsa : (namedCurve ?? type ?? 'something else');
  throw usageError(
    'ERR_KEY_KIND',
    `the ${what} is of the wrong kind: expected RSA-3072 with exponent 3, found ${found}`,
    {
      hint: HINT,
    },
  );
}

function modulusOf(key: KeyObject): Buffer {
  const { n = '' } = key.export({ format: 'jwk' });
  return Buffer.from(n, 'base64url').reverse();
}
