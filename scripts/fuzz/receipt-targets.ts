import { generateKeyPairSync } from 'node:crypto';
import { encodeReceipt, type ReceiptClaims, verifyReceipt } from '../../src/attest/index.ts';
import { decodeReceiptClaims, encodeReceiptClaims } from '../../src/attest/receipt-claims.ts';
import { must, type Seed, type Target } from './target.ts';

const bytes = (length: number, value: number) => Buffer.alloc(length, value);

const claims = (measurements: ReceiptClaims['measurements']): ReceiptClaims => ({
  iss: 'digits',
  iat: 1_790_000_000,
  cti: bytes(16, 1),
  nonce: bytes(32, 2),
  modelId: 'digits',
  modelVersion: '1.0.0',
  modelHash: bytes(32, 3),
  requestHash: bytes(32, 4),
  responseHash: bytes(32, 5),
  attestationDocHash: bytes(32, 6),
  measurements,
  policyVersion: '1',
  sequenceNumber: 1,
  executionTimeMs: 3,
  memoryPeakMb: 100,
  securityMode: 'production',
  modelHashScheme: 'sha256-manifest',
});
const RECEIPTS = [
  claims({ measurementType: 'nitro-pcr', pcr0: bytes(48, 7), pcr1: bytes(48, 8), pcr2: bytes(48, 9) }),
  claims({
    measurementType: 'tdx-mrtd-rtmr',
    pcr0: bytes(48, 7),
    pcr1: bytes(48, 8),
    pcr2: bytes(48, 9),
    pcr4: bytes(48, 9),
  }),
  claims({ measurementType: 'sgx', mrenclave: bytes(32, 7), mrsigner: bytes(32, 8), isvprodid: 1, isvsvn: 2 }),
];

export function receiptSeeds(): Seed[] {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  return RECEIPTS.map((one) => ({
    name: one.measurements.measurementType,
    bytes: Buffer.from(encodeReceipt(one, privateKey)),
    accepts: (input) => verifyReceipt(input, { publicKey: raw }).failure === undefined,
  }));
}

/** What is inside, which nobody but the signer can change. What is accepted must be the one way to write it. */
const receiptClaimSeeds = (): Seed[] =>
  RECEIPTS.map((one) => ({
    name: one.measurements.measurementType,
    bytes: Buffer.from(encodeReceiptClaims(one)),
    accepts: (input) => {
      const read = claimsOrNull(input);
      if (read) must(Buffer.from(encodeReceiptClaims(read)).equals(input), 'claims are written as they were read');
      return read !== null;
    },
  }));

function claimsOrNull(input: Buffer): ReceiptClaims | null {
  try {
    return decodeReceiptClaims(input);
  } catch (error) {
    if (error instanceof Error && error.constructor.name === 'ClaimFailure') return null;
    throw error;
  }
}

export const receiptTargets: Target[] = [
  { name: 'receipt', genuine: true, share: 1, seeds: async () => receiptSeeds() },
  { name: 'receipt-claims', genuine: false, share: 1, seeds: async () => receiptClaimSeeds() },
];
