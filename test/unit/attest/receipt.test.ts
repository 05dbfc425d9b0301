import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  checkReceiptClaims,
  encodeReceipt,
  type ReceiptClaims,
  type ReceiptPolicy,
  verifyReceipt,
} from '../../../src/attest/index.ts';
import { encodeCbor } from '../../../src/core/cbor.ts';
import { signSign1 } from '../../../src/core/cose.ts';
import { haveVectors, vectors } from '../vectors.ts';

interface Vector {
  receipt_hex: string;
  public_key_hex?: string;
  wrong_public_key_hex?: string;
  verify_policy?: { expected_nonce_hex?: string; expected_model_hash_hex?: string; max_age_secs?: number };
  expected_failure?: { layer: number; check: string; code: string };
  claims?: Record<string, unknown>;
}

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
const claims: ReceiptClaims = {
  iss: 'digits',
  iat: 1_790_000_000,
  cti: Buffer.alloc(16, 1),
  nonce: Buffer.alloc(32, 2),
  modelId: 'digits',
  modelVersion: '1.0.0',
  modelHash: Buffer.alloc(32, 3),
  requestHash: Buffer.alloc(32, 4),
  responseHash: Buffer.alloc(32, 5),
  attestationDocHash: Buffer.alloc(32, 6),
  measurements: {
    measurementType: 'nitro-pcr',
    pcr0: Buffer.alloc(48, 7),
    pcr1: Buffer.alloc(48, 8),
    pcr2: Buffer.alloc(48, 9),
  },
  policyVersion: '1',
  sequenceNumber: 1,
  executionTimeMs: 3,
  memoryPeakMb: 100,
  securityMode: 'evaluation',
  modelHashScheme: 'sha256-manifest',
};
const HEADER = new Map<number, unknown>([
  [1, -8],
  [3, 61],
]);
const AIR: [number, unknown][] = [
  [1, claims.iss],
  [6, claims.iat],
  [7, claims.cti],
  [265, 'https://spec.cyntrisec.com/air/v1'],
  [-65537, 'm'],
  [-65538, 'v'],
  [-65539, claims.modelHash],
  [-65540, claims.requestHash],
  [-65541, claims.responseHash],
  [-65542, claims.attestationDocHash],
  [-65543, { pcr0: Buffer.alloc(48), pcr1: Buffer.alloc(48), pcr2: Buffer.alloc(48), measurement_type: 'nitro-pcr' }],
  [-65544, 'p'],
  [-65545, 1],
  [-65546, 1],
  [-65547, 1],
  [-65548, 'production'],
];
/** A correctly signed receipt over any payload. */
const signed = (payload: Uint8Array, header = HEADER, tagged = true) => signSign1(header, payload, privateKey, tagged);
const changed = (...entries: [number, unknown][]) => {
  const map = new Map(AIR);
  for (const [key, value] of entries) {
    if (value === undefined) map.delete(key);
    else map.set(key, value);
  }
  return signed(encodeCbor(map));
};
const failure = (receipt: Uint8Array, policy: ReceiptPolicy = {}, key: Uint8Array = raw) =>
  verifyReceipt(receipt, { publicKey: key, policy, now: new Date(1_790_000_100_000) }).failure;
const registers = (more: object) =>
  [
    [
      -65543,
      {
        pcr0: Buffer.alloc(48),
        pcr1: Buffer.alloc(48),
        pcr2: Buffer.alloc(48),
        measurement_type: 'nitro-pcr',
        ...more,
      },
    ],
  ] as [number, unknown][];

