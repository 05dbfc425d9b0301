import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseEvidenceFile } from '../../../src/attest/evidence-file.ts';
import { checkIdentity } from '../../../src/attest/identity.ts';
import { verifyEvidence } from '../../../src/attest/verify.ts';
import { verifyReceiptAgainst } from '../../../src/attest/verify-receipt.ts';
import { requestRelease } from '../../../src/broker/index.ts';
import { allPass } from '../../../src/core/check.ts';
import type { MeasuredConfig } from '../../../src/core/measured-config.ts';
import { connectHost } from '../../../src/enclave/connect-host.ts';
import { createGramineAttester } from '../../../src/enclave/gramine/attester.ts';
import { connectLauncher } from '../../../src/enclave/gramine/connect.ts';
import { findGramine, type GramineDevice } from '../../../src/enclave/gramine/device.ts';
import { createIdentity } from '../../../src/enclave/identity.ts';
import { createReceiptSigner } from '../../../src/enclave/receipts.ts';
import type { SgxPolicy } from '../../../src/seal/policy.ts';
import { AT, FakeIntel } from '../attest/dcap/fake-intel.ts';
import { dcapFile, haveVectors } from '../attest/dcap/vectors.ts';
import { model, newBroker, newOwner, seal } from '../broker/fixture.ts';

vi.spyOn(console, 'log').mockImplementation(() => {});

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Files as Gramine's device has them, but for what only a CPU can do: the quote is the same whatever was written. */
function tree(files: Record<string, string | Uint8Array> = {}): GramineDevice {
  const directory = join(root, 'dev/attestation');
  mkdirSync(join(directory, 'keys'), { recursive: true });
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(directory, name), bytes);
  return findGramine(root) as GramineDevice;
}

const channel = {
  attest: async () => Buffer.from('of the launcher'),
  lock: vi.fn(async () => {}),
};
const CONFIG: MeasuredConfig = {
  version: 1,
  project: 'echo',
  projectVersion: '1.0.0',
  policyVersion: '7',
  model: { digest: model, owner: 'cd'.repeat(32) },
  runtime: { kind: 'onnx' },
};
const REPORT_DATA = 48 + 320;
/** The genuine quote over other report data: what it would be if this machine were that one; its signature no longer holds. */
const genuine = (reportData = Buffer.alloc(64)) => {
  const quote = Buffer.from(dcapFile('phala-sgx-quote.bin'));
  reportData.copy(quote, REPORT_DATA);
  return quote;
};
const refusal = { code: 'ERR_ATTESTER', exitCode: 5 };

describe('the device', () => {
  test('where there is none, this is not Gramine', () => expect(findGramine(root)).toBeUndefined());

  test('says its type; its absence says that there is no SGX', () => {
    expect(tree().attestationType()).toBeUndefined();
    expect(tree({ attestation_type: 'dcap\n' }).attestationType()).toBe('dcap');
  });

  test('a type that cannot be read is no absence', () => {
    mkdirSync(join(root, 'dev/attestation/attestation_type'), { recursive: true });
    expect(() => tree().attestationType()).toThrow(expect.objectContaining(refusal));
  });

  test('takes report data whole, and gives what is there to read', () => {
    const device = tree({ user_report_data: Buffer.alloc(64), quote: 'a quote' });
    expect(device.quote(Buffer.alloc(64, 7)).toString()).toBe('a quote');
    expect(readFileSync(join(root, 'dev/attestation/user_report_data'))).toEqual(Buffer.alloc(64, 7));
    expect(() => device.quote(Buffer.alloc(32))).toThrow(TypeError);
  });

  test('without a file to write to or to read from, and with a quote that does not end', () => {
    const device = tree();
    const attempt = () => device.quote(Buffer.alloc(64));
    expect(attempt).toThrow(expect.objectContaining({ ...refusal, message: expect.stringMatching(/ENOENT/) }));
    // It is not made: writing to a file that Gramine does not have would go nowhere.
    expect(existsSync(join(root, 'dev/attestation/user_report_data'))).toBe(false);
    tree({ user_report_data: Buffer.alloc(64), quote: Buffer.alloc((64 << 10) + 1) });
    expect(attempt).toThrow(expect.objectContaining({ ...refusal, hint: expect.stringMatching(/aesmd/) }));
  });
});

