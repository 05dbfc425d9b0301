import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  type Claims,
  createSimulatedAttester,
  createSimulatedRoot,
  type VerifyEvidenceOptions,
  verifyEvidence,
} from '../../../src/attest/index.ts';
import { verifyNitro } from '../../../src/attest/nitro.ts';
import { AMD_INTERMEDIATES, AMD_ROOTS } from '../../../src/attest/roots/amd.ts';
import { AWS_NITRO_ROOT } from '../../../src/attest/roots/aws.ts';
import { INTEL_SGX_ROOT } from '../../../src/attest/roots/intel.ts';
import { fromPem } from '../../../src/attest/roots/pinned.ts';
import { SIMULATED_OID, SIMULATED_VALUE } from '../../../src/attest/simulated-certificate.ts';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { basicConstraints, extension, keyUsage, newKey, SIGN_CERTIFICATES, SIGN_DATA, utc } from './certificates.ts';
import { type Change, nitroDocument, nitroRoot, now, registers, trust } from './nitro-fixture.ts';

const failed = (evidence: Uint8Array, options: VerifyEvidenceOptions = trust()): string[] =>
  verifyNitro(evidence, options)
    .checks.filter(({ status }) => status === 'fail')
    .map(({ id }) => id);
const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'none';
};
const chainProblem = (change: Change) =>
  verifyNitro(nitroDocument(change), trust()).checks.find(({ id }) => id === 'evidence.chain')?.detail ?? 'none';

interface Expected {
  timestamp: number;
  module_id: string;
  pcr_idx: number[];
  chain_at_doc_time: boolean;
  cose_signature_ok: boolean;
  public_key: string;
  user_data: string;
  nonce: string;
  [register: `pcr${number}`]: string;
}

describe.skipIf(!haveVectors)('documents that AWS signed (reference vectors)', () => {
  const files = haveVectors ? readdirSync(vectors('nitro-docs')).filter((f) => f.endsWith('.cbor')) : [];
  const open = (file: string) => readFileSync(vectors('nitro-docs', file));
  const far = { allowSimulated: [], now: new Date('2027-01-01T00:00:00Z') };

  test.each(files)('%s verifies or fails as its description says', async (file) => {
    const expected: Expected = JSON.parse(open(file.replace('.cbor', '.json')).toString());
    if (!expected.chain_at_doc_time) {
      await expect(verifyEvidence(open(file), far)).rejects.toMatchObject({
        code: 'ERR_EVIDENCE_UNSIGNED',
        exitCode: 3,
      });
      await expect(verifyEvidence(open(file), { ...far, tee: 'simulated' })).rejects.toMatchObject({
        code: 'ERR_EVIDENCE_KIND',
      });
      return;
    }
    const { claims, checks } = await verifyEvidence(open(file), far);
    const status = Object.fromEntries(checks.map((check) => [check.id, check.status]));
    const debug = [expected.pcr0, expected.pcr1, expected.pcr2].every((register) => /^0+$/.test(register ?? ''));
    expect(status).toEqual({
      'evidence.root': 'pass',
      'evidence.chain': 'pass',
      'evidence.validity': 'pass',
      'evidence.valid-now': 'skipped',
      'evidence.signature': expected.cose_signature_ok ? 'pass' : 'fail',
      'evidence.time': 'pass',
      'evidence.debug': debug ? 'fail' : 'pass',
    });
    expect(claims).toMatchObject({
      tee: 'nitro',
      simulated: false,
      debug,
      moduleId: expected.module_id,
      timestamp: new Date(expected.timestamp),
      measurement: { tee: 'nitro', pcr0: expected.pcr0, pcr1: expected.pcr1, pcr2: expected.pcr2 },
    });
    expect([...(claims.pcrs?.keys() ?? [])]).toEqual(expected.pcr_idx);
    for (const index of [0, 1, 2, 3, 4, 8]) expect(claims.pcrs?.get(index)).toBe(expected[`pcr${index}`]);
    const unsigned = /^0+$/.test(expected.pcr8 ?? '');
    expect(claims.measurement).toEqual({
      ...{ tee: 'nitro', pcr0: expected.pcr0, pcr1: expected.pcr1, pcr2: expected.pcr2 },
      ...(unsigned ? {} : { pcr8: expected.pcr8 }),
    });
    for (const [field, text] of [
      ['publicKey', expected.public_key],
      ['userData', expected.user_data],
      ['nonce', expected.nonce],
    ] as const) {
      const found = (claims as Claims)[field];
      if (text === 'null') expect(found).toBeUndefined();
      else expect(`${found?.length} bytes ${hex(found ?? Buffer.alloc(0)).slice(0, 80)}`).toBe(text);
    }
  });

  test('the one with a broken signature is described so', () => {
    const { checks } = verifyNitro(open('04b-veracruz-bad-signature.cbor'), far);
    expect(checks.find(({ id }) => id === 'evidence.signature')?.detail).toMatch(/not the leaf certificate/);
  });

  test('a time outside the chain, before and after', () => {
    const document = open('04-veracruz-2022.cbor');
    expect(failed(document, { ...far, at: new Date('2022-11-10T01:52:00Z') })).toEqual([]);
    expect(failed(document, { ...far, at: new Date('2022-11-10T01:52:01Z') })).toEqual(['evidence.validity']);
    expect(failed(document, { ...far, at: new Date('2022-11-09T22:51:57Z') })).toEqual([]);
    expect(failed(document, { ...far, at: new Date('2022-11-09T22:51:56Z') })).toEqual(['evidence.validity']);
    expect(failed(document, { ...far, at: new Date('2021-01-01T00:00:00Z') })).toEqual([
      'evidence.validity',
      'evidence.time',
    ]);
  });

  test('a broker, which wants it recent', () =>
    expect(failed(open('04-veracruz-2022.cbor'), { ...far, at: far.now, maxAgeSeconds: 300 })).toEqual([
      'evidence.validity',
      'evidence.valid-now',
      'evidence.time',
    ]));

  test('another root given, and the right one given', () => {
    const document = open('04-veracruz-2022.cbor');
    const { checks } = verifyNitro(document, { ...far, roots: [nitroRoot] });
    expect(checks.filter(({ status }) => status === 'fail')).toEqual([
      expect.objectContaining({
        id: 'evidence.root',
        detail: 'given by --root in place of AWS Nitro Enclaves Root-G1',
      }),
    ]);
    const aws = readFileSync(vectors('nitro-docs', 'aws-nitro-root-g1.der'));
    const given = verifyNitro(document, { ...far, roots: [aws] }).checks;
    expect(given[0]).toMatchObject({ id: 'evidence.root', status: 'pass', detail: expect.stringContaining('--root') });
    expect(failed(document, { ...far, roots: [] })).toEqual(['evidence.root']);
  });
});

