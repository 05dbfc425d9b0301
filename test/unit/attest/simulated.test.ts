import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseCertificate } from '../../../src/attest/certificate.ts';
import { encodeDocument, parseDocument } from '../../../src/attest/document.ts';
import {
  createSimulatedAttester,
  createSimulatedRoot,
  detectKind,
  isSimulatedDocument,
  loadOrCreateLocalRoot,
  localRootFingerprint,
  resolveSimulatedRoots,
  SIMULATED_CONTENT_TYPE,
  type VerifyEvidenceOptions,
  verifyEvidence,
} from '../../../src/attest/index.ts';
import { verifySimulated } from '../../../src/attest/simulated.ts';
import {
  type CertificateRequest,
  makeCertificate,
  SIMULATED_OID,
  SIMULATED_VALUE,
} from '../../../src/attest/simulated-certificate.ts';
import { ROOT_NAME } from '../../../src/attest/simulated-root.ts';
import { decodeCbor, encodeCbor } from '../../../src/core/cbor.ts';
import { parseSign1, signSign1 } from '../../../src/core/cose.ts';
import { basicConstraints, extension, newKey, rawCertificate, SIGN_DATA } from './certificates.ts';

const measured = { tee: 'nitro', pcr0: '01'.repeat(48), pcr1: '02'.repeat(48), pcr2: '03'.repeat(48) } as const;
const now = new Date('2026-11-22T10:00:00Z');
const HOUR = 3_600_000;
const root = await createSimulatedRoot();
const attester = createSimulatedAttester(root, measured, () => now);
const options = (more: Partial<VerifyEvidenceOptions> = {}): VerifyEvidenceOptions => ({
  allowSimulated: [root.fingerprint],
  now,
  ...more,
});
const failed = (evidence: Uint8Array, more: Partial<VerifyEvidenceOptions> = {}): string[] =>
  verifySimulated(evidence, options(more))
    .checks.filter((c) => c.status === 'fail')
    .map((c) => c.id);
