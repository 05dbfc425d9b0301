import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { trustTree } from '../../../src/cli/trust-tree.ts';
import { readSgxSigner, type SgxSigner, sgxSettings } from '../../../src/gramine/index.ts';
import { parseManifest } from '../../../src/gramine/manifest.ts';
import { signedBytes } from '../../../src/gramine/sigstruct.ts';
import { completeSigstruct, unsignedSigstruct } from '../../../src/gramine/sigstruct-write.ts';
import { generateKey } from '../../../src/keys/generate.ts';
import { signGramine } from '../../../src/tasks/gramine-sign.ts';
import { inspect } from '../../../src/tasks/inspect.ts';
import { type VerifyOptions, verify } from '../../../src/tasks/verify/index.ts';
import { smallPal } from '../gramine/elf-file.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-verify-sgx-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const at = (...names: string[]) => join(dir, ...names);
const write = (name: string, content: string | Uint8Array): string => {
  writeFileSync(at(name), content);
  return at(name);
};

const text = (debug: boolean) => `loader.entrypoint = { uri = "file:/libos", sha256 = "${'ab'.repeat(32)}" }
libos.entrypoint = "/app"
fs.mounts = []
sgx.isvprodid = 3
sgx.isvsvn = 9
sgx.debug = ${debug}
sgx.enclave_size = "16M"
sgx.max_threads = 1
sgx.trusted_files = [ { uri = "file:/app", sha256 = "${'cd'.repeat(32)}" } ]
`;
const libpal = write('libpal.so', smallPal());
let signer: SgxSigner;
let mrenclave: string;

beforeAll(async () => {
  const key = write('sgx.key', generateKey('sgx').privatePem);
  signer = await readSgxSigner({ key });
  for (const name of ['app', 'debug']) {
    const manifest = write(`${name}.manifest`, text(name === 'debug'));
    const out = at(`${name}.manifest.sgx`);
    const { measurement } = await signGramine({ manifest, libpal, signer: { key }, date: '2025-01-31', out });
    if (name === 'app') mrenclave = measurement.mrenclave;
  }
});

const judge = async (files: string | string[], options: Partial<VerifyOptions> = {}) => {
  const expected = [`mrenclave=${mrenclave}`, `mrsigner=${signer.mrsigner}`];
  return verify({ files: [files].flat(), expect: expected, allowSimulated: [], libpal, ...options });
};
/** The ids of the checks that failed. */
const failed = async (...args: Parameters<typeof judge>) => {
  const report = await judge(...args);
  const ids = report.results.flatMap(({ checks }) =>
    checks.filter(({ status }) => status === 'fail').map(({ id }) => id),
  );
  expect(report.verdict).toBe(ids.length > 0 ? 'fail' : 'pass');
  return ids;
};

/** A copy of the enclave under another name, with changes. */
function copy(name: string, change: { manifest?: (text: string) => string; sig?: (bytes: Buffer) => void }): string {
  const manifest = readFileSync(at('app.manifest.sgx'), 'utf8');
  const sig = readFileSync(at('app.sig'));
  change.sig?.(sig);
  write(`${name}.sig`, sig);
  return write(`${name}.manifest.sgx`, change.manifest?.(manifest) ?? manifest);
}

/** Fields changed by whoever has the signer's key. */
async function resigned(name: string, change: (bytes: Buffer) => void, by = signer): Promise<string> {
  const settings = sgxSettings(parseManifest(readFileSync(at('app.manifest.sgx'), 'utf8'), 'app'));
  const bytes = unsignedSigstruct(settings, mrenclave, '2025-01-31');
  change(bytes);
  completeSigstruct(bytes, by.modulus, await by.sign(signedBytes(bytes)));
  return copy(name, { sig: (sig) => bytes.copy(sig) });
}