describe.skipIf(!haveVectors)('AIR v1 reference vectors', () => {
  const files = haveVectors ? readdirSync(vectors('air')).filter((f) => f.endsWith('.json')) : [];
  test.each(files)('%s comes out as recorded', (file) => {
    const vector: Vector = JSON.parse(readFileSync(vectors('air', file), 'utf8'));
    const key = Buffer.from(vector.wrong_public_key_hex ?? vector.public_key_hex ?? '', 'hex');
    const wanted = vector.verify_policy ?? {};
    const verdict = verifyReceipt(Buffer.from(vector.receipt_hex, 'hex'), {
      publicKey: key,
      policy: wanted.max_age_secs === undefined ? {} : { maxAgeSeconds: wanted.max_age_secs },
    });
    const { layer, check, code } = vector.expected_failure ?? {};
    expect(verdict.failure).toEqual(
      layer === undefined ? undefined : { layer, check, code, message: expect.any(String) },
    );
    const ran = verdict.layers.map((l) => l.status);
    if (layer === undefined) expect(ran).toEqual(['pass', 'pass', 'pass', 'skipped']);
    else expect(ran).toEqual([1, 2, 3, 4].map((n) => (n < layer ? 'pass' : n === layer ? 'fail' : 'skipped')));
  });

  test('the canonical receipt is what we would write', () => {
    const vector = JSON.parse(readFileSync(vectors('air', 'v1-nitro-no-nonce.json'), 'utf8'));
    const seed = Buffer.from(vector.signing_key_seed_hex, 'hex');
    const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
    const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
    const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' }).subarray(-32);
    const receipt = Buffer.from(vector.receipt_hex, 'hex');
    const { claims: read } = verifyReceipt(receipt, { publicKey });
    expect(read && Buffer.from(encodeReceipt(read, key)).toString('hex')).toBe(vector.receipt_hex);
  });
});

