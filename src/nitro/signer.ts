import { createPrivateKey, type KeyObject, type X509Certificate } from 'node:crypto';
import { signSign1 } from '../core/cose.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { firstCertificate, NotACertificate, validityProblem } from './pem-certificate.ts';
import { ALGORITHMS, certificateRegister, encodeSignatureSection, pcr0Payload } from './signature.ts';

/** Signs images: a certificate and its private key, which belong together. Made by `readSigner` or `readSignerFiles`. */
export interface EifSigner {
  certificate: X509Certificate;
  /** PCR8 of what it signs, hex. */
  pcr8: string;
  /** The signature section for an image with this PCR0 (hex). ECDSA is randomised: no two calls give the same bytes. */
  section(pcr0: string): Buffer;
}

/** A certificate's bytes become two each in CBOR, and the section is bounded: see layout.ts. */
const MAX_CERTIFICATE = 1 << 16;
const MAX_KEY = 1 << 16;
const HINT = 'make both with: atoma-tee keygen --type eif --out FILE';

export interface SignerFiles {
  /** Path of the certificate, PEM. The file goes into the image verbatim; PCR8 measures its first certificate. */
  certificate: string;
  /** Path of the private key: PKCS#8 or SEC 1, PEM, not encrypted. */
  key: string;
  /** When the certificate has to be valid; default now. */
  now?: Date | undefined;
}

/** Reads both files. Throws what `readSigner` throws and `ERR_FILE_*` (exit 2). */
export async function readSignerFiles({ certificate, key, now }: SignerFiles): Promise<EifSigner> {
  const pem = await readSmallFile(certificate, 'signing certificate', MAX_CERTIFICATE);
  return readSigner(pem, await readSmallFile(key, 'signing key', MAX_KEY), now);
}

/**
 * A signer with P-256 (ES256), P-384 (ES384) or P-521 (ES512). Throws `ERR_CERTIFICATE_MALFORMED`,
 * `ERR_CERTIFICATE_PRIVATE` (a private key is in the certificate's file, and would be published), `ERR_KEY_MALFORMED`,
 * `ERR_KEY_ENCRYPTED`, `ERR_KEY_KIND` (exit 2), `ERR_KEY_MISMATCH`, `ERR_CERTIFICATE_VALIDITY` (exit 3: nitro-cli does not
 * start images whose certificate is not valid at the time).
 */
export function readSigner(certificatePem: Uint8Array, keyPem: Uint8Array, now: Date = new Date()): EifSigner {
  const certificate = readCertificate(certificatePem);
  const key = readKey(keyPem);
  const alg = ALGORITHMS[key.asymmetricKeyDetails?.namedCurve ?? ''];
  if (alg === undefined) {
    throw usageError(
      'ERR_KEY_KIND',
      `the signing key is of the wrong kind: expected P-256, P-384 or P-521, found ${kind(key)}`,
      {
        hint: HINT,
      },
    );
  }
  if (!isPair(certificate, key)) {
    throw negativeError('ERR_KEY_MISMATCH', 'the signing key is not the one of the certificate', {
      hint: 'give the certificate that was made for this key',
    });
  }
  const problem = validityProblem(certificate, now);
  if (problem) {
    throw negativeError('ERR_CERTIFICATE_VALIDITY', `the signing certificate ${problem}; it is ${now.toISOString()}`, {
      hint: 'make a new one (another PCR8), or give --at TIME to sign as of another time',
    });
  }
  return {
    certificate,
    pcr8: certificateRegister(certificate),
    section: (pcr0) =>
      encodeSignatureSection(certificatePem, signSign1(new Map([[1, alg]]), pcr0Payload(pcr0), key, false)),
  };
}

function readCertificate(pem: Uint8Array): X509Certificate {
  const text = Buffer.from(pem).toString('latin1');
  // The whole file becomes part of the image.
  if (/-----BEGIN [A-Z0-9 ]*PRIVATE KEY/.test(text)) {
    throw usageError(
      'ERR_CERTIFICATE_PRIVATE',
      'the signing certificate file holds a private key too, which would be published with the image',
      { hint: 'give a file with the certificate alone, and the key with --sign-key' },
    );
  }
  try {
    return firstCertificate(pem);
  } catch (error) {
    if (!(error instanceof NotACertificate)) throw error;
    throw usageError('ERR_CERTIFICATE_MALFORMED', `signing certificate: expected one in PEM, but: ${error.message}`, {
      hint: HINT,
    });
  }
}

function readKey(pem: Uint8Array): KeyObject {
  const text = Buffer.from(pem).toString('latin1');
  if (/-----BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: 4,ENCRYPTED/m.test(text)) {
    throw usageError('ERR_KEY_ENCRYPTED', 'the signing key is encrypted; expected one without a passphrase', {
      hint: 'decrypt it into memory: openssl pkey -in KEY -out /dev/shm/key.pem',
    });
  }
  try {
    return createPrivateKey({ key: Buffer.from(pem), format: 'pem' });
  } catch {
    // OpenSSL's reason is not passed on: it speaks of the key's content.
    throw usageError('ERR_KEY_MALFORMED', 'the signing key is not a private key in PEM', { hint: HINT });
  }
}

function kind(key: KeyObject): string {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  return namedCurve ?? `${key.asymmetricKeyType ?? 'something else'}${modulusLength ? ` ${modulusLength}` : ''}`;
}

function isPair(certificate: X509Certificate, key: KeyObject): boolean {
  try {
    return certificate.checkPrivateKey(key);
  } catch {
    return false;
  }
}
