import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { KEY_USAGE, OID, parseCertificate } from '../../../src/attest/certificate.ts';
import { verifyChain } from '../../../src/attest/chain.ts';
import { DerReader, decodeOid, der, encodeOid, TAG } from '../../../src/attest/der.ts';
import { parseDocument } from '../../../src/attest/document.ts';
import { detectKind, isSimulatedDocument } from '../../../src/attest/index.ts';
import { verifySimulated } from '../../../src/attest/simulated.ts';
import { parseSign1 } from '../../../src/core/cose.ts';
import { haveVectors, vectors } from '../vectors.ts';

const AWS_ROOT = 'sha256:641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b';

describe.skipIf(!haveVectors)('real Nitro documents (reference vectors)', () => {
  const files = haveVectors ? readdirSync(vectors('nitro-docs')).filter((f) => f.endsWith('.cbor')) : [];

  test.each(files)('%s: chain and registers', (file) => {
    const bytes = readFileSync(vectors('nitro-docs', file));
    expect(detectKind(bytes)).toBe('nitro');
    expect(isSimulatedDocument(bytes)).toBe(false);
    expect(() => verifySimulated(bytes, { allowSimulated: [AWS_ROOT], now: new Date() })).toThrow();
    const message = parseSign1(bytes, { what: 'document', maxBytes: 16384, tag: 'optional', form: 'any' });
    if (file.includes('unsigned')) return;
    const document = parseDocument(message.payload, 'any');
    const chain = [...document.cabundle, document.certificate].map((der, i) =>
      parseCertificate(der, `certificate ${i}`),
    );
    const at = new Date(document.timestamp);
    const checks = verifyChain(chain, { roots: [AWS_ROOT], at, now: new Date(), current: false });
    expect(checks.map((c) => [c.id, c.status])).toEqual([
      ['evidence.root', 'pass'],
      ['evidence.chain', 'pass'],
      ['evidence.validity', 'pass'],
      ['evidence.valid-now', 'skipped'],
    ]);
    // Every order but the right one is refused.
    const reversed = verifyChain([...chain].reverse(), { roots: [AWS_ROOT], at, now: at, current: false });
    expect(reversed.filter((c) => c.status === 'fail').map((c) => c.id)).toEqual(['evidence.root', 'evidence.chain']);
    const missing = verifyChain(chain.toSpliced(2, 1), { roots: [AWS_ROOT], at, now: at, current: false });
    expect(missing.find((c) => c.id === 'evidence.chain')?.status).toBe('fail');
    const lone = verifyChain(chain.slice(0, 1), { roots: [AWS_ROOT], at, now: at, current: false });
    expect(lone.find((c) => c.id === 'evidence.chain')?.status).toBe('fail');
  });

  test('the AWS root parses', () => {
    const root = parseCertificate(readFileSync(vectors('nitro-docs', 'aws-nitro-root-g1.der')), 'root');
    expect(root).toMatchObject({ fingerprint: AWS_ROOT, ca: true });
    expect((root.keyUsage ?? 0) & KEY_USAGE.keyCertSign).toBe(KEY_USAGE.keyCertSign);
    expect([...root.extensions.keys()]).toContain(OID.basicConstraints);
  });

  test('a certificate cut at any length is refused', () => {
    const root = readFileSync(vectors('nitro-docs', 'aws-nitro-root-g1.der'));
    for (let n = 0; n < root.length; n++) expect(() => parseCertificate(root.subarray(0, n), 'c')).toThrow();
  });
});

describe('DER', () => {
  const read = (hex: string, tag: number) => new DerReader(Buffer.from(hex, 'hex'), 'x').next(tag);

  test.each([
    ['indefinite length', '30800000'],
    ['length not in shortest form', '308101aa'],
    ['longer than there is', '3002aa'],
    ['length of four bytes', '308400000001aa'],
    ['empty', ''],
    ['another tag', '3100'],
  ])('%s', (_, hex) => expect(() => read(hex, TAG.sequence)).toThrow(/^x: /));

  test('object identifiers, UUID arc included', () => {
    for (const oid of ['2.5.29.19', '1.2.840.10045.4.3.3', `2.25.${2n ** 127n + 12345n}`, '0.9.2342', '2.999.3']) {
      expect(decodeOid(encodeOid(oid))).toBe(oid);
    }
  });

  test('long content', () => {
    for (const size of [0x7f, 0x80, 0xff, 0x100, 0xffff]) {
      expect(new DerReader(der(TAG.octetString, Buffer.alloc(size)), 'x').next(TAG.octetString).content).toHaveLength(
        size,
      );
    }
  });
});
