import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { fail, pass, skipped } from '../../../src/core/check.ts';
import { headline, renderPage } from '../../../src/report/index.ts';
import { verify } from '../../../src/tasks/verify/index.ts';
import type { Attachment, FileResult, VerifyReport } from '../../../src/tasks/verify/report.ts';
import { haveVectors, vectors } from '../vectors.ts';

const evidence: FileResult['evidence'] = {
  tee: 'tdx',
  sha256: 'ab',
  size: 4,
  debug: false,
  registers: [
    { name: 'mrtd', expected: 'aa', actual: 'bb', same: false },
    { name: 'rtmr0', expected: 'cc', actual: 'cc', same: true },
    { name: 'rtmr1', actual: 'dd' },
  ],
  chain: [
    {
      subject: 'CN=Some Root, O=Vendor',
      issuer: 'CN=Some Root, O=Vendor',
      serial: '01',
      from: '2020-01-01T00:00:00.000Z',
      until: '2049-01-01T00:00:00.000Z',
      fingerprint: 'sha256:11',
    },
  ],
  tcb: { status: 'OutOfDate', advisories: ['INTEL-SA-00615'], evaluation: 17, date: '2024-03-13T00:00:00Z' },
};

function reportOf(result: Partial<FileResult>, policy: Partial<VerifyReport['policy']> = {}): VerifyReport {
  const whole: FileResult = {
    file: 'quote.bin',
    kind: 'evidence',
    title: 'attestation evidence',
    verdict: 'fail',
    simulated: false,
    checks: [],
    notChecked: [],
    ...result,
  };
  const { verdict, simulated } = whole;
  return {
    verdict,
    simulated,
    policy: { now: '2026-11-22T10:00:00.000Z', flags: {}, ...policy },
    results: [whole],
  };
}

const render = (report: VerifyReport, attachments: Attachment[] = []): string =>
  renderPage(report, { version: '0.0.0', attachments: new Map([[0, attachments]]) });