describe('pinned roots', () => {
  test.each([AWS_NITRO_ROOT, INTEL_SGX_ROOT, ...Object.values(AMD_ROOTS)])(
    '$name is what its fingerprint says',
    (root) => {
      const [der = Buffer.alloc(0), ...more] = fromPem(root.pem);
      expect(more).toEqual([]);
      expect(`sha256:${hex(sha256(der))}`).toBe(root.fingerprint);
      const certificate = new X509Certificate(der);
      expect(certificate.verify(certificate.publicKey)).toBe(true);
    },
  );

  test('have the fingerprints that the vendors publish', () =>
    expect(
      [AWS_NITRO_ROOT, INTEL_SGX_ROOT, AMD_ROOTS.Milan, AMD_ROOTS.Genoa, AMD_ROOTS.Turin].map((r) => r.fingerprint),
    ).toEqual([
      'sha256:641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b',
      'sha256:44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3',
      'sha256:69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd',
      'sha256:4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1',
      'sha256:1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a',
    ]));

  test('sign their intermediates', () => {
    const signed = AMD_INTERMEDIATES.map((pem, index) => {
      const [root] = fromPem(Object.values(AMD_ROOTS)[index]?.pem ?? '');
      return new X509Certificate(pem).verify(new X509Certificate(root ?? '').publicKey);
    });
    expect(signed).toEqual([true, true, true]);
  });
});