describe('whose word counts', () => {
  test.each([undefined, 'none'])('the launcher’s where the type is %s, as SIMULATED', async (type) => {
    const attester = createGramineAttester(tree(type === undefined ? {} : { attestation_type: type }), channel);
    expect(attester).toMatchObject({ tee: 'simulated', securityMode: 'evaluation' });
    expect(Buffer.from(await attester.attest({})).toString()).toBe('of the launcher');
    channel.lock.mockClear();
    await attester.lock();
    expect(channel.lock).toHaveBeenCalledOnce();
  });

  test('never the launcher’s where there is SGX and it does not work', () => {
    const broken: Record<string, string | Uint8Array>[] = [
      { attestation_type: 'dcap' },
      { attestation_type: 'dcap', user_report_data: '', quote: '' },
      { attestation_type: 'dcap', user_report_data: '', quote: Buffer.alloc(5000) },
      { attestation_type: 'epid', user_report_data: '', quote: new FakeIntel().quote() },
      { attestation_type: '', user_report_data: '', quote: new FakeIntel().quote() },
      { attestation_type: 'dcap', user_report_data: '', quote: new FakeIntel().quote({ version: 4, tee: 'tdx' }) },
    ];
    for (const files of broken) {
      const device = tree(files);
      expect(() => createGramineAttester(device, channel)).toThrow(expect.objectContaining(refusal));
      rmSync(join(root, 'dev'), { recursive: true });
    }
  });

  test.skipIf(!haveVectors)('a genuine quote, over what was asked', async () => {
    const device = tree({ attestation_type: 'dcap', user_report_data: '', quote: genuine() });
    const attester = createGramineAttester(device, channel);
    expect(attester).toMatchObject({ tee: 'sgx', securityMode: 'production' });
    writeFileSync(join(root, 'dev/attestation/quote'), genuine(Buffer.alloc(64, 1)));
    expect(await attester.attest({ reportData: Buffer.alloc(64, 1) })).toEqual(genuine(Buffer.alloc(64, 1)));
    // A device that mixes up its callers, or a host that replays.
    await expect(attester.attest({ reportData: Buffer.alloc(64, 2) })).rejects.toMatchObject(refusal);
    await expect(attester.attest({ userData: Buffer.alloc(64, 1) })).rejects.toThrow(TypeError);
  });

  test.skipIf(!haveVectors)('a debug enclave says that its receipts are for evaluation', () => {
    const quote = genuine();
    quote.writeUInt8(quote.readUInt8(48 + 48) | 2, 48 + 48);
    const device = tree({ attestation_type: 'dcap', user_report_data: '', quote });
    expect(createGramineAttester(device, channel).securityMode).toBe('evaluation');
  });
});