const code = async (run: () => unknown): Promise<string> => {
  try {
    await run();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'none';
};

/** Evidence with anything about it replaced. */
async function forge(
  change: {
    header?: Map<number, unknown>;
    document?: Partial<Parameters<typeof encodeDocument>[0]>;
    leaf?: Partial<CertificateRequest>;
    signer?: ReturnType<typeof generateKeyPairSync>['privateKey'];
    tagged?: boolean;
    curve?: string;
  } = {},
): Promise<Uint8Array> {
  const keys = generateKeyPairSync('ec', { namedCurve: change.curve ?? 'P-384' });
  const certificate = await makeCertificate(
    {
      subject: 'x',
      issuer: ROOT_NAME,
      publicKey: keys.publicKey,
      notBefore: new Date(now.getTime() - HOUR),
      notAfter: new Date(now.getTime() + HOUR),
      ca: false,
      simulated: true,
      ...change.leaf,
    },
    root.key,
  );
  const pcrs = new Map(Array.from({ length: 16 }, (_, i) => [i, Buffer.alloc(48, i + 1)]));
  const document = encodeDocument({
    moduleId: 'm',
    timestamp: now.getTime(),
    pcrs,
    certificate,
    cabundle: [root.certificate],
    publicKey: null,
    userData: null,
    nonce: null,
    ...change.document,
  });
  const header = change.header ?? new Map<number, unknown>([[1, -35], [3, SIMULATED_CONTENT_TYPE]]); // biome-ignore format: short
  return signSign1(header, document, change.signer ?? keys.privateKey, change.tagged ?? false);
}

describe('simulated evidence', () => {
  test('verifies, and says what was measured', async () => {
    const evidence = await attester.attest({
      userData: Buffer.from('u'),
      nonce: Buffer.alloc(32, 7),
      publicKey: Buffer.alloc(32, 8),
    });
    const { claims, checks } = await verifyEvidence(evidence, options({ maxAgeSeconds: 300 }));
    expect(checks.filter((c) => c.status !== 'pass')).toEqual([]);
    expect(claims).toMatchObject({
      tee: 'simulated',
      simulated: true,
      debug: false,
      measurement: { tee: 'simulated', root: root.fingerprint, of: measured },
      timestamp: now,
    });
    expect(Buffer.from(claims.userData ?? []).toString()).toBe('u');
    expect(claims.publicKey).toHaveLength(32);
    expect(detectKind(evidence)).toBe('simulated');
    expect(isSimulatedDocument(evidence)).toBe(true);
  });

  test('carries PCR8 of a signed image', async () => {
    const signed = { ...measured, pcr8: '08'.repeat(48) };
    const evidence = await createSimulatedAttester(root, signed, () => now).attest({});
    expect(verifySimulated(evidence, options()).claims.measurement).toMatchObject({ of: signed });
  });

  test('a launch that outlives its leaf gets another', async () => {
    let clock = now;
    const long = createSimulatedAttester(root, measured, () => clock);
    for (let hours = 0; hours < 10; hours++) {
      clock = new Date(now.getTime() + hours * HOUR);
      expect(failed(await long.attest({}), { now: clock, maxAgeSeconds: 300 })).toEqual([]);
    }
  });

  test('an oversized field is refused before it is signed', async () => {
    await expect(attester.attest({ userData: Buffer.alloc(513) })).rejects.toMatchObject({
      code: 'ERR_ATTEST_REQUEST',
    });
  });

  test('the baseline of the forgeries verifies', async () => expect(failed(await forge())).toEqual([]));

  test('wrong root', async () => {
    expect(failed(await forge(), { allowSimulated: [] })).toEqual(['evidence.root']);
    expect(failed(await forge(), { allowSimulated: [(await createSimulatedRoot()).fingerprint] })).toEqual([
      'evidence.root',
    ]);
  });

  test('a root with the right name and another key', async () => {
    const other = await createSimulatedRoot();
    expect(failed(await forge({ document: { cabundle: [other.certificate] } }))).toEqual([
      'evidence.root',
      'evidence.chain',
    ]);
  });

  test('a leaf that does not say simulated', async () =>
    expect(failed(await forge({ leaf: { simulated: false } }))).toEqual(['evidence.simulated']));

  test('a leaf whose mark says something else, or is not critical', async () => {
    const keys = newKey();
    const sign = (value: Buffer, critical?: number) => {
      const extensions = [basicConstraints(false), SIGN_DATA, extension(SIMULATED_OID, value, critical)];
      const certificate = rawCertificate(
        { subject: 'x', issuer: 'y', publicKey: keys.publicKey, extensions },
        root.key,
      );
      return forge({ signer: keys.privateKey, document: { certificate } });
    };
    expect(failed(await sign(SIMULATED_VALUE, 0xff))).toEqual(['evidence.chain']);
    expect(failed(await sign(Buffer.from([5, 0]), 0xff))).toEqual(['evidence.chain', 'evidence.simulated']);
    expect(failed(await sign(SIMULATED_VALUE))).toEqual(['evidence.chain', 'evidence.simulated']);
  });

  test('a leaf of another issuer', async () =>
    expect(failed(await forge({ leaf: { issuer: 'x' } }))).toEqual(['evidence.chain']));

  test('a leaf that is a CA', async () =>
    expect(failed(await forge({ leaf: { ca: true } }))).toEqual(['evidence.chain']));

  test('expired chain: reported at any time, refused where it matters', async () => {
    const later = new Date(now.getTime() + 5 * HOUR);
    const { checks } = verifySimulated(await forge(), options({ now: later }));
    expect(checks.find((c) => c.id === 'evidence.valid-now')?.status).toBe('skipped');
    expect(failed(await forge(), { now: later })).toEqual([]);
    expect(failed(await forge(), { now: later, at: later })).toEqual(['evidence.validity']);
    expect(failed(await forge(), { now: later, maxAgeSeconds: 300 })).toEqual(['evidence.valid-now', 'evidence.time']);
    const document = { timestamp: later.getTime() };
    expect(failed(await forge({ document }), { now: later })).toEqual(['evidence.validity']);
  });

  test('evidence from the future', async () =>
    expect(failed(await forge({ document: { timestamp: now.getTime() + 30 * 60_000 } }))).toEqual(['evidence.time']));

  test('debug enclave is called that', async () => {
    const pcrs = new Map(Array.from({ length: 16 }, (_, i) => [i, Buffer.alloc(48, i < 3 ? 0 : 1)]));
    const { checks, claims } = verifySimulated(await forge({ document: { pcrs } }), options());
    expect(claims.debug).toBe(true);
    expect(checks.find((c) => c.id === 'evidence.debug')).toMatchObject({
      status: 'fail',
      actual: expect.stringContaining('debug'),
    });
  });

  test('signed by another key', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    expect(failed(await forge({ signer: privateKey }))).toEqual(['evidence.signature']);
  });

  test('a leaf key on another curve', async () => {
    expect(failed(await forge({ curve: 'brainpoolP384r1' }))).toEqual(['evidence.signature']);
    expect(await code(async () => failed(await forge({ curve: 'P-521' })))).toBe('ERR_EVIDENCE_MALFORMED');
  });

  test.each([
    ['a Nitro document header', new Map<number, unknown>([[1, -35]]), 'ERR_EVIDENCE_KIND'],
    [
      'another content type',
      new Map<number, unknown>([
        [1, -35],
        [3, 'application/cbor'],
      ]),
      'ERR_EVIDENCE_KIND',
    ],
    [
      'an extra header',
      new Map<number, unknown>([
        [1, -35],
        [3, SIMULATED_CONTENT_TYPE],
        [4, Buffer.from('k')],
      ]),
      'ERR_EVIDENCE_MALFORMED',
    ],
  ])('%s', async (_, header, expected) =>
    expect(await code(async () => verifySimulated(await forge({ header }), options()))).toBe(expected),
  );

  test('tagged', async () =>
    expect(await code(async () => verifySimulated(await forge({ tagged: true }), options()))).toBe(
      'ERR_COSE_MALFORMED',
    ));

  test.each<[string, Partial<Parameters<typeof encodeDocument>[0]>]>([
    ['too few registers', { pcrs: new Map([[0, Buffer.alloc(48)]]) }],
    ['a short register', { pcrs: new Map(Array.from({ length: 16 }, (_, i) => [i, Buffer.alloc(i === 4 ? 47 : 48)])) }],
    ['a register 32', { pcrs: new Map(Array.from({ length: 33 }, (_, i) => [i, Buffer.alloc(48)])) }],
    ['an oversized certificate', { certificate: Buffer.alloc(1025) }],
    ['an empty certificate', { certificate: Buffer.alloc(0) }],
    ['no cabundle', { cabundle: [] }],
    ['nine certificates', { cabundle: Array.from({ length: 9 }, () => root.certificate) }],
    ['an oversized nonce', { nonce: Buffer.alloc(1025) }],
    ['an empty public key', { publicKey: Buffer.alloc(0) }],
    ['time zero', { timestamp: 0 }],
    ['a time that is not one', { timestamp: 2 ** 52 }],
    ['no module', { moduleId: '' }],
  ])('malformed document: %s', async (_, document) =>
    expect(await code(async () => verifySimulated(await forge({ document }), options()))).toBe(
      'ERR_EVIDENCE_MALFORMED',
    ),
  );

  test.each<[string, (map: Map<unknown, unknown>) => unknown]>([
    ['an unknown key', (map) => map.set('extra', 1)],
    ['a key that is a number', (map) => map.set(1, 1)],
    ['another digest', (map) => map.set('digest', 'SHA256')],
    ['no digest', (map) => map.delete('digest')],
    ['no registers', (map) => map.delete('pcrs')],
    ['registers by name', (map) => map.set('pcrs', new Map([['0', Buffer.alloc(48)]]))],
    ['a time as text', (map) => map.set('timestamp', '2026')],
    ['user data as text', (map) => map.set('user_data', 'u')],
  ])('malformed document: %s', async (_, change) => {
    const payload = parseSign1(await forge(), { what: 'e', maxBytes: 16384, tag: 'forbidden' }).payload;
    const map = decodeCbor(payload, { what: 'd', maxBytes: 16384 }) as Map<unknown, unknown>;
    change(map);
    expect(await code(() => parseDocument(encodeCbor(map), 'deterministic'))).toBe('ERR_EVIDENCE_MALFORMED');
  });

  test('an indefinite map is a real document’s, never ours', async () => {
    const payload = Buffer.from(parseSign1(await forge(), { what: 'e', maxBytes: 16384, tag: 'forbidden' }).payload);
    const indefinite = Buffer.concat([Buffer.from([0xbf]), payload.subarray(1), Buffer.from([0xff])]);
    expect(parseDocument(indefinite, 'any').moduleId).toBe('m');
    expect(await code(() => parseDocument(indefinite, 'deterministic'))).toBe('ERR_CBOR_MALFORMED');
  });

  test('a certificate as PEM, or with bytes after it', async () => {
    const pem = Buffer.from(
      `-----BEGIN CERTIFICATE-----\n${root.certificate.toString('base64')}\n-----END CERTIFICATE-----\n`,
    );
    const tail = Buffer.concat([root.certificate, Buffer.from([0])]);
    for (const bytes of [pem, tail])
      expect(await code(() => parseCertificate(bytes, 'c'))).toBe('ERR_CERTIFICATE_MALFORMED');
  });

  test('truncated at every length', async () => {
    const evidence = await attester.attest({});
    for (let length = 0; length < evidence.length; length += 1) {
      expect(await code(() => verifyEvidence(evidence.subarray(0, length), options()))).toMatch(/^ERR_/);
    }
  });

  test('no flipped bit goes through', async () => {
    const evidence = await attester.attest({ nonce: Buffer.alloc(16, 1) });
    for (let i = 0; i < evidence.length; i += i < 60 ? 1 : 7) {
      const bytes = Buffer.from(evidence);
      bytes[i] = (bytes[i] ?? 0) ^ (1 << (i % 8));
      expect(await code(() => expect(failed(bytes)).not.toEqual([])), `byte ${i}`).toMatch(
        /^(none|ERR_(COSE|CBOR|EVIDENCE|CERTIFICATE)_.*)$/,
      );
    }
  });

  test('oversized', async () =>
    expect(await code(() => verifySimulated(new Uint8Array(1 << 20), options()))).toBe('ERR_CBOR_MALFORMED'));
});