describe('receipts', () => {
  test('round trip, every claim', () => {
    const verdict = verifyReceipt(encodeReceipt(claims, privateKey), {
      publicKey: raw,
      now: new Date(1_790_000_100_000),
      policy: {
        expectedNonce: Buffer.alloc(32, 2),
        modelHash: Buffer.alloc(32, 3),
        platform: 'nitro-pcr',
        maxAgeSeconds: 100,
      },
    });
    expect(verdict.failure).toBeUndefined();
    expect(verdict.layers.map((l) => l.status)).toEqual(['pass', 'pass', 'pass', 'pass']);
    // Ed25519 is deterministic, so equal receipts are equal claims.
    expect(verdict.claims && encodeReceipt(verdict.claims, privateKey)).toEqual(encodeReceipt(claims, privateKey));
  });

  test('the baseline of the forgeries verifies', () => expect(failure(changed())).toBeUndefined());

  test.each<[string, [number, unknown][], string]>([
    ['unknown key', [[-65550, 1]], 'UNKNOWN_CLAIM'],
    ['unknown small key', [[2, 'sub']], 'UNKNOWN_CLAIM'],
    ['missing claim', [[-65540, undefined]], 'MISSING_CLAIM'],
    ['missing profile', [[265, undefined]], 'MISSING_CLAIM'],
    ['unknown profile', [[265, 'https://spec.cyntrisec.com/air/v2']], 'BAD_PROFILE'],
    ['unknown scheme', [[-65549, 'md5']], 'BAD_MODEL_HASH_SCHEME'],
    ['unknown mode', [[-65548, 'Production']], 'BAD_SECURITY_MODE'],
    ['unknown measurement type', registers({ measurement_type: 'sgx' }), 'BAD_MEASUREMENT_TYPE'],
    ['measurement type of the prototype', registers({ measurement_type: 'constructor' }), 'BAD_MEASUREMENT_TYPE'],
    ['TDX with pcr8', registers({ measurement_type: 'tdx-mrtd-rtmr', pcr8: Buffer.alloc(48) }), 'UNKNOWN_MEASUREMENT'],
    ['unknown register', registers({ pcr5: Buffer.alloc(48) }), 'UNKNOWN_MEASUREMENT'],
    ['short register', registers({ pcr1: Buffer.alloc(32) }), 'BAD_MEASUREMENT_LENGTH'],
    ['short optional register', registers({ pcr8: Buffer.alloc(47) }), 'BAD_MEASUREMENT_LENGTH'],
    ['register of another type', registers({ pcr1: '00'.repeat(24) }), 'BAD_MEASUREMENT_LENGTH'],
    [
      'no pcr0',
      [[-65543, { pcr1: Buffer.alloc(48), pcr2: Buffer.alloc(48), measurement_type: 'nitro-pcr' }]],
      'MISSING_MEASUREMENT',
    ],
    ['measurements not a map', [[-65543, 1]], 'BAD_MEASUREMENTS'],
    ['iat zero', [[6, 0]], 'ZERO_IAT'],
    ['iat negative', [[6, -1]], 'BAD_CLAIM_TYPE'],
    ['iat as a float', [[6, 1.5]], 'BAD_CLAIM_TYPE'],
    ['iat beyond 2^53', [[6, 2n ** 60n]], 'BAD_CLAIM_TYPE'],
    ['cti of 15 bytes', [[7, Buffer.alloc(15)]], 'BAD_CTI_LENGTH'],
    ['cti as text', [[7, 'a'.repeat(16)]], 'BAD_CLAIM_TYPE'],
    ['nonce of 7 bytes', [[10, Buffer.alloc(7)]], 'BAD_NONCE_LENGTH'],
    ['nonce of 65 bytes', [[10, Buffer.alloc(65)]], 'BAD_NONCE_LENGTH'],
    ['request hash of 31 bytes', [[-65540, Buffer.alloc(31)]], 'BAD_HASH_LENGTH'],
    ['response hash of 33 bytes', [[-65541, Buffer.alloc(33)]], 'BAD_HASH_LENGTH'],
    ['document hash of 48 bytes', [[-65542, Buffer.alloc(48)]], 'BAD_HASH_LENGTH'],
    ['model hash of 0 bytes', [[-65539, Buffer.alloc(0)]], 'BAD_HASH_LENGTH'],
    ['model hash of zeros', [[-65539, Buffer.alloc(32)]], 'ZERO_MODEL_HASH'],
    ['issuer of the wrong type', [[1, 5]], 'BAD_CLAIM_TYPE'],
    ['empty issuer', [[1, '']], 'BAD_TEXT_LENGTH'],
    ['long model id', [[-65537, 'x'.repeat(1025)]], 'BAD_TEXT_LENGTH'],
  ])('%s is refused in layer 3', (_, entries, code) =>
    expect(failure(changed(...entries))).toMatchObject({ layer: 3, code }),
  );

  test('duplicate key', () => {
    const payload = Buffer.from(encodeCbor(new Map(AIR)));
    payload[0] = (payload[0] ?? 0) + 1;
    const twice = Buffer.concat([
      payload.subarray(0, 1),
      Buffer.from('010161', 'hex'),
      Buffer.from('a'),
      payload.subarray(1),
    ]);
    expect(failure(signed(twice))).toMatchObject({ layer: 3, code: 'BAD_PAYLOAD' });
    const exact = Buffer.from('a201616101616 2'.replace(' ', ''), 'hex');
    expect(failure(signed(exact))).toMatchObject({ layer: 3, code: 'BAD_PAYLOAD' });
  });

  test('non-canonical payload', () => {
    const canonical = Buffer.from(encodeCbor(new Map(AIR)));
    const swapped = Buffer.from('a2060101 6161'.replace(' ', ''), 'hex');
    const longInteger = Buffer.from('a1011801', 'hex');
    const indefinite = Buffer.concat([Buffer.from([0xbf]), canonical.subarray(1), Buffer.from([0xff])]);
    const trailing = Buffer.concat([canonical, Buffer.from([0])]);
    for (const payload of [swapped, longInteger, indefinite, trailing, Buffer.from('80', 'hex'), Buffer.alloc(0)]) {
      expect(failure(signed(payload))).toMatchObject({ layer: 3, code: 'BAD_PAYLOAD' });
    }
  });

  test.each<[string, Map<number, unknown>, string]>([
    [
      'another algorithm',
      new Map<number, unknown>([
        [1, -7],
        [3, 61],
      ]),
      'BAD_ALG',
    ],
    [
      'another content type',
      new Map<number, unknown>([
        [1, -8],
        [3, 60],
      ]),
      'BAD_CONTENT_TYPE',
    ],
    ['no content type', new Map<number, unknown>([[1, -8]]), 'BAD_CONTENT_TYPE'],
    [
      'an extra header',
      new Map<number, unknown>([
        [1, -8],
        [3, 61],
        [4, Buffer.from('kid')],
      ]),
      'BAD_PROTECTED_HEADER',
    ],
  ])('%s is refused in layer 1', (_, header, code) => {
    const claimed = signed(encodeCbor(new Map(AIR)));
    const protectedBytes = Buffer.from(encodeCbor(header));
    const at = Buffer.from(claimed).indexOf(Buffer.from('46a2012703183d', 'hex'));
    const receipt = Buffer.concat([claimed.subarray(0, at), encodeCbor(protectedBytes), claimed.subarray(at + 7)]);
    expect(failure(receipt)).toMatchObject({ layer: 1, code });
  });

  test('untagged', () =>
    expect(failure(signed(encodeCbor(new Map(AIR)), HEADER, false))).toMatchObject({ layer: 1, code: 'BAD_COSE' }));

  test('unprotected header', () => {
    const receipt = Buffer.from(changed());
    const at = receipt.indexOf(Buffer.from('03183da0', 'hex')) + 3;
    const stuffed = Buffer.concat([receipt.subarray(0, at), Buffer.from('a10401', 'hex'), receipt.subarray(at + 1)]);
    expect(failure(stuffed)).toMatchObject({ layer: 1, code: 'BAD_UNPROTECTED_HEADER' });
  });

  test('non-canonical envelope, trailing bytes', () => {
    const receipt = Buffer.from(changed());
    const long = Buffer.concat([Buffer.from('d812', 'hex'), receipt.subarray(1)]);
    for (const bytes of [long, Buffer.concat([receipt, Buffer.from([0])])]) {
      expect(failure(bytes)).toMatchObject({ layer: 1, code: 'BAD_COSE' });
    }
  });

  test('a signature of 63 bytes', () => {
    const receipt = Buffer.from(changed());
    const at = receipt.length - 66;
    expect(receipt.subarray(at, at + 2).toString('hex')).toBe('5840');
    const short = Buffer.concat([receipt.subarray(0, at), Buffer.from('583f', 'hex'), receipt.subarray(at + 3)]);
    expect(failure(short)).toMatchObject({ layer: 1, code: 'BAD_SIG_LENGTH' });
  });

  test('oversized', () => expect(failure(new Uint8Array(65537))).toMatchObject({ layer: 1, code: 'TOO_LARGE' }));

  test('small-order key: one signature would hold for many messages', () => {
    // A = identity, R = identity, S = 0 satisfies the equation for every message.
    const identity = Buffer.concat([Buffer.from([1]), Buffer.alloc(31)]);
    const receipt = Buffer.from(changed());
    receipt.fill(Buffer.concat([identity, Buffer.alloc(32)]), receipt.length - 64);
    expect(failure(receipt, {}, identity)).toMatchObject({ layer: 2, code: 'SIG_FAILED' });
  });

  test('a key of the wrong length', () =>
    expect(failure(changed(), {}, Buffer.alloc(31))).toMatchObject({ layer: 2, code: 'SIG_FAILED' }));

  test('the payload is not decoded before its signature holds', () => {
    const receipt = Buffer.from(signed(Buffer.from('ff', 'hex')));
    receipt[receipt.length - 1] = (receipt.at(-1) ?? 0) ^ 1;
    expect(failure(receipt)).toMatchObject({ layer: 2, code: 'SIG_FAILED' });
  });

  test.each<[string, ReceiptPolicy, string]>([
    ['another nonce', { expectedNonce: Buffer.alloc(32, 9) }, 'NONCE_MISMATCH'],
    ['another model', { modelHash: Buffer.alloc(32, 9) }, 'MODEL_HASH_MISMATCH'],
    ['another platform', { platform: 'tdx-mrtd-rtmr' }, 'PLATFORM_MISMATCH'],
    ['too old', { maxAgeSeconds: 99 }, 'TIMESTAMP_STALE'],
  ])('%s is refused in layer 4', (_, policy, code) =>
    expect(failure(encodeReceipt(claims, privateKey), policy)).toMatchObject({ layer: 4, code }),
  );

  test('no nonce where one is expected', () =>
    expect(failure(changed(), { expectedNonce: Buffer.alloc(32) })).toMatchObject({
      layer: 4,
      code: 'NONCE_MISMATCH',
    }));

  test('from the future', () =>
    expect(failure(changed([6, 1_790_000_161]), { maxAgeSeconds: 10 })).toMatchObject({
      layer: 4,
      code: 'TIMESTAMP_FUTURE',
    }));

  test('truncated at every length, and every byte flipped', () => {
    const receipt = Buffer.from(encodeReceipt(claims, privateKey));
    for (let n = 0; n < receipt.length; n++) expect(failure(receipt.subarray(0, n))?.layer).toBe(1);
    for (let n = 0; n < receipt.length; n++) {
      const bytes = Buffer.from(receipt);
      bytes[n] = (bytes[n] ?? 0) ^ (1 << (n % 8));
      expect(failure(bytes), `byte ${n}`).toBeDefined();
    }
  });

  test('the enclave cannot sign claims that a verifier would refuse', () => {
    expect(() => checkReceiptClaims({ ...claims, modelHash: Buffer.alloc(32) })).toThrow('zeros');
    expect(() => checkReceiptClaims({ ...claims, nonce: Buffer.alloc(4) })).toThrow('8 to 64');
  });
});
