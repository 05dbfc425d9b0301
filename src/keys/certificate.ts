import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { parsePem } from './pem.ts';

/**
 * A self-signed P-384 certificate for signing EIFs, PEM. AWS's loader wants nothing of it but the key; PCR8 is a digest of its DER,
 * so it is valid for ten years and has a random serial number. `now` is the start of its validity.
 */
export async function selfSignedCertificate(privatePem: string, publicPem: string, now: Date): Promise<string> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-384' } as const;
  const subtle = webcrypto.subtle;
  const { der: privateDer } = parsePem(privatePem, 'private key');
  const { der: publicDer } = parsePem(publicPem, 'public key');
  const privateKey = await subtle.importKey('pkcs8', privateDer, algorithm, false, ['sign']);
  const publicKey = await subtle.importKey('spki', publicDer, algorithm, true, ['verify']);
  const end = new Date(now);
  end.setUTCFullYear(end.getUTCFullYear() + 10);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=atoma-tee image signing key',
      keys: { privateKey, publicKey },
      signingAlgorithm: { ...algorithm, hash: 'SHA-384' },
      notBefore: now,
      notAfter: end,
      extensions: [new x509.BasicConstraintsExtension(false, undefined, true)],
    },
    webcrypto as Parameters<typeof x509.X509CertificateGenerator.createSelfSigned>[1],
  );
  return `${certificate.toString('pem')}\n`;
}
