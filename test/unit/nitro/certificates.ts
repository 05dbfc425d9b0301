import 'reflect-metadata';
import { generateKeyPairSync, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { type EifSigner, readSigner } from '../../../src/nitro/index.ts';

export const CURVES = ['P-256', 'P-384', 'P-521'] as const;
export type Curve = (typeof CURVES)[number];
const HASH = { 'P-256': 'SHA-256', 'P-384': 'SHA-384', 'P-521': 'SHA-512' } as const;

/** A self-signed certificate and its key, both PEM. */
export interface Identity {
  certificate: Buffer;
  key: Buffer;
}

export interface IdentityOptions {
  curve?: Curve;
  name?: string;
  notBefore?: string;
  notAfter?: string;
}

export async function identity(options: IdentityOptions = {}): Promise<Identity> {
  const { curve = 'P-384', name = 'CN=test signer', notBefore = '2020-01-01', notAfter = '2099-01-01' } = options;
  const pair = generateKeyPairSync('ec', { namedCurve: curve });
  const algorithm = { name: 'ECDSA', namedCurve: curve } as const;
  const { subtle } = webcrypto;
  const privateDer = pair.privateKey.export({ format: 'der', type: 'pkcs8' });
  const publicDer = pair.publicKey.export({ format: 'der', type: 'spki' });
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      name,
      keys: {
        privateKey: await subtle.importKey('pkcs8', privateDer, algorithm, false, ['sign']),
        publicKey: await subtle.importKey('spki', publicDer, algorithm, true, ['verify']),
      },
      signingAlgorithm: { ...algorithm, hash: HASH[curve] },
      notBefore: new Date(notBefore),
      notAfter: new Date(notAfter),
    },
    webcrypto as Parameters<typeof x509.X509CertificateGenerator.createSelfSigned>[1],
  );
  return {
    certificate: Buffer.from(`${certificate.toString('pem')}\n`),
    key: Buffer.from(pair.privateKey.export({ format: 'pem', type: 'pkcs8' })),
  };
}

export async function signer(options: IdentityOptions = {}): Promise<EifSigner> {
  const { certificate, key } = await identity(options);
  return readSigner(certificate, key);
}

/** PEM of any bytes under a label. */
export const pem = (der: Uint8Array, label = 'CERTIFICATE'): Buffer =>
  Buffer.from(
    `-----BEGIN ${label}-----\n${(
      Buffer.from(der)
        .toString('base64')
        .match(/.{1,64}/g) ?? []
    ).join('\n')}\n-----END ${label}-----\n`,
  );
