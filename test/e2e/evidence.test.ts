/** Genuine evidence of vendors' hardware, through the command line, each at its own time. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { haveVectors, vectors } from '../unit/vectors.ts';
import { atomaTee, type Outcome, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
afterAll(remove);
const at = (name: string) => join(dir, name);
const verify = (file: string, ...args: string[]): Outcome => atomaTee(['verify', file, '--json', ...args]);
const failed = ({ json }: Outcome): string[] =>
  json.results[0].checks.flatMap(({ id, status }: { id: string; status: string }) => (status === 'fail' ? [id] : []));

describe.skipIf(!haveVectors)('AWS Nitro (skipped without the reference vectors)', () => {
  const document = vectors('nitro-docs', '05-marlin-2024.cbor');
  const registers = [
    'pcr0=5fec1b73727425848d725d68f4a062c634061a035067bd0b9a6dc73e25ed5013dfe7ccbf8a7e9857eceb0841c4cb6ae6',
    'pcr1=bcdf05fefccaa8e55bf2c8d6dee9e79bbff31e34bf28a99aa19e6b29c37ee80b214a414b7607236edf26fcb78654e63f',
    'pcr2=ae41ca22df64a32d729667160a7f218e59e31586809e121ff2c446a36dc5354ba4e0f74dce737be3298cf82c364692e7',
  ].flatMap((register) => ['--expect', register]);

  test.each(['02-evervault-signed-pcr8-2022.cbor', '04-veracruz-2022.cbor', '05-marlin-2024.cbor'])(
    '%s holds at its own time, and says that it has expired since',
    (name) => {
      const outcome = verify(vectors('nitro-docs', name), '--kind', 'nitro', '--expect', 'none');
      expect(outcome.code).toBe(0);
      const [{ checks, evidence }] = outcome.json.results;
      expect(checks).toContainEqual(expect.objectContaining({ id: 'evidence.valid-now', status: 'skipped' }));
      expect(evidence).toMatchObject({ tee: 'nitro', debug: false });
    },
  );

  test('its registers', () => {
    expect(verify(document, '--kind', 'nitro', ...registers).code).toBe(0);
  });

  test.each([
    ['another time', '05-marlin-2024.cbor', ['--at', '2024-08-08T00:00:00Z'], ['evidence.validity']],
    ['another root', '05-marlin-2024.cbor', ['--root', vectors('dcap', 'Intel_SGX_Root_CA.pem')], ['evidence.root']],
    ['a signature that was changed', '04b-veracruz-bad-signature.cbor', [], ['evidence.signature']],
    ['a debug enclave', '01-evervault-debug-2022.cbor', [], ['evidence.debug']],
    ['an emulator’s document', '09-qemu-nitro-enclave-unsigned.cbor', [], ['evidence.format']],
    ['another nonce', '04-veracruz-2022.cbor', ['--nonce', '00'.repeat(16)], ['nonce.equal']],
  ])('%s is refused for that', (_, name, args, checks) => {
    const outcome = verify(vectors('nitro-docs', name), '--kind', 'nitro', '--expect', 'none', ...args);
    expect(outcome.code).toBe(3);
    expect(failed(outcome)).toEqual(checks);
  });

  test('a release policy in place of the measurement: one of its alternatives has to hold, and its end counts', () => {
    const [pcr0, pcr1, pcr2] = registers.filter((word) => word !== '--expect').map((word) => word.split('=')[1]);
    const other = { tee: 'nitro', pcr0: '0a'.repeat(48), pcr1, pcr2 };
    const judge = (of: object) => {
      writeFileSync(at('policy.json'), JSON.stringify({ project: 'p', model: 'ab'.repeat(32), any: [other], ...of }));
      return verify(document, '--kind', 'nitro', '--policy', at('policy.json'));
    };
    const any = [other, { tee: 'nitro', pcr0, pcr1, pcr2 }];
    expect(judge({ any }).code).toBe(0);
    const wrong = judge({});
    expect([wrong.code, failed(wrong)]).toEqual([3, ['policy.measurement']]);
    expect(failed(judge({ any, not_after: 1 }))).toEqual(['policy.not-after']);
    const manifest = atomaTee([
      'verify',
      at('policy.json'),
      '--kind',
      'receipt',
      '--policy',
      at('policy.json'),
      '--json',
    ]);
    expect(manifest.json.error.code).toBe('ERR_USAGE');
  });

  test('a document does not choose its verifier', () => {
    const outcome = verify(document, '--kind', 'tdx', '--expect', 'none');
    expect(outcome.code).toBe(3);
    expect(outcome.json.results[0].checks[0].detail).toContain('ERR_EVIDENCE_KIND');
  });

  test('the page says what the terminal says, and carries the document', () => {
    const page = at('verdict.html');
    const outcome = atomaTee(['verify', document, '--expect', `pcr0=${'ab'.repeat(48)}`, '--html', page, '--no-color']);
    expect(outcome.code).toBe(3);
    expect(outcome.stdout.trimEnd().split('\n').at(-1)).toBe('FAIL  wrong measurement');
    const html = readFileSync(page, 'utf8');
    expect(html).toContain('wrong measurement</h1>');
    expect(html).toContain(`base64,${readFileSync(document).toString('base64')}"`);
  });

  test('no page is left where there is no verdict', () => {
    const page = at('none.html');
    expect(verify(document, '--html', page).code).toBe(2);
    expect(existsSync(page)).toBe(false);
  });
});

describe.skipIf(!haveVectors)('Intel SGX and TDX (skipped without the reference vectors)', () => {
  const dcap = (name: string) => vectors('dcap', name);
  const collateral = (name: string, files: string[]) => {
    ok(atomaTee(['endorsements', 'import', ...files, '--out', at(name)]));
    return ['--endorsements', at(name)];
  };
  let sgx: string[];
  let tdx: string[];
  let sample: string[];
  beforeAll(() => {
    sgx = collateral('sgx', [dcap('phala-sgx-collateral.json')]);
    tdx = collateral('tdx', [dcap('google-tdx-v5-collateral.json')]);
    const parts = ['intermediateCaCrl.der', 'pckCert.pem', 'pckSignChain.pem', 'qeIdentity.json', 'rootCaCrl.der'];
    parts.push('tcbInfo.json', 'tcbSignChain.pem', 'trustedRootCaCert.pem');
    sample = collateral(
      'sample',
      parts.map((part) => dcap(`intel-sgx-sample.${part}`)),
    );
  });
  const judge = (file: string, kind: string, time: string, ...args: string[]) =>
    verify(dcap(file), '--kind', kind, '--at', time, '--expect', 'none', ...args);
  const SGX = ['phala-sgx-quote.bin', 'sgx', '2025-07-04T10:28:44Z'] as const;

  test('a TDX quote of a platform that is up to date', () => {
    const outcome = judge('google-tdx-v5.bin', 'tdx', '2026-02-25T00:00:00Z', ...tdx);
    expect(failed(outcome)).toEqual([]);
    expect(outcome.code).toBe(0);
    expect(outcome.json.results[0].evidence).toMatchObject({ tee: 'tdx', tcb: { status: 'UpToDate', advisories: [] } });
  });

  test('a TDX quote after its collateral has ended', () => {
    const outcome = judge('google-tdx-v5.bin', 'tdx', '2026-03-04T00:00:00Z', ...tdx);
    expect(outcome.code).toBe(3);
    expect(failed(outcome)).toContain('evidence.tcb-info-time');
  });

  test('an SGX quote is refused for its rating, by name accepted', () => {
    const refused = judge(...SGX, ...sgx);
    expect(refused.code).toBe(3);
    expect(failed(refused)).toEqual(['policy.tcb']);
    expect(refused.json.results[0].evidence.tcb).toMatchObject({
      status: 'ConfigurationAndSWHardeningNeeded',
      advisories: ['INTEL-SA-00289', 'INTEL-SA-00615'],
    });
    expect(judge(...SGX, ...sgx, '--accept-tcb', 'ConfigurationAndSWHardeningNeeded').code).toBe(0);
  });

  test('without collateral nothing passes', () => {
    const outcome = judge(...SGX);
    expect(outcome.code).toBe(3);
    expect(failed(outcome)).toEqual(expect.arrayContaining(['evidence.root-crl', 'evidence.tcb-info']));
  });

  test('a status that nobody may accept is bad usage', () => {
    expect(judge(...SGX, ...sgx, '--accept-tcb', 'Revoked').code).toBe(2);
  });

  test('Intel’s own sample is refused under the real root, and holds under the one that is given', () => {
    const quote = ['intel-sgx-sample.quote.dat', 'sgx', '2020-08-01T00:00:00Z'] as const;
    const refused = judge(...quote, ...sample);
    expect(refused.code).toBe(3);
    expect(failed(refused)).toContain('evidence.root');
    const root = dcap('intel-sgx-sample.trustedRootCaCert.pem');
    const accepted = atomaTee(
      ['verify', dcap(quote[0]), '--kind', 'sgx', '--at', quote[2], '--expect', 'none', ...sample].concat(
        '--root',
        root,
      ),
    );
    expect(accepted.code).toBe(0);
    expect(accepted.stdout).toMatch(/mind:\n(.*\n)*.*root was replaced/);
  });
});

describe.skipIf(!haveVectors)('AMD SEV-SNP (skipped without the reference vectors)', () => {
  const report = vectors('snp', 'google-milan-report.bin');

  test('a genuine Milan report: signed by AMD’s chain, refused as Milan and as a debug guest', () => {
    ok(atomaTee(['endorsements', 'import', vectors('snp', 'google-milan-vcek.der'), '--out', at('snp')]));
    const args = ['--kind', 'snp', '--expect', 'none', '--endorsements', at('snp')];
    const outcome = verify(report, ...args);
    expect(outcome.code).toBe(3);
    expect(failed(outcome)).toEqual(['evidence.debug', 'policy.product']);
    expect(failed(verify(report, ...args, '--accept-product', 'Milan'))).toEqual(['evidence.debug']);
  });

  test('without the chip’s certificate: a prerequisite is missing, and where to get it', () => {
    const outcome = verify(report, '--kind', 'snp', '--expect', 'none');
    expect(outcome.code).toBe(5);
    expect(outcome.json.error).toMatchObject({
      code: 'ERR_ENDORSEMENTS_MISSING',
      hint: expect.stringContaining('chip'),
    });
  });
});

describe('endorsements import', () => {
  const certificate = (name: string) => readFileSync(vectors('snp', name));

  test('what cannot be read is refused before anything is written', () => {
    mkdirSync(at('in'));
    writeFileSync(at('in/broken.crl'), 'not a list');
    const outcome = atomaTee(['endorsements', 'import', at('in'), '--out', at('out'), '--json']);
    expect(outcome.code).toBe(2);
    expect(outcome.json.error.code).toBe('ERR_ENDORSEMENTS_MALFORMED');
    expect(existsSync(at('out'))).toBe(false);
  });

  test.skipIf(!haveVectors)('twice changes nothing, and says so (skipped without the reference vectors)', () => {
    writeFileSync(at('vcek.der'), certificate('google-milan-vcek.der'));
    const run = () => ok(atomaTee(['endorsements', 'import', at('vcek.der'), '--out', at('twice'), '--json'])).json;
    const [first, second] = [run(), run()];
    expect(first.endorsements).toMatchObject([{ kind: 'certificate', added: true }]);
    expect(second.endorsements).toEqual([{ ...first.endorsements[0], added: false }]);
  });
});

test('a broker takes endorsements, and refuses to start with broken ones', () => {
  ok(atomaTee(['keygen', '--type', 'broker', '--out', at('broker.key')]));
  writeFileSync(at('broken.crl'), 'not a list');
  const args = ['broker', 'serve', '--key', at('broker.key'), '--listen', '127.0.0.1:0', '--json'];
  const outcome = atomaTee([...args, '--endorsements', at('broken.crl')]);
  expect(outcome.code).toBe(2);
  expect(outcome.json.error.code).toBe('ERR_ENDORSEMENTS_MALFORMED');
});
