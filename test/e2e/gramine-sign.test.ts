/** SGX enclaves through the command line: measured, signed, looked at, judged. No SGX is needed for any of it. */
import { chmodSync, cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { smallPal } from '../unit/gramine/elf-file.ts';
import { haveVectors, vectors } from '../unit/vectors.ts';
import { atomaTee, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
afterAll(remove);
const at = (name: string) => join(dir, name);

const sign = (out: string, ...rest: string[]) => [
  ...['gramine', 'sign', '--manifest', at('app.manifest'), '--libpal', at('libpal.so')],
  ...['--out', at(`${out}.manifest.sgx`), '--sig', at(`${out}.sig`), ...rest],
];

beforeAll(() => {
  writeFileSync(at('libpal.so'), smallPal());
  writeFileSync(at('program'), 'of the enclave');
  writeFileSync(
    at('app.manifest'),
    `loader.entrypoint = "file:libos"
libos.entrypoint = "/program"
fs.mounts = [ { path = "/program", uri = "file:program" } ]
sgx.enclave_size = "16M"
sgx.trusted_files = [ "file:program" ]
`.replace('"file:libos"', `{ uri = "file:libos", sha256 = "${'ab'.repeat(32)}" }`),
  );
  ok(atomaTee(['keygen', '--type', 'sgx', '--out', at('sgx.key')]));
});

describe.skipIf(!haveVectors)('Gramine’s own bytes (skipped without the reference vectors)', () => {
  test.each(['05-trusted-directory', '09-elf-fixed-address'])('%s: sign writes them', (name) => {
    const meta = JSON.parse(readFileSync(vectors('gramine', name, 'meta.json'), 'utf8'));
    const out = at(`${name}.manifest.sgx`);
    const { json } = ok(
      atomaTee([
        ...['gramine', 'sign', '--manifest', vectors('gramine', name, 'app.manifest')],
        ...['--libpal', vectors('gramine/elf', meta.elf), '--key', vectors('gramine/key/throwaway-rsa3072-e3.pem')],
        ...['--date', meta.date, '--out', out, '--json'],
      ]),
    );
    const { mrenclave, mrsigner, isvprodid, isvsvn } = meta;
    expect(json).toEqual({
      measurement: { tee: 'sgx', mrenclave, mrsigner, isvprodid, isvsvn },
      manifest: out,
      sigstruct: at(`${name}.sig`),
    });
    expect(readFileSync(out).equals(readFileSync(vectors('gramine', name, 'app.manifest.sgx')))).toBe(true);
    expect(readFileSync(at(`${name}.sig`)).equals(readFileSync(vectors('gramine', name, 'app.sig')))).toBe(true);
  });
});

test('from a key to a verdict', () => {
  const { measurement } = ok(
    atomaTee([...sign('app', '--key', at('sgx.key')), '--json'], {
      cwd: dir,
      env: { SOURCE_DATE_EPOCH: '1738281600' },
    }),
  ).json;
  const { mrenclave, mrsigner } = measurement;
  const signature = ok(atomaTee(['inspect', at('app.sig'), '--json'])).json;
  expect(signature).toMatchObject({ measurement, date: '2025-01-31', signature: { valid: true }, verified: false });

  const layout = ok(atomaTee(['inspect', at('app.manifest.sgx'), '--libpal', at('libpal.so'), '--layout'])).stdout;
  const lines = layout.trimEnd().split('\n');
  expect(
    lines.some((line) => /^manifest {2,}0xfff000 {2,}0x1000 {2,}REG:R-- {2,}[0-9a-f]{64} {2}[0-9a-f]{64}$/.test(line)),
  ).toBe(true);
  expect(lines.at(-1)).toMatch(new RegExp(`^free .* ${mrenclave}$`));

  const verify = (expected: string) =>
    atomaTee(['verify', at('app.manifest.sgx'), '--libpal', at('libpal.so'), '--expect', `mrenclave=${expected}`]);
  expect(ok(verify(mrenclave)).stdout).toMatch(/PASS\s*$/);
  expect(verify('00'.repeat(32))).toMatchObject({
    code: 3,
    stdout: expect.stringMatching(/FAIL {2}wrong measurement\s*$/),
  });
  writeFileSync(at('app.manifest.sgx'), `${readFileSync(at('app.manifest.sgx'), 'utf8')} `);
  expect(verify(mrenclave).code).toBe(3);
  const lone = ['verify', at('app.sig'), '--expect', `mrsigner=${mrsigner}`, '--json'];
  expect(ok(atomaTee(lone)).json.results[0].notChecked).toContainEqual(expect.stringContaining('no libpal.so'));
});

test('the key stays in a token: a command signs, and writes the same bytes', () => {
  const token = at('token');
  writeFileSync(token, `#!/bin/sh\necho "slot $1" >&2\nexec openssl dgst -sha256 -sign "$TOKEN_KEY"\n`);
  chmodSync(token, 0o755);
  const date = ['--date', '2025-01-31'];
  ok(atomaTee(sign('here', '--key', at('sgx.key'), ...date), { cwd: dir }));
  const flags = ['--signer', `${token} 7`, '--public-key', at('sgx.key.pub'), ...date];
  const signed = ok(atomaTee(sign('token', ...flags), { cwd: dir, env: { TOKEN_KEY: at('sgx.key') } }));
  expect(signed.stderr).toContain('slot 7');
  expect(readFileSync(at('token.sig')).equals(readFileSync(at('here.sig')))).toBe(true);

  ok(atomaTee(['keygen', '--type', 'sgx', '--out', at('other.key')]));
  const lying = atomaTee([...sign('lie', ...flags), '--json'], { cwd: dir, env: { TOKEN_KEY: at('other.key') } });
  expect([lying.code, lying.json.error.code]).toEqual([3, 'ERR_SIGNER_SIGNATURE']);
  expect([existsSync(at('lie.sig')), existsSync(at('lie.manifest.sgx'))]).toEqual([false, false]);
});

test('today’s date is told of, on standard error', () => {
  const signed = ok(
    atomaTee([...sign('today', '--key', at('sgx.key')), '--json'], { cwd: dir, env: { SOURCE_DATE_EPOCH: '' } }),
  );
  expect(signed.stderr).toContain('--date or SOURCE_DATE_EPOCH');
  expect(signed.json.measurement.tee).toBe('sgx');
});

describe('refusals', () => {
  test.each<[string, string[], string]>([
    ['no key at all', [], 'ERR_USAGE'],
    ['a signer without its public key', ['--signer', 'true'], 'ERR_USAGE'],
    ['a key and a signer', ['--key', 'k', '--signer', 'true', '--public-key', 'p'], 'ERR_USAGE'],
    ['a key that is not there', ['--key', 'no-such.key'], 'ERR_FILE_NOT_FOUND'],
    ['no date', ['--key', 'sgx.key', '--date', '2025-13-01'], 'ERR_USAGE'],
  ])('%s', (_, flags, code) => {
    const refused = atomaTee([...sign('refused', ...flags), '--json'], { cwd: dir });
    expect([refused.code, refused.json.error.code]).toEqual([2, code]);
    expect([existsSync(at('refused.sig')), existsSync(at('refused.manifest.sgx'))]).toEqual([false, false]);
  });

  test('a manifest without libpal.so is not judged', () => {
    cpSync(at('app.manifest'), at('lone.manifest.sgx'));
    const refused = atomaTee(['verify', at('lone.manifest.sgx'), '--expect', 'none', '--json']);
    expect([refused.code, refused.json.error.code]).toEqual([2, 'ERR_NO_LIBPAL']);
  });
});