describe('an enclave that is whole', () => {
  test('both halves, each found by the other', async () => {
    const report = await judge([at('app.manifest.sgx'), at('app.sig')]);
    expect(report.results.map(({ kind, verdict }) => [kind, verdict])).toEqual([
      ['gramine-manifest', 'pass'],
      ['sigstruct', 'pass'],
    ]);
    for (const file of ['app.manifest.sgx', 'app.sig']) {
      expect(await failed(at(file))).toEqual([]);
      expect(await failed(at(file), { expect: [`mrenclave=${mrenclave}`, 'isvprodid=3', 'isvsvn=9'] })).toEqual([]);
    }
  });

  test('halves with names of their own, named together', async () => {
    mkdirSync(at('apart'), { recursive: true });
    cpSync(at('app.manifest.sgx'), at('apart/one'));
    cpSync(at('app.sig'), at('apart/two'));
    expect(await failed([at('apart/one'), at('apart/two')])).toEqual([]);
    const [result] = (await judge(at('apart/two'), { libpal: undefined })).results;
    expect(result?.notChecked).toContainEqual(expect.stringContaining('not beside'));
  });

  test('libpal.so is found in NAME.gramine', async () => {
    mkdirSync(at('built.gramine'), { recursive: true });
    cpSync(libpal, at('built.gramine/libpal.so'));
    copy('built', {});
    const report = await judge(at('built.manifest.sgx'), { libpal: undefined });
    expect(report.results[0]?.checks).toContainEqual(
      expect.objectContaining({ id: 'measurement.signed', status: 'pass' }),
    );
    expect(report.verdict).toBe('pass');
  });

  test('--expect none: any enclave, which the verdict says', async () => {
    const report = await judge(at('app.sig'), { expect: ['none'] });
    expect(report.verdict).toBe('pass');
    expect(report.results[0]?.notChecked).toContainEqual(expect.stringContaining('who signed'));
  });
});

describe('what is not there is not checked, and not passed in silence', () => {
  test('a manifest without libpal.so: nothing ties its bytes to a measurement', async () => {
    const refused = judge(at('app.manifest.sgx'), { libpal: undefined });
    await expect(refused).rejects.toMatchObject({ code: 'ERR_NO_LIBPAL', exitCode: 2 });
    await expect(judge(at('app.manifest.sgx'), { libpal: undefined, expect: ['none'] })).rejects.toMatchObject({
      code: 'ERR_NO_LIBPAL',
    });
  });

  test('a signature without libpal.so: said', async () => {
    const [result] = (await judge(at('app.sig'), { libpal: undefined })).results;
    expect(result?.verdict).toBe('pass');
    expect(result?.notChecked).toContainEqual(expect.stringContaining('no libpal.so'));
  });

  test('a manifest without a signature: its measurement is checked, its signer is not, and fails where one is expected', async () => {
    const lone = write('lone.manifest.sgx', readFileSync(at('app.manifest.sgx')));
    const [result] = (await judge(lone, { expect: [`mrenclave=${mrenclave}`] })).results;
    expect([result?.verdict, result?.notChecked]).toEqual([
      'pass',
      expect.arrayContaining([expect.stringContaining('no NAME.sig')]),
    ]);
    expect(await failed(lone)).toEqual(['measurement.mrsigner']);
  });

  test('no expectation is an error', async () => {
    for (const file of ['app.manifest.sgx', 'app.sig']) {
      await expect(judge(at(file), { expect: [] })).rejects.toMatchObject({ code: 'ERR_NO_EXPECTATION', exitCode: 2 });
    }
  });

  test('--libpal without a manifest, or for a file that has none', async () => {
    const lone = write('lone-signature.sig', readFileSync(at('app.sig')));
    await expect(judge(lone)).rejects.toMatchObject({ code: 'ERR_USAGE', exitCode: 2 });
    await expect(judge(lone, { kind: 'eif' })).rejects.toMatchObject({ code: 'ERR_USAGE', exitCode: 2 });
  });

  test('a security version expected twice, or one that is no number', async () => {
    for (const expected of [['isvsvn=9', 'isvsvn=10'], ['isvsvn='], ['isvprodid=0x3'], ['isvsvn=-9']]) {
      await expect(judge(at('app.sig'), { expect: expected })).rejects.toMatchObject({
        code: 'ERR_USAGE',
        exitCode: 2,
      });
    }
  });

  test('a signer alone does not say which program it is', async () => {
    const [result] = (await judge(at('app.sig'), { expect: [`mrsigner=${signer.mrsigner}`] })).results;
    expect(result?.notChecked).toContainEqual(expect.stringContaining('which program of its signer'));
  });
});