describe('a document under a root of our own', () => {
  test('verifies there and nowhere else', () => {
    expect(failed(nitroDocument())).toEqual([]);
    expect(failed(nitroDocument(), { allowSimulated: [], now })).toEqual(['evidence.root']);
  });

  test.each<[string, Change]>([
    ['tagged', { tagged: true }],
    ['an indefinite map', { indefinite: true }],
    ['optional fields absent', { without: ['public_key', 'user_data', 'nonce'] }],
    ['one register more, locked', { document: { pcrs: new Map([...registers(), [31, Buffer.alloc(48, 1)]]) } }],
    ['three registers only', { document: { pcrs: new Map([...registers()].slice(0, 3)) } }],
    [
      'the longest fields',
      { document: { public_key: Buffer.alloc(1024), user_data: Buffer.alloc(1024), nonce: Buffer.alloc(1024) } },
    ],
  ])('%s', (_, change) => expect(failed(nitroDocument(change))).toEqual([]));

  test.each<[string, Change, string]>([
    [
      'another content type',
      {
        header: new Map<number, unknown>([
          [1, -35],
          [3, 'application/x'],
        ]),
      },
      'ERR_EVIDENCE_MALFORMED',
    ],
    [
      'the simulated content type',
      {
        header: new Map<number, unknown>([
          [1, -35],
          [3, 'application/vnd.atoma.simulated+cbor'],
        ]),
      },
      'ERR_EVIDENCE_KIND',
    ],
    ['ES256 in the header', { header: new Map([[1, -7]]) }, 'ERR_EVIDENCE_MALFORMED'],
    ['no algorithm', { header: new Map() }, 'ERR_EVIDENCE_MALFORMED'],
    ['an emulator’s algorithm', { header: new Map([[1, -1]]) }, 'ERR_EVIDENCE_UNSIGNED'],
    ['an unprotected header', { unprotected: new Map([[4, Buffer.alloc(1)]]) }, 'ERR_EVIDENCE_MALFORMED'],
    ['an unknown field', { document: { extra: 1 } }, 'ERR_EVIDENCE_MALFORMED'],
    ['another digest', { document: { digest: 'SHA512' } }, 'ERR_EVIDENCE_MALFORMED'],
    ['no time', { without: ['timestamp'] }, 'ERR_EVIDENCE_MALFORMED'],
    ['no registers', { document: { pcrs: new Map() } }, 'ERR_EVIDENCE_MALFORMED'],
    ['no PCR0', { document: { pcrs: new Map([...registers()].slice(1)) } }, 'ERR_EVIDENCE_MALFORMED'],
    [
      'a register of 32 bytes',
      { document: { pcrs: new Map([...registers(), [3, Buffer.alloc(32)]]) } },
      'ERR_EVIDENCE_MALFORMED',
    ],
    [
      'register 32',
      { document: { pcrs: new Map([...registers(), [32, Buffer.alloc(48)]]) } },
      'ERR_EVIDENCE_MALFORMED',
    ],
    ['an empty cabundle', { document: { cabundle: [] } }, 'ERR_EVIDENCE_MALFORMED'],
    ['an empty public key', { document: { public_key: Buffer.alloc(0) } }, 'ERR_EVIDENCE_MALFORMED'],
    ['a nonce of 1025 bytes', { document: { nonce: Buffer.alloc(1025) } }, 'ERR_EVIDENCE_MALFORMED'],
    ['a certificate of 1025 bytes', { document: { certificate: Buffer.alloc(1025) } }, 'ERR_EVIDENCE_MALFORMED'],
    ['a certificate that is none', { document: { certificate: Buffer.alloc(64) } }, 'ERR_CERTIFICATE_MALFORMED'],
  ])('%s is refused as malformed', (_, change, expected) =>
    expect(code(() => verifyNitro(nitroDocument(change), trust()))).toBe(expected),
  );

  test('debug mode has its name', () => {
    const pcrs = new Map([...registers(), ...[0, 1, 2, 8].map((i): [number, Buffer] => [i, Buffer.alloc(48)])]);
    const { claims, checks } = verifyNitro(nitroDocument({ document: { pcrs } }), trust());
    expect(claims.debug).toBe(true);
    expect(checks.find(({ status }) => status === 'fail')).toMatchObject({
      id: 'evidence.debug',
      actual: expect.stringContaining('debug'),
    });
  });

  test('a released enclave shows it in PCR16', () => {
    const pcrs = new Map([...registers(), [16, Buffer.alloc(48, 7)]]);
    expect(verifyNitro(nitroDocument({ document: { pcrs } }), trust()).claims.pcrs?.get(16)).toBe('07'.repeat(48));
  });

  test('signed by another key', () =>
    expect(failed(nitroDocument({ signer: newKey().privateKey }))).toEqual(['evidence.signature']));

  test('a leaf on another curve', () => {
    const leafKeys = newKey('P-256');
    const parts = nitroDocument({ leafKeys, signer: newKey().privateKey });
    expect(failed(parts)).toEqual(['evidence.chain', 'evidence.signature']);
    expect(chainProblem({ leafKeys, signer: newKey().privateKey })).toContain('P-384');
  });

  test.each<[string, Change, string]>([
    ['an issuer on another curve', { zonal: { publicKey: newKey('P-256').publicKey } }, 'P-384'],
    ['an issuer of the same name with another key', { zonal: { publicKey: newKey().publicKey } }, 'not its issuer'],
    ['an issuer of another name', { zonal: { subject: 'Zonal' } }, 'another name'],
    [
      'an issuer that is no authority',
      { zonal: { extensions: [basicConstraints(false), SIGN_CERTIFICATES] } },
      'CA:TRUE',
    ],
    ['an issuer without constraints', { zonal: { extensions: [SIGN_CERTIFICATES] } }, 'CA:TRUE'],
    ['a leaf that is an authority', { leaf: { extensions: [basicConstraints(true), SIGN_DATA] } }, 'CA:FALSE'],
    [
      'a leaf that may not sign',
      { leaf: { extensions: [basicConstraints(false), keyUsage(5, 0x20)] } },
      'digitalSignature',
    ],
    ['a leaf without key usage', { leaf: { extensions: [basicConstraints(false)] } }, 'digitalSignature'],
  ])('%s', (_, change, expected) => expect(chainProblem(change)).toContain(expected));

  test.each<[string, Buffer]>([
    ['negative', Buffer.from([0x80])],
    ['empty', Buffer.alloc(0)],
    ['of 22 bytes', Buffer.alloc(22, 1)],
    ['not in its shortest form', Buffer.from([0, 1])],
  ])('a serial number that is %s', (_, serial) =>
    expect(code(() => verifyNitro(nitroDocument({ leaf: { serial } }), trust()))).toBe('ERR_CERTIFICATE_MALFORMED'),
  );

  test('the simulated mark in a leaf fails under any root', () => {
    for (const critical of [0xff, undefined]) {
      const mark = extension(SIMULATED_OID, SIMULATED_VALUE, critical);
      const leaf = { extensions: [basicConstraints(false), SIGN_DATA, mark] };
      expect(failed(nitroDocument({ leaf }))).toContain('evidence.simulated');
    }
  });

  test('expired since: said, and refused only where it has to be recent', () => {
    const leaf = { times: [utc('261122090000Z'), utc('261122120000Z')] as [Buffer, Buffer] };
    const later = new Date('2026-11-22T12:00:01Z');
    const { checks } = verifyNitro(nitroDocument({ leaf }), trust({ now: later }));
    expect(checks.find(({ id }) => id === 'evidence.valid-now')).toMatchObject({ status: 'skipped' });
    expect(failed(nitroDocument({ leaf }), trust({ now: later }))).toEqual([]);
    expect(failed(nitroDocument({ leaf }), trust({ now: later, maxAgeSeconds: 86400 }))).toEqual([
      'evidence.valid-now',
    ]);
  });

  test('made in the future, or too long ago', () => {
    expect(failed(nitroDocument({ document: { timestamp: now.getTime() + 301_000 } }))).toEqual(['evidence.time']);
    expect(failed(nitroDocument(), trust({ now: new Date(now.getTime() + 301_000), maxAgeSeconds: 300 }))).toEqual([
      'evidence.time',
    ]);
  });
});

test('simulated evidence is refused for what it is, with its own root given as root', async () => {
  const root = await createSimulatedRoot();
  const measured = { tee: 'nitro', pcr0: '01'.repeat(48), pcr1: '02'.repeat(48), pcr2: '03'.repeat(48) } as const;
  const evidence = await createSimulatedAttester(root, measured).attest({});
  const options = { allowSimulated: [root.fingerprint], now: new Date(), roots: [root.certificate] };
  expect(() => verifyNitro(evidence, options)).toThrow(
    expect.objectContaining({ code: 'ERR_EVIDENCE_KIND', message: expect.stringContaining('SIMULATED') }),
  );
  await expect(verifyEvidence(evidence, { ...options, tee: 'nitro' })).rejects.toMatchObject({
    code: 'ERR_EVIDENCE_KIND',
  });
  // `roots` never stands in for the roots of the simulated TEE.
  const { checks } = await verifyEvidence(evidence, { ...options, allowSimulated: [] });
  expect(checks.filter(({ status }) => status === 'fail').map(({ id }) => id)).toEqual(['evidence.root']);
});
