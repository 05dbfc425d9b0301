import { X509Certificate } from 'node:crypto';
import { fromBase64 } from '../core/bytes.ts';
import { certificateFields } from './der.ts';

/** Why a PEM text is not taken as a certificate; whoever calls gives it a code. */
export class NotACertificate extends Error {}

const BLOCK = /^-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----/;

/**
 * The first certificate of a PEM text, which PCR8 measures. Readers differ over what is first where other blocks or a
 * damaged one come before it, so there must be none: OpenSSL's reader and this one have to find the same bytes. Text
 * before the block and certificates after it are let through. Throws `NotACertificate`.
 */
export function firstCertificate(pem: Uint8Array): X509Certificate {
  const text = Buffer.from(pem).toString('latin1');
  const start = text.indexOf('-----BEGIN ');
  if (start === -1) throw new NotACertificate('no PEM block');
  if (start > 0 && text[start - 1] !== '\n') throw new NotACertificate('the PEM block does not start a line');
  const der = fromBase64((BLOCK.exec(text.slice(start))?.[1] ?? '').replace(/\s/g, ''));
  if (!der || der.length === 0) throw new NotACertificate('the first PEM block is no certificate');
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch {
    throw new NotACertificate('the first PEM block is no X.509 certificate');
  }
  if (!certificate.raw.equals(der)) throw new NotACertificate('two readers find different certificates in it');
  validity(certificate);
  return certificate;
}

/**
 * The two ends of a certificate's validity, both included (RFC 5280 section 4.1.2.5). Read here: of a time that is
 * malformed, Node makes one from memory that nobody set. Throws `NotACertificate`.
 */
export function validity(certificate: X509Certificate): { notBefore: Date; notAfter: Date } {
  const { notBefore, notAfter } = certificateFields(certificate.raw) ?? {};
  if (!notBefore || !notAfter) throw new NotACertificate('its times of validity cannot be read');
  return { notBefore, notAfter };
}

/** In words what is wrong with a certificate's validity at a time, or null. */
export function validityProblem(certificate: X509Certificate, now: Date): string | null {
  const { notBefore, notAfter } = validity(certificate);
  // The last second counts wholly: certificates know no fractions.
  if (now.getTime() >= notAfter.getTime() + 1000) return `expired on ${notAfter.toISOString()}`;
  return now < notBefore ? `is not valid before ${notBefore.toISOString()}` : null;
}