describe('attacks on an enclave', () => {
  const both = (name: string) => [at(`${name}.manifest.sgx`), at(`${name}.sig`)];

  test.each<[string, (manifest: string) => string]>([
    ['another trusted file', (manifest) => manifest.replace('cdcd', 'cdce')],
    ['a trusted file more', (manifest) => `${manifest}\n[[sgx.trusted_files]]\nuri = "file:/evil"\n`],
    ['one space', (manifest) => `${manifest} `],
    [
      'an option that no attribute shows',
      (manifest) => manifest.replace('[sgx]', '[sgx]\nfile_check_policy = "allow_all_but_log"'),
    ],
  ])('an altered manifest: %s', async (_, change) => {
    copy('altered', { manifest: change });
    const ids = ['measurement.signed', 'measurement.mrenclave'];
    expect(await failed(at('altered.manifest.sgx'))).toEqual(ids);
    expect(await failed(at('altered.sig'))).toEqual(ids);
  });

  test('a manifest that asks for other settings than were signed, without libpal.so to measure it', async () => {
    copy('settings', {
      manifest: (manifest) => manifest.replace('isvsvn = 9', 'isvsvn = 10').replace('debug = false', 'debug = true'),
    });
    const ids = await failed(at('settings.sig'), { libpal: undefined });
    expect(ids).toEqual(['sigstruct.flags', 'sigstruct.isvsvn']);
  });

  test('another libpal.so', async () => {
    const pal = smallPal();
    pal[0x1010] = (pal[0x1010] ?? 0) ^ 1;
    const ids = ['measurement.signed', 'measurement.mrenclave'];
    expect(await failed(at('app.manifest.sgx'), { libpal: write('other.so', pal) })).toEqual(ids);
  });

  test('a signature altered where it is signed, in itself, in its key', async () => {
    for (const offset of [0x10, 0x14, 0x3a0, 0x3c0, 0x402, 0x204, 0x80]) {
      copy('bits', { sig: (sig) => sig.writeUInt8((sig[offset] ?? 0) ^ 0x40, offset) });
      expect(await failed(both('bits'))).toContain('sigstruct.signature');
    }
  });

  test('q1 or q2 wrong', async () => {
    for (const offset of [0x410, 0x590]) {
      copy('quotients', { sig: (sig) => sig.writeUInt8((sig[offset] ?? 0) ^ 1, offset) });
      expect(await failed(at('quotients.sig'))).toEqual(['sigstruct.quotients']);
    }
  });

  test('signed by another key', async () => {
    const other = await readSgxSigner({ key: write('other.key', generateKey('sgx').privatePem) });
    await resigned('other', () => {}, other);
    expect(await failed(at('other.sig'))).toEqual(['measurement.mrsigner']);
    expect(await failed(at('other.manifest.sgx'))).toEqual(['measurement.mrsigner']);
  });

  test('the signature of another enclave of the same signer', async () => {
    write('swapped.manifest.sgx', readFileSync(at('app.manifest.sgx')));
    write('swapped.sig', readFileSync(at('debug.sig')));
    const ids = await failed(at('swapped.manifest.sgx'));
    expect(ids).toEqual(['sigstruct.flags', 'measurement.debug', 'measurement.signed']);
    // The signature's own MRENCLAVE is what it is judged by where nothing can be computed.
    expect(await failed(at('swapped.sig'), { libpal: undefined })).toContain('measurement.mrenclave');
  });

  test.each<[string, string[], (bytes: Buffer) => void]>([
    ['a lower security version', ['sigstruct.isvsvn', 'measurement.isvsvn'], (bytes) => bytes.writeUInt16LE(8, 0x402)],
    ['another product', ['sigstruct.isvprodid', 'measurement.isvprodid'], (bytes) => bytes.writeUInt16LE(4, 0x400)],
    [
      'a mask that leaves DEBUG to the host',
      ['sigstruct.flagsmask', 'measurement.debug'],
      (bytes) => bytes.writeUInt8(0xfd, 0x3b0),
    ],
    ['the right to provisioning keys', ['sigstruct.flags'], (bytes) => bytes.writeUInt8(0x14, 0x3a0)],
    ['MPX switched on', ['sigstruct.xfrm'], (bytes) => bytes.writeUInt8(0x1b, 0x3a8)],
    ['a mask that leaves MPX open', ['sigstruct.xfrmmask'], (bytes) => bytes.writeUInt8(0x03, 0x3b8)],
    ['MISCSELECT', ['sigstruct.miscselect'], (bytes) => bytes.writeUInt8(1, 0x384)],
    ['a mask of MISCSELECT', ['sigstruct.miscmask'], (bytes) => bytes.writeUInt32LE(0, 0x388)],
    ['CET attributes', ['sigstruct.cetattributes'], (bytes) => bytes.writeUInt8(1, 0x38c)],
    ['a family', ['sigstruct.isvfamilyid'], (bytes) => bytes.writeUInt8(1, 0x390)],
    ['an extended product', ['sigstruct.isvextprodid'], (bytes) => bytes.writeUInt8(1, 0x3f0)],
    ['another program', ['measurement.signed'], (bytes) => bytes.writeUInt8(1, 0x3c0)],
  ])('rightly signed, and not what the manifest asks for: %s', async (_, ids, change) => {
    await resigned('resigned', change);
    const expected = [`mrenclave=${mrenclave}`, `mrsigner=${signer.mrsigner}`, 'isvprodid=3', 'isvsvn=9'];
    expect(await failed(at('resigned.manifest.sgx'), { expect: expected })).toEqual(ids);
  });

  test('another measurement than expected', async () => {
    const expected = [`mrenclave=${'00'.repeat(32)}`];
    expect(await failed(at('app.manifest.sgx'), { expect: expected })).toEqual(['measurement.mrenclave']);
    expect(await failed(at('app.sig'), { libpal: undefined, expect: expected })).toEqual(['measurement.mrenclave']);
    expect(await failed(at('app.sig'), { expect: [`pcr0=${'00'.repeat(48)}`] })).toEqual(['measurement.pcr0']);
  });

  test('a DEBUG enclave is called that, and passes only where one was asked for, with a warning', async () => {
    const files = both('debug');
    const report = await judge(files, { expect: ['none'] });
    expect(trustTree(report)).toMatch(/DEBUG enclave: whoever runs it can read its memory/);
    expect(await failed(files, { expect: ['none'] })).toEqual(['measurement.debug', 'measurement.debug']);
    const accepted = await judge(files, { expect: ['none'], acceptDebug: true });
    expect(accepted.verdict).toBe('pass');
    expect(trustTree(accepted)).toMatch(/A DEBUG enclave was accepted/);
    // The manifest alone says it too.
    const lone = write('lone-debug.manifest.sgx', readFileSync(at('debug.manifest.sgx')));
    expect(await failed(lone, { expect: ['none'] })).toEqual(['measurement.debug']);
  });

  test('files that cannot be read are a failed check with their code', async () => {
    copy('broken', { manifest: () => '[sgx]\nmax_threads = \n', sig: (sig) => sig.writeUInt8(9, 0x404) });
    const report = await judge(both('broken'));
    const details = report.results.map(({ checks }) => checks.map(({ detail }) => detail?.match(/ERR_\w+/)?.[0]));
    expect(details).toEqual([['ERR_SIGSTRUCT_MALFORMED'], ['ERR_SIGSTRUCT_MALFORMED']]);
    expect(await failed(write('alone.manifest.sgx', '[sgx]\nmax_threads = \n'))).toEqual(['manifest.format']);
    const damaged = { libpal: write('cut.so', smallPal().subarray(0, 0x100)) };
    expect(await failed(at('app.manifest.sgx'), damaged)).toEqual(['measurement.computed']);
  });
});