/** What a reader sees, more or less. */
const text = (page: string): string =>
  page
    .replace(/<style>.*<\/style>/s, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ');

describe('the page', () => {
  const report = reportOf(
    {
      evidence,
      checks: [
        pass('evidence.signature'),
        fail('measurement.mrtd', { expected: 'aa', actual: 'bb' }),
        skipped('nonce.none', 'the evidence may be old'),
      ],
      notChecked: ['the weather'],
    },
    { at: '2026-02-25T00:00:00.000Z', flags: { '--expect': ['mrtd=aa', 'rtmr0=cc'] } },
  );

  test('shows verdict, registers, chain, TCB status in words, policy, and what was not checked', () => {
    const seen = text(render(report));
    expect(seen).toContain('FAIL wrong measurement');
    expect(seen).toMatch(/MRTD aa bb ✘ DIFFERENT/);
    expect(seen).toMatch(/RTMR0 cc cc ✔ same/);
    expect(seen).toMatch(/1 register not compared RTMR1 dd/);
    expect(seen).toContain('Some Root');
    expect(seen).toMatch(/OutOfDate The platform lacks security updates.*INTEL-SA-00615/);
    expect(seen).toMatch(/--expect mrtd=aa rtmr0=cc/);
    expect(seen).toContain('2026-02-25 00:00:00 UTC');
    expect(seen).toMatch(/Not checked.*the weather.*nonce none: the evidence may be old/);
  });

  test('holds the bytes that were judged', () => {
    const bytes = Buffer.from([0, 1, 2, 255]);
    const page = render(report, [{ name: 'evidence.bin', bytes }]);
    const [, name, base64 = ''] =
      /download="([^"]+)" href="data:application\/octet-stream;base64,([^"]+)"/.exec(page) ?? [];
    expect(name).toBe('evidence.bin');
    expect(Buffer.from(base64, 'base64').equals(bytes)).toBe(true);
  });

  test('loads and runs nothing: the one style sheet is the one that its policy allows', () => {
    const page = render(report, [{ name: 'evidence.bin', bytes: Buffer.alloc(4) }]);
    const style = /<style>(.*)<\/style>/s.exec(page)?.[1] ?? '';
    const digest = createHash('sha256').update(style).digest('base64');
    const [, csp = ''] = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(page) ?? [];
    expect(csp.replaceAll('&#39;', "'")).toBe(
      `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'`,
    );
    expect(page).not.toMatch(/<script|<link|<img|<iframe|<form|\bsrc=|\bon\w+=|\bstyle=|@import|url\(|:\/\//i);
    for (const [, target] of page.matchAll(/\bhref="([^"]*)"/g))
      expect(target).toMatch(/^data:application\/octet-stream;base64,/);
  });
});

describe('hostile text stays text', () => {
  const attack = '"><script>alert(1)</script><img src=x onerror=alert(1)>\'&\u202e\u001b[2J\n</style></title>';
  const link = {
    ...(evidence?.chain[0] as NonNullable<typeof evidence>['chain'][number]),
    subject: `CN=${attack}`,
    issuer: attack,
  };
  const page = render(
    reportOf(
      {
        file: attack,
        checks: [
          fail(`evidence.${attack}`, { expected: attack, actual: attack, detail: attack }),
          fail('evidence.root', { expected: attack, detail: attack }),
        ],
        notChecked: [attack],
        evidence: {
          ...(evidence as NonNullable<typeof evidence>),
          module: attack,
          registers: [{ name: attack, expected: attack, actual: attack, same: true }],
          chain: [link],
          tcb: { status: attack, advisories: [attack] },
          facts: { [attack]: attack },
        },
      },
      { flags: { [attack]: [attack] } },
    ),
    [{ name: attack, bytes: Buffer.alloc(1) }],
  );

  test('in names, certificates, paths, flags and facts', () => {
    expect(page.match(/<(script|img)/g)).toBeNull();
    expect(page.match(/<\/style>/g)).toHaveLength(1);
    expect(page.match(/<\/title>/g)).toHaveLength(1);
    expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
    // Every tag is one of ours: a quote that ends an attribute would make another.
    for (const [tag] of page.matchAll(/<[^>]*>/g)) expect(tag.replace(/"[^"]*"/g, '')).not.toMatch(/onerror|alert/);
  });

  test('and cannot turn the reading direction or drive a terminal that shows the source', () => {
    expect(page.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});

describe('what reads at first glance', () => {
  const period = 'a time in 2024-01-01T00:00:00Z to 2024-02-01T00:00:00Z';
  test.each([
    ['wrong root', [fail('evidence.root', {}), fail('evidence.tcb', {})]],
    ['wrong root', [fail('evidence.tcb-info-signer-root', {})]],
    ['broken certificate chain', [fail('evidence.chain', {})]],
    ['signature does not hold', [fail('evidence.signature', {}), fail('measurement.pcr0', {})]],
    ['debug enclave: its memory is open to the host', [fail('measurement.debug', {}), fail('evidence.debug', {})]],
    ['expired', [fail('evidence.validity', { expected: period, actual: '2024-03-01T00:00:00Z' })]],
    ['not valid yet', [fail('evidence.tcb-info-time', { expected: period, actual: '2023-03-01T00:00:00Z' })]],
    ['wrong measurement', [fail('measurement.pcr0', {}), fail('nonce.equal', {})]],
    ['wrong nonce: it may be an old one', [fail('identity.nonce', {})]],
    ['revoked', [fail('evidence.pck-crl', { actual: 'serial 01 is revoked' })]],
    ['a revocation list is missing or does not hold', [fail('evidence.pck-crl', { actual: 'none' })]],
    ['signed by somebody else, or altered', [fail('signature.key', {}), fail('image.sha256', {})]],
    ['not signed', [fail('signature.present', {})]],
    ['the signature is over another build manifest', [fail('signature.payload', {})]],
    ['not the model that was signed', [fail('model.changed', {})]],
    ['platform not accepted: TCB status', [fail('policy.tcb', {})]],
    ['something new does not hold', [fail('something.new', {})]],
    ['nothing was checked', []],
  ])('%s', (reason, checks) => {
    const report = reportOf({ checks });
    expect(headline(report, report.results)).toMatchObject({ word: 'FAIL', reason });
    expect(text(render(report))).toContain(`FAIL ${reason}`);
  });

  test('a pass under a stand-in reads SIMULATED, not PASS', () => {
    const seen = text(render(reportOf({ verdict: 'pass', simulated: true, checks: [pass('evidence.signature')] })));
    expect(seen).toContain('SIMULATED no hardware vouches for this');
    expect(seen).not.toContain('PASS');
  });

  test('simulated evidence that nobody allowed is not called a wrong root', () => {
    const seen = text(render(reportOf({ simulated: true, checks: [fail('evidence.root', {})] })));
    expect(seen).toContain('FAIL simulated evidence, which was not allowed');
    expect(seen).toContain('SIMULATED: no hardware vouches for this');
  });

  test('a pass says what it rests on: any measurement, another root, a platform that is not up to date', () => {
    const seen = text(
      render(
        reportOf(
          { verdict: 'pass', evidence, checks: [pass('evidence.root'), skipped('measurement.any', 'any')] },
          { flags: { '--root': ['r.pem'], '--accept-tcb': ['OutOfDate'] } },
        ),
      ),
    );
    expect(seen).toContain('Any measurement was accepted');
    expect(seen).toContain('root was replaced');
    expect(seen).toContain('rated OutOfDate was accepted');
  });
});

describe.skipIf(!haveVectors)('genuine Nitro documents (skipped without the reference vectors)', () => {
  const judge = async (name: string, options: Partial<Parameters<typeof verify>[0]>) => {
    const attachments: Attachment[] = [];
    const report = await verify({
      files: [vectors('nitro-docs', name)],
      kind: 'nitro',
      expect: ['none'],
      allowSimulated: [],
      onAttachment: (_, attachment) => attachments.push(attachment),
      ...options,
    });
    return { report, page: render(report, attachments), attachments };
  };
  const pcr0 = '5fec1b73727425848d725d68f4a062c634061a035067bd0b9a6dc73e25ed5013dfe7ccbf8a7e9857eceb0841c4cb6ae6';

  test('at its time, with its chain of five and its own bytes', async () => {
    const { report, page, attachments } = await judge('05-marlin-2024.cbor', { expect: [`pcr0=${pcr0}`] });
    expect(report.results[0]?.evidence?.chain.map(({ subject }) => subject)).toHaveLength(5);
    expect(text(page)).toMatch(/PASS.*by the clock some of it has expired since.*PCR0 5fec1b\w+ 5fec1b\w+ ✔ same/);
    expect(attachments[0]?.bytes).toEqual(readFileSync(vectors('nitro-docs', '05-marlin-2024.cbor')));
  });

  test.each([
    ['wrong measurement', '05-marlin-2024.cbor', { expect: [`pcr0=${'ab'.repeat(48)}`] }],
    ['expired', '05-marlin-2024.cbor', { at: new Date('2024-08-08T00:00:00Z') }],
    ['not valid yet', '05-marlin-2024.cbor', { at: new Date('2024-08-07T06:30:00Z') }],
    ['wrong root', '05-marlin-2024.cbor', { root: vectors('dcap', 'Intel_SGX_Root_CA.pem') }],
    ['debug enclave', '01-evervault-debug-2022.cbor', {}],
    ['signature does not hold', '04b-veracruz-bad-signature.cbor', {}],
    ['unsigned: an emulator made it', '09-qemu-nitro-enclave-unsigned.cbor', {}],
  ])('%s', async (reason, name, options) => {
    expect(text((await judge(name, options)).page)).toContain(`FAIL ${reason}`);
  });
});
