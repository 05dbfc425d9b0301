import 'reflect-metadata';
import type { KeyObject } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { KEY_USAGE } from './certificate.ts';

/**
 * The critical extension that every simulated leaf carries, under the enterprise number that RFC 5612 reserves for
 * examples: a simulated TEE is an example and nothing more. Nothing that does not know it may accept the leaf.
 */
export const SIMULATED_OID = '1.3.6.1.4.1.32473.20261122.1';

const NOTICE = Buffer.from('SIMULATED TEE: no hardware protects this enclave');
/** Its value, a UTF8String (tag 12) that a person who dumps the certificate reads. */
export const SIMULATED_VALUE = Buffer.concat([Buffer.from([12, NOTICE.length]), NOTICE]);

const P384 = { name: 'ECDSA', namedCurve: 'P-384' } as const;

export interface CertificateRequest {
  /** Common names; the organisation always says what this is. */
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  notBefore: Date;
  notAfter: Date;
  ca: boolean;
  simulated: boolean;
}

/**
 * Makes an ECDSA-with-SHA384 X.509 certificate (RFC 5280) for the simulated TEE, with a random serial number. `issuerKey`
 * is P-384, private. Returns DER.
 */
export async function makeCertificate(request: CertificateRequest, issuerKey: KeyObject): Promise<Buffer> {
  const usage = request.ca ? KEY_USAGE.keyCertSign : KEY_USAGE.digitalSignature;
  const certificate = await x509.X509CertificateGenerator.create({
    subject: name(request.subject),
    issuer: name(request.issuer),
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    publicKey: Buffer.from(request.publicKey.export({ type: 'spki', format: 'der' })),
    signingKey: issuerKey.toCryptoKey(P384, false, ['sign']),
    signingAlgorithm: { ...P384, hash: 'SHA-384' },
    extensions: [
      new x509.BasicConstraintsExtension(request.ca, undefined, true),
      new x509.KeyUsagesExtension(usage, true),
      ...(request.simulated ? [new x509.Extension(SIMULATED_OID, true, SIMULATED_VALUE)] : []),
    ],
  });
  return Buffer.from(certificate.rawData);
}

const name = (commonName: string) =>
  new x509.Name([{ O: [{ utf8String: 'SIMULATED, atoma-tee' }] }, { CN: [{ utf8String: commonName }] }]);