describe('an enclave on hardware of our own making', () => {
  const intel = new FakeIntel();
  const measurement = {
    tee: 'sgx',
    mrenclave: '0e'.repeat(32),
    mrsigner: '51'.repeat(32),
    isvprodid: 7,
    isvsvn: 3,
  } as const;
  const quote = (reportData: Uint8Array, flags = 0x05) =>
    intel.quote({
      report(bytes) {
        bytes.fill(0x0e, 64, 96).fill(0x51, 128, 160).writeUInt16LE(7, 256);
        bytes.writeUInt16LE(3, 258);
        bytes.writeUInt8(flags, 48);
        bytes.set(reportData, 320);
      },
    });
  const device = (flags?: number): GramineDevice => ({
    attestationType: () => 'dcap',
    quote: (reportData) => quote(reportData, flags),
  });
  const trust = { endorsements: intel.endorsements(), roots: [intel.certificates.root], allowSimulated: [] };

  test('its evidence binds both keys and the nonce, its receipts say what it measured', async () => {
    const attester = createGramineAttester(device(), channel);
    const identity = await createIdentity(attester);
    expect(identity.measurement).toEqual(measurement);
    const nonce = Buffer.alloc(16, 9);
    const fresh = parseEvidenceFile(await identity.evidenceFile(nonce));
    const { claims, checks } = await verifyEvidence(fresh.evidence, { tee: 'sgx', now: AT, ...trust });
    expect(claims.measurement).toEqual(measurement);
    expect(allPass([...checks, ...checkIdentity(fresh, claims, nonce)])).toBe(true);
    expect(allPass(checkIdentity({ ...fresh, ed25519: Buffer.alloc(32) }, claims, nonce))).toBe(false);

    const sign = createReceiptSigner(CONFIG, identity, attester.securityMode);
    const exact = { request: Buffer.from('question'), response: Buffer.from('answer') };
    const receipt = sign({ ...exact, executionTimeMs: 1 });
    const evidenceFile = parseEvidenceFile(await identity.evidenceFile());
    const judged = await verifyReceiptAgainst({ receipt, evidenceFile, now: AT, ...exact, ...trust });
    expect(judged.checks.filter(({ status }) => status === 'fail')).toEqual([]);
    expect(judged.claims).toMatchObject({
      securityMode: 'production',
      measurements: { measurementType: 'sgx', isvprodid: 7, isvsvn: 3 },
    });
    const other = await verifyReceiptAgainst({ receipt, evidenceFile: fresh, now: AT, ...exact, ...trust });
    expect(other.checks.some(({ status }) => status === 'fail')).toBe(true);
  });

  const owner = newOwner();
  const { mrenclave, mrsigner, isvprodid } = measurement;
  const ask = async (change: Partial<SgxPolicy>, flags?: number) => {
    const world = newBroker({ clock: () => AT, ...trust });
    const any = [{ tee: 'sgx' as const, mrenclave, mrsigner, isvprodid, min_isvsvn: 3, ...change }];
    const sealed = await seal(owner, [world.key], { policy: { any, project: 'echo', model } });
    const released = await requestRelease({
      brokers: [world.post],
      attester: createGramineAttester(device(flags), channel),
      tee: 'sgx',
      header: sealed.parsed,
      measured: { owner: owner.raw, project: 'echo', model },
    });
    return released.equals(sealed.contentKey);
  };

  test('a broker releases the key to it: by its measurement, or by its signer and version', async () => {
    expect(await ask({})).toBe(true);
    expect(await ask({ mrenclave: undefined, min_isvsvn: 2 })).toBe(true);
  });

  test.each<[what: string, change: Partial<SgxPolicy>]>([
    ['another enclave', { mrenclave: '0f'.repeat(32) }],
    ['another signer', { mrenclave: undefined, mrsigner: '52'.repeat(32) }],
    ['another product of the signer', { mrenclave: undefined, isvprodid: 8 }],
    ['an old version', { mrenclave: undefined, min_isvsvn: 4 }],
  ])('a broker refuses %s', async (_, change) => {
    await expect(ask(change)).rejects.toMatchObject({ code: 'ERR_RELEASE_POLICY', exitCode: 4 });
  });

  test('a broker refuses a debug enclave', async () => {
    await expect(ask({}, 0x07)).rejects.toMatchObject({ code: 'ERR_RELEASE_DEBUG', exitCode: 4 });
  });
});

describe('the way to the launcher', () => {
  const variable = (value: string) => ({ ATOMA_TEE_HOST: value });

  test('a port of this machine, and only under Gramine', async () => {
    const server = createServer((socket) => socket.end('hello'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const host = variable(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    // Elsewhere the environment is not asked: nobody measures it.
    await expect(connectHost(root, host)).rejects.toMatchObject({ code: 'ERR_ATTESTER' });
    tree();
    const stream = await connectHost(root, host);
    const heard: Buffer[] = [];
    for await (const chunk of stream) heard.push(chunk as Buffer);
    expect(Buffer.concat(heard).toString()).toBe('hello');
    server.close();
  });

  test.each([
    'localhost:5000',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:0',
    '127.0.0.1:05',
    '127.0.0.1:65536',
    '127.0.0.1:5000 ',
    '127.0.0.1:5000\n',
    '127.0.0.2:5000',
    '10.0.0.1:5000',
    '[::1]:5000',
    'http://127.0.0.1:5000',
    '127.0.0.1:5000/../../run',
  ])('the host’s address %j', async (address) => {
    await expect(connectLauncher(variable(address))).rejects.toMatchObject({ code: 'ERR_ENCLAVE_HOST' });
  });

  test('no launcher, or none any more', async () => {
    await expect(connectLauncher({})).rejects.toMatchObject(refusal);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    await expect(connectLauncher(variable(`127.0.0.1:${port}`))).rejects.toMatchObject(refusal);
  });
});