describe('the local root', () => {
  const dir = () => join(mkdtempSync(join(tmpdir(), 'atoma-root-')), 'config', 'simulated');

  test('is made once, private, whoever comes first', async () => {
    const path = dir();
    expect(await localRootFingerprint(path)).toBeNull();
    const roots = await Promise.all(Array.from({ length: 8 }, () => loadOrCreateLocalRoot(path)));
    expect(new Set(roots.map((r) => r.fingerprint)).size).toBe(1);
    expect(await localRootFingerprint(path)).toBe(roots[0]?.fingerprint);
    expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(statSync(join(path, 'root.key')).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(path, '..'))).toEqual(['simulated']);
  });

  test('--allow-simulated: local, a fingerprint, nothing else', async () => {
    const path = dir();
    const fingerprint = `sha256:${'ab'.repeat(32)}`;
    const [local, named] = await resolveSimulatedRoots(['local', fingerprint], path);
    expect([local, named]).toEqual([await localRootFingerprint(path), fingerprint]);
    for (const bad of ['', 'any', 'sha256:', 'sha256:AB', 'ab'.repeat(32)]) {
      await expect(resolveSimulatedRoots([bad], path)).rejects.toMatchObject({ code: 'ERR_USAGE' });
    }
  });

  test('is refused when key and certificate differ', async () => {
    const path = dir();
    await loadOrCreateLocalRoot(path);
    writeFileSync(join(path, 'root.der'), (await createSimulatedRoot()).certificate);
    await expect(loadOrCreateLocalRoot(path)).rejects.toMatchObject({ code: 'ERR_SIMULATED_ROOT' });
    rmSync(join(path, 'root.key'));
    await expect(loadOrCreateLocalRoot(path)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    expect(existsSync(path)).toBe(true);
    expect(readFileSync(join(path, 'root.der')).length).toBeGreaterThan(0);
  });

  test('its key signs what its certificate verifies', async () => {
    const message = Buffer.from('m');
    const { x509 } = parseCertificate(root.certificate, 'root');
    expect(x509.publicKey.equals(createPublicKey(root.key))).toBe(true);
    expect(sign('sha384', message, root.key).length).toBeGreaterThan(90);
  });
});
