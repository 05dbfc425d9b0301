import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseCertificate } from '../../../src/attest/certificate.ts';
import { crlProblem, parseCrl } from '../../../src/attest/crl.ts';
import { type Verified, verifyEvidence } from '../../../src/attest/index.ts';
import { verifyNitro } from '../../../src/attest/nitro.ts';
import { verifySnp } from '../../../src/attest/snp/verify.ts';
import { allPass } from '../../../src/core/check.ts';
import { parseSign1 } from '../../../src/core/cose.ts';
import { AtomaError } from '../../../src/core/errors.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { rawCrl } from './certificates.ts';
import { seeded } from './nitro-fixture.ts';
import { ark, endorse, keys, now } from './snp-fixture.ts';

// A bit takes milliseconds where signatures have to be checked: all of them take minutes (ATOMA_TEE_EVERY_BIT=1). By default
// it is every bit of what no signature covers or is, and a sample with a fixed seed of the others.
const EVERY = process.env.ATOMA_TEE_EVERY_BIT === '1';
const SAMPLE = 300;

/** How a verifier took bytes: 'accepted' is what must not be. Anything but our own error is a bug, and thrown. */
function outcome(verify: () => Verified): 'accepted' | 'failed' | 'refused' {
  try {
    return allPass(verify().checks) ? 'accepted' : 'failed';
  } catch (error) {
    if (error instanceof AtomaError) return 'refused';
    throw error;
  }
}

function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}

/** The bits to flip: all where `dense` says so of their byte, and a sample of the others. */
function bitsOf(bytes: Buffer, seed: string, dense: (offset: number) => boolean): number[] {
  const bits = Array.from({ length: bytes.length * 8 }, (_, bit) => bit);
  if (EVERY) return bits;
  const random = seeded(seed);
  const rest = bits.filter((bit) => !dense(bit >> 3));
  return [
    ...bits.filter((bit) => dense(bit >> 3)),
    ...Array.from({ length: SAMPLE }, () => rest[random(rest.length)] ?? 0),
  ];
}

describe.skipIf(!haveVectors)('no flipped bit of a genuine document goes through', () => {
  const slow = EVERY ? 1_800_000 : 60_000;

  test(
    'AWS Nitro',
    () => {
      const document = readFileSync(vectors('nitro-docs', '04-veracruz-2022.cbor'));
      const options = { allowSimulated: [], now: new Date('2027-01-01T00:00:00Z') };
      expect(outcome(() => verifyNitro(document, options))).toBe('accepted');
      const { payload } = parseSign1(document, { what: 'd', maxBytes: 1 << 14, tag: 'optional', form: 'any' });
      const start = document.indexOf(payload);
      const [from, to] = [start + payload.length, document.length - 96];
      const envelope = (offset: number) => offset < start || (offset >= from && offset < to);
      const bits = bitsOf(document, 'nitro', envelope);
      const accepted = bits.filter((bit) => outcome(() => verifyNitro(flipped(document, bit), options)) === 'accepted');
      expect(accepted).toEqual([]);
    },
    slow,
  );

  test(
    'AMD SEV-SNP',
    () => {
      const report = readFileSync(vectors('snp', 'google-milan-report.bin'));
      const vcek = readFileSync(vectors('snp', 'google-milan-vcek.der'));
      const options = { allowSimulated: [], now: new Date('2026-11-22T00:00:00Z'), endorsements: endorse([vcek]) };
      // Genuine, but for the debug bit: what it is refused for has to be something else too.
      const verify = (bytes: Buffer) => () => {
        const { checks, ...rest } = verifySnp(bytes, options);
        return { ...rest, checks: checks.filter(({ id }) => id !== 'evidence.debug') };
      };
      expect(outcome(verify(report))).toBe('accepted');
      const bits = bitsOf(report, 'snp', (offset) => offset >= 0x2a0 + 144);
      expect(bits.filter((bit) => outcome(verify(flipped(report, bit))) === 'accepted')).toEqual([]);
    },
    slow,
  );

  test(
    'the VCEK beside a report',
    () => {
      const report = readFileSync(vectors('snp', 'google-milan-report.bin'));
      const vcek = readFileSync(vectors('snp', 'google-milan-vcek.der'));
      const verify = (der: Buffer) => () => {
        const options = { allowSimulated: [], now: new Date('2026-11-22T00:00:00Z'), endorsements: endorse([der]) };
        const { checks, ...rest } = verifySnp(report, options);
        return { ...rest, checks: checks.filter(({ id }) => id !== 'evidence.debug') };
      };
      expect(outcome(verify(vcek))).toBe('accepted');
      const bits = bitsOf(vcek, 'vcek', () => false);
      expect(bits.filter((bit) => outcome(verify(flipped(vcek, bit))) === 'accepted')).toEqual([]);
    },
    slow,
  );
});

test('no flipped bit of a revocation list goes through', () => {
  const issuer = parseCertificate(ark, 'ARK');
  const list = rawCrl({ issuer: 'ARK', revoked: [Buffer.from([1, 0, 1])] }, keys.ark.privateKey);
  const problem = (der: Buffer): string => {
    try {
      return crlProblem(parseCrl(der, 'list'), issuer, now) ?? 'none';
    } catch (error) {
      if (error instanceof AtomaError) return error.code;
      throw error;
    }
  };
  expect(problem(list)).toBe('none');
  const bits = bitsOf(list, 'list', () => false);
  expect(bits.filter((bit) => problem(flipped(list, bit)) === 'none')).toEqual([]);
});

describe.skipIf(!haveVectors)('damaged at random (fixed seed): our errors or failed checks, nothing else', () => {
  const seeds = haveVectors
    ? [
        readFileSync(vectors('nitro-docs', '02-evervault-signed-pcr8-2022.cbor')),
        readFileSync(vectors('nitro-docs', '09-qemu-nitro-enclave-unsigned.cbor')),
        readFileSync(vectors('snp', 'google-milan-report.bin')),
      ]
    : [];
  const vcek = haveVectors ? readFileSync(vectors('snp', 'google-milan-vcek.der')) : Buffer.alloc(0);

  test('two thousand of each', async () => {
    const random = seeded('damage');
    const options = { allowSimulated: [], now: new Date('2026-11-22T00:00:00Z'), endorsements: endorse([vcek]) };
    for (const seed of seeds) {
      for (let round = 0; round < 2000; round++) {
        const bytes = damaged(seed, random);
        if (bytes.equals(seed)) continue;
        const result = await verifyEvidence(bytes, options).catch((error: unknown) => error);
        if (result instanceof AtomaError) continue;
        if (result instanceof Error) throw result;
        const { checks } = result as Verified;
        expect(allPass(checks.filter(({ id }) => id !== 'evidence.debug'))).toBe(false);
      }
    }
  });
});

/** Bytes changed, cut out, doubled, put in, or made very large. */
function damaged(seed: Buffer, random: (below: number) => number): Buffer {
  let bytes = Buffer.from(seed);
  for (let times = 1 + random(4); times > 0; times--) {
    const at = random(bytes.length);
    const length = 1 + random(16);
    switch (random(5)) {
      case 0:
        bytes[at] = random(256);
        break;
      case 1:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      case 3:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.from([[0xbf, 0x9f, 0xff, 0x5b][random(4)] ?? 0]),
          bytes.subarray(at),
        ]);
        break;
      default:
        bytes.fill(0xff, at, Math.min(at + length, bytes.length));
    }
  }
  return bytes;
}
