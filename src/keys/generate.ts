import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { hex } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { keyId } from './keys.ts';
import { encodePem, parsePem } from './pem.ts';
import { encodeXWingPrivate, encodeXWingPublic, newXWingSeed, xwingPublicFromSeed } from './xwing.ts';

/** What a key is for decides what it is. */
export type KeyType = 'owner' | 'broker' | 'recovery' | 'build' | 'sgx' | 'eif';
export const KEY_TYPES: readonly KeyType[] = ['owner', 'broker', 'recovery', 'build', 'sgx', 'eif'];

/** PKCS#8 and SPKI, PEM. */
export interface GeneratedKey {
  privatePem: string;
  publicPem: string;
}

/** A fresh key: owner Ed25519; broker and recovery X-Wing; build P-256; sgx RSA-3072 with exponent 3 (SIGSTRUCT); eif P-384. */
export function generateKey(type: KeyType): GeneratedKey {
  switch (type) {
    case 'owner':
      return pems(generateKeyPairSync('ed25519'));
    case 'broker':
    case 'recovery': {
      const seed = newXWingSeed();
      return {
        privatePem: encodePem('PRIVATE KEY', encodeXWingPrivate(seed)),
        publicPem: encodePem('PUBLIC KEY', encodeXWingPublic(xwingPublicFromSeed(seed))),
      };
    }
    case 'build':
      return pems(generateKeyPairSync('ec', { namedCurve: 'P-256' }));
    case 'sgx':
      return pems(generateKeyPairSync('rsa', { modulusLength: 3072, publicExponent: 3 }));
    case 'eif':
      return pems(generateKeyPairSync('ec', { namedCurve: 'P-384' }));
  }
}

const pems = ({ privateKey, publicKey }: { privateKey: KeyObject; publicKey: KeyObject }): GeneratedKey => ({
  privatePem: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
  publicPem: publicKey.export({ format: 'pem', type: 'spki' }) as string,
});

/** Paths written, and the key id: of the raw public key where there is one (Ed25519, X-Wing), else of the SPKI. Hex. */
export interface KeyFiles {
  private: string;
  public: string;
  certificate?: string;
  id: string;
}

/**
 * Makes a key and writes OUT (0600), OUT.pub and, for `eif`, the self-signed OUT.crt that nitro-cli wants. Never overwrites:
 * `ERR_KEY_EXISTS` (exit 2); on any failure none of the files is left.
 */
export async function writeKeyFiles(type: KeyType, out: string): Promise<KeyFiles> {
  const { privatePem, publicPem } = generateKey(type);
  const files: [path: string, text: string, mode: number][] = [
    [out, privatePem, 0o600],
    [`${out}.pub`, publicPem, 0o644],
  ];
  if (type === 'eif') {
    const { selfSignedCertificate } = await import('./certificate.ts');
    files.push([`${out}.crt`, await selfSignedCertificate(privatePem, publicPem, new Date()), 0o644]);
  }
  const written: string[] = [];
  try {
    for (const [path, text, mode] of files) {
      const handle = await open(path, 'wx', mode);
      written.push(path);
      try {
        await handle.writeFile(text);
        await handle.sync();
      } finally {
        await handle.close();
      }
    }
  } catch (error) {
    await Promise.all(written.map((path) => rm(path, { force: true })));
    const exists = (error as NodeJS.ErrnoException).code === 'EEXIST';
    throw exists ? existsError(files[written.length]?.[0] ?? out) : ioError(error, `cannot write the key ${out}`);
  }
  return {
    private: out,
    public: `${out}.pub`,
    ...(type === 'eif' ? { certificate: `${out}.crt` } : {}),
    id: hex(publicKeyId(publicPem)),
  };
}

function publicKeyId(publicPem: string): Buffer {
  const { der } = parsePem(publicPem, 'public key');
  if (der.length === 44) return keyId(der.subarray(12)); // Ed25519
  if (der.length === 1240) return keyId(der.subarray(24)); // X-Wing
  return keyId(der);
}

const existsError = (path: string) =>
  usageError('ERR_KEY_EXISTS', `${path} exists and a key is never overwritten`, {
    hint: 'give another --out, or move the old key away',
  });
