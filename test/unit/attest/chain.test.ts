import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { KEY_USAGE, OID, parseCertificate } from '../../../src/attest/certificate.ts';
import { verifyChain } from '../../../src/attest/chain.ts';
import { parseDocument } from '../../../src/attest/document.ts';
import { createSimulatedRoot, detectKind, isSimulatedDocument } from '../../../src/attest/index.ts';
import { verifySimulated } from '../../../src/attest/simulated.ts';
import { parseSign1 } from '../../../src/core/cose.ts';
import { haveVectors, vectors } from '../vectors.ts';

const AWS_ROOT = 'sha256:641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b';

const root = await createSimulatedRoot();

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

describe('not DER', () => {
  const { certificate } = root;
  const content = certificate.subarray(4);
  const outer = (...head: number[]) => Buffer.concat([Buffer.from(head), content]);
  const [high = 0, low = 0] = certificate.subarray(2, 4);

  test('the baseline parses', () => expect(parseCertificate(outer(0x30, 0x82, high, low), 'x').ca).toBe(true));

  test.each([
    ['indefinite length', Buffer.concat([outer(0x30, 0x80), Buffer.alloc(2)])],
    ['length not in shortest form', outer(0x30, 0x83, 0, high, low)],
    ['longer than there is', outer(0x30, 0x82, high, low + 1)],
    ['shorter than there is', outer(0x30, 0x82, high, low - 1)],
    ['length of four bytes', outer(0x30, 0x84, 0, 0, high, low)],
    ['length of five bytes', outer(0x30, 0x85, 0, 0, 0, high, low)],
    ['empty', Buffer.alloc(0)],
    ['another tag', outer(0x31, 0x82, high, low)],
    ['a tag of several bytes', outer(0x3f, 0x30, 0x82, high, low)],
    ['hex', Buffer.from(certificate.toString('hex'))],
    ['base64', Buffer.from(certificate.toString('base64'))],
    ['a sequence in a sequence', Buffer.concat(Array.from({ length: 4000 }, () => Buffer.from('30800000', 'hex')))],
  ])('%s', (_, bytes) =>
    expect(() => parseCertificate(bytes, 'x')).toThrow(
      expect.objectContaining({ code: 'ERR_CERTIFICATE_MALFORMED', message: expect.stringMatching(/^x: /) }),
    ),
  );
});

test('modules that commands load at start leave the certificate library alone', () => {
  const script = `
    const { createRequire } = await import('node:module');
    for (const module of ['attest/index.ts', 'broker/index.ts', 'tasks/inspect.ts', 'launch/simulated.ts'])
      await import(new URL(module, process.argv[1]).href);
    const loaded = Object.keys(createRequire(process.argv[1]).cache);
    console.log(loaded.filter((path) => path.includes('@peculiar')).length);`;
  const src = new URL('../../../src/', import.meta.url).href;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script, src], {
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  expect(stdout).toBe('0\n');
});
