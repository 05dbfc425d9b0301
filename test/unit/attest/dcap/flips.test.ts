import { X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { readPemChain } from '../../../../src/attest/dcap/pem.ts';
import { acceptedFlips, flipped, outcome } from './mutations.ts';
import { haveVectors, SGX, TDX } from './vectors.ts';

// What takes milliseconds to verify is verified at every byte with one bit, another one at each. All bits of both quotes
// take some minutes: ATOMA_TEE_EVERY_BIT=1.
const EVERY = process.env.ATOMA_TEE_EVERY_BIT === '1';
const SLOW = EVERY ? 1_800_000 : 60_000;
const ALL = [0, 1, 2, 3, 4, 5, 6, 7];

describe.skipIf(!haveVectors).each([
  ['SGX', SGX],
  ['TDX', TDX],
])('a genuine %s quote with a bit changed (reference vectors needed)', (_name, given) => {
  const { quote } = given;
  const pem = quote.indexOf('-----BEGIN');
  const ders = readPemChain(quote.toString('latin1', pem)) ?? [];
  const chain = ders.map((der) => new X509Certificate(der));

  test('unchanged it is accepted', () => expect(outcome(given)).toBe('accepted'));

  test('before its certificates: refused at every byte', { timeout: SLOW }, () => {
    expect(acceptedFlips(given, 0, pem, (offset) => (EVERY ? ALL : [offset % 8]))).toEqual([]);
  });

  test('in its certificates: refused at every 16th byte', { timeout: SLOW }, () => {
    expect(
      acceptedFlips(given, pem, quote.length, (offset) => (EVERY ? ALL : offset % 16 === 0 ? [(offset / 16) % 8] : [])),
    ).toEqual([]);
  });

  test('in its certificates: no bit leaves the chain as it was, and no bit gives another that holds', () => {
    const accepted: string[] = [];
    for (let offset = pem; offset < quote.length; offset++) {
      for (let bit = 0; bit < 8; bit++) {
        const bent = flipped(quote, offset, bit);
        const found = readPemChain(bent.toString('latin1', pem));
        if (found?.length !== 3 || found.some(changed)) continue;
        // OpenSSL forgives some BER; whether we do takes the whole verification.
        if (outcome({ ...given, quote: bent }) === 'accepted') accepted.push(`${offset}.${bit}`);
      }
    }
    expect(accepted).toEqual([]);
  });

  /** The chain check refuses a certificate that its issuer did not sign, and a root of another fingerprint. */
  function changed(der: Buffer, index: number): boolean {
    if (ders[index]?.equals(der)) return false;
    if (index === 2) return true;
    const issuer = chain[index + 1] as X509Certificate;
    try {
      return !new X509Certificate(der).verify(issuer.publicKey);
    } catch {
      return true;
    }
  }
});