describe('inspect', () => {
  const json = (value: unknown) => JSON.parse(JSON.stringify(value));

  test('a manifest: settings, number of trusted files, and with libpal.so its MRENCLAVE', async () => {
    const without = json(await inspect(at('app.manifest.sgx'), {}));
    expect(without).toMatchObject({
      kind: 'gramine-manifest',
      verified: false,
      settings: { enclaveSize: 16 << 20, edmm: false, maxThreads: 1, isvprodid: 3, isvsvn: 9, debug: false },
      entrypoint: 'file:/libos',
      trustedFiles: 1,
    });
    expect(without).not.toHaveProperty('mrenclave');
    expect(await inspect(at('app.manifest.sgx'), { libpal })).toMatchObject({ mrenclave });
  });

  test('--layout: areas that end in MRENCLAVE; refused without libpal.so, or for other files', async () => {
    const { areas } = json(await inspect(at('app.manifest.sgx'), { libpal, layout: true }));
    expect(areas[0]).toMatchObject({ name: 'manifest', address: '0xfff000', size: 4096, flags: 'REG:R--' });
    expect(areas.at(-1)).toMatchObject({ name: 'free', running: mrenclave });
    await expect(inspect(at('app.manifest.sgx'), { layout: true })).rejects.toMatchObject({ code: 'ERR_NO_LIBPAL' });
    await expect(inspect(at('app.sig'), { layout: true, libpal })).rejects.toMatchObject({ code: 'ERR_USAGE' });
  });

  test('a signature: every field, and whether it is valid', async () => {
    const found = json(await inspect(at('app.sig'), {}));
    expect(found).toMatchObject({
      kind: 'sigstruct',
      verified: false,
      measurement: { tee: 'sgx', mrenclave, mrsigner: signer.mrsigner, isvprodid: 3, isvsvn: 9 },
      debug: false,
      signature: { valid: true, quotients: 'right' },
      date: '2025-01-31',
      attributes: { flags: '0x0000000000000004', xfrm: '0x0000000000000003' },
    });
    copy('inspected', { sig: (sig) => sig.writeUInt8(0xff, 0x3c0) });
    expect(await inspect(at('inspected.sig'), {})).toMatchObject({ signature: { valid: false } });
  });

  test('what Gramine calls insecure is listed', async () => {
    const manifest = readFileSync(at('app.manifest.sgx'), 'utf8').replace(
      '[sgx]',
      '[sgx]\ninsecure__rpc_thread_num = 2',
    );
    expect(await inspect(write('insecure.manifest.sgx', manifest), {})).toMatchObject({
      insecure: ['sgx.insecure__rpc_thread_num'],
    });
  });
});
