import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { writeOnnx } from '../../../bench/onnx-writer.ts';
import { parseEvidenceFile } from '../../../src/attest/evidence-file.ts';
import { createSimulatedRoot, type SimulatedRoot } from '../../../src/attest/simulated-root.ts';
import { verifyReceiptAgainst } from '../../../src/attest/verify-receipt.ts';
import { Broker, handleBrokerRequest } from '../../../src/broker/index.ts';
import { AtomaError } from '../../../src/core/errors.ts';
import { generateKey, readOwnerPrivateKey, readXWingPrivateKey } from '../../../src/keys/index.ts';
import { type GramineOptions, launchGramine } from '../../../src/launch/gramine.ts';
import { gramineBootError } from '../../../src/launch/gramine-failure.ts';
import { findGramine } from '../../../src/launch/gramine-find.ts';
import { listenOnLoopback } from '../../../src/launch/listen.ts';
import { digestModel } from '../../../src/model/digest-files.ts';
import { sealModel } from '../../../src/seal/seal.ts';
import { asOrdinaryUser, isRoot } from '../../ordinary-user.ts';
import { fakeGramine, gramineImage, RUNS, type TestImage } from './gramine-stand-in.ts';

const owner = readOwnerPrivateKey(Buffer.from(generateKey('owner').privatePem));
const broker = readXWingPrivateKey(Buffer.from(generateKey('broker').privatePem));
const INPUT = Buffer.from('{"inputs":[{"name":"x","datatype":"INT64","shape":[1],"data":[9007199254740993]}]}');
const NO_DEVICE = '/nonexistent/sgx_enclave';

let directory: string;
let simulated: SimulatedRoot;
let image: TestImage;
let digest: string;
const at = (...path: string[]) => join(directory, ...path);
let count = 0;
const fresh = (): string => at(`case-${++count}`);

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
  simulated = await createSimulatedRoot();
  const value = (name: string) => ({ name, type: 'INT64' as const, shape: [1] });
  const node = { op: 'Identity', inputs: ['x'], outputs: ['y'] };
  writeFileSync(at('model.onnx'), writeOnnx({ inputs: [value('x')], outputs: [value('y')], nodes: [node] }));
  ({ digest } = await digestModel(at('model.onnx')));
  image = await newImage();
  await seal(at('model.sealed'), {});
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const newImage = () => {
  const path = fresh();
  mkdirSync(path);
  return gramineImage(path, { digest, owner: owner.publicRaw.toString('hex') });
};

async function seal(out: string, change: { mrenclave?: string }): Promise<void> {
  const { mrenclave, mrsigner, isvprodid } = image.measurement;
  const of = { tee: 'sgx' as const, mrenclave, mrsigner, isvprodid, min_isvsvn: 0, ...change };
  await sealModel({
    model: at('model.onnx'),
    policy: { any: [{ tee: 'simulated', root: simulated.fingerprint, of }], project: 'echo', model: digest },
    ownerKey: owner.key,
    brokers: [broker.publicRaw],
    threshold: 1,
    out,
    created: 1,
    expectDigest: digest,
  });
}

function launch(gramine: string, options: Partial<GramineOptions> & { model?: string } = {}) {
  const { model = at('model.sealed'), ...rest } = options;
  const released = new Broker({ ...broker, allowSimulated: [simulated.fingerprint] });
  return launchGramine({
    manifest: image.manifest,
    gramine,
    sgxDevice: NO_DEVICE,
    root: async () => simulated,
    host: { model, brokers: [(path, body) => handleBrokerRequest(released, 'POST', path, body)] },
    ...rest,
  });
}

const alive = (pid: string | undefined): boolean => existsSync(`/proc/${pid}/stat`);

describe('a run', () => {
  test('measures, starts, releases, answers; receipt and evidence say what SGX would have measured; nothing is left', async () => {
    const gramine = fakeGramine(fresh());
    const before = readdirSync(join(image.manifest, '..')).sort();
    const log: string[] = [];
    const notes: string[] = [];
    process.env.SECRET_OF_THE_HOST = 'x';
    const enclave = await launch(gramine.prefix, {
      onLog: (line) => log.push(line),
      onNote: (text) => notes.push(text),
    });
    delete process.env.SECRET_OF_THE_HOST;
    const measurement = { tee: 'simulated', root: simulated.fingerprint, of: image.measurement };
    expect(enclave.measurement).toEqual(measurement);
    expect(enclave.launcher).toEqual({ kind: 'gramine', mode: 'direct', version: '1.9', debug: false });
    expect(Object.keys(enclave.timings).slice(0, 2)).toEqual(['measure', 'boot to program']);
    expect(notes.join()).toMatch(/gramine-direct: no SGX/);
    // What the shell of the script adds is its own.
    expect(log).toContainEqual(expect.stringMatching(/^environment: .*ATOMA_TEE_HOST LC_ALL .*PATH/));
    expect(log.join('\n')).not.toContain('SECRET_OF_THE_HOST');
    expect(log.join('\n')).toMatch(/no SGX under this Gramine: SIMULATED evidence/);

    const reply = await enclave.request({ method: 'POST', path: '/v2/models/echo/infer', body: INPUT });
    expect(reply.body.toString()).toContain('"data":[9007199254740993]');
    const evidence = await enclave.request({ method: 'GET', path: '/.well-known/attestation' });
    const judged = await verifyReceiptAgainst({
      receipt: Buffer.from(String(reply.headers['atoma-receipt']).slice(1, -1), 'base64'),
      evidenceFile: parseEvidenceFile(evidence.body),
      request: INPUT,
      response: reply.body,
      allowSimulated: [simulated.fingerprint],
      now: new Date(),
    });
    expect(judged.checks.filter(({ status }) => status === 'fail')).toEqual([]);
    expect(judged.evidence.measurement).toEqual(measurement);
    expect(judged.claims).toMatchObject({ securityMode: 'evaluation', measurements: { measurementType: 'sgx' } });

    const [[pid, program, cwd, ...args] = []] = gramine.started();
    expect([program, args]).toEqual([join(gramine.prefix, 'bin/gramine-direct'), ['echo']]);
    expect(alive(pid)).toBe(true);
    await enclave.stop();
    await enclave.exited;
    expect(alive(pid)).toBe(false);
    expect(existsSync(cwd ?? '')).toBe(false);
    expect(readdirSync(join(image.manifest, '..')).sort()).toEqual(before);
  });

  test('a model that is sealed to another enclave', async () => {
    await seal(at('other.sealed'), { mrenclave: 'ff'.repeat(32) });
    const gramine = fakeGramine(fresh());
    const refused = { code: 'ERR_RELEASE_POLICY', exitCode: 4 };
    await expect(launch(gramine.prefix, { model: at('other.sealed') })).rejects.toMatchObject(refused);
    expect(alive(gramine.started()[0]?.[0])).toBe(false);
  });

  test('where there is SGX, the launcher vouches for nobody', async () => {
    const gramine = fakeGramine(fresh());
    const root = vi.fn(async () => simulated);
    const launched = launch(gramine.prefix, { sgxDevice: '/dev/null', root });
    await expect(launched).rejects.toMatchObject({ code: 'ERR_ENCLAVE_HOST' });
    expect(gramine.started()[0]?.[1]).toBe(join(gramine.prefix, 'bin/gramine-sgx'));
    expect(root).not.toHaveBeenCalled();
  });
});

describe('refused before anything runs', () => {
  type Tamper = (file: (path: string) => string) => void;
  const flip = (path: string, offset: number) => {
    const bytes = readFileSync(path);
    bytes.writeUInt8(bytes.readUInt8(offset) ^ 1, offset);
    writeFileSync(path, bytes);
  };
  test.each<[what: string, code: string, tamper: Tamper]>([
    ['a manifest that is another', 'ERR_SIGSTRUCT_OTHER', (file) => appendFileSync(file('echo.manifest.sgx'), '# x\n')],
    ['a libpal.so that is another', 'ERR_SIGSTRUCT_OTHER', (file) => flip(file('echo.gramine/libpal.so'), 0x800)],
    ['a signature that is nobody’s', 'ERR_SIGSTRUCT_SIGNATURE', (file) => flip(file('echo.sig'), 0x204)],
    ['a version that nobody signed', 'ERR_SIGSTRUCT_SIGNATURE', (file) => flip(file('echo.sig'), 0x402)],
    ['quotients that are wrong', 'ERR_SIGSTRUCT_SIGNATURE', (file) => flip(file('echo.sig'), 0x410)],
    ['a libsysdb.so that is another', 'ERR_GRAMINE_FILE_DIGEST', (file) => flip(file('echo.gramine/libsysdb.so'), 0)],
    [
      'a measured configuration that is another',
      'ERR_GRAMINE_FILE_DIGEST',
      (file) => appendFileSync(file('echo.gramine/root/etc/atoma-tee/enclave.json'), ' '),
    ],
    [
      'any other file that is another',
      'ERR_GRAMINE_FILE_DIGEST',
      (file) => appendFileSync(file('echo.gramine/root/app/data'), ' '),
    ],
    [
      'any other file that is gone',
      'ERR_GRAMINE_TRUSTED_MISSING',
      (file) => rmSync(file('echo.gramine/root/app/data')),
    ],
    [
      'a measured configuration that is gone',
      'ERR_FILE_NOT_FOUND',
      (file) => rmSync(file('echo.gramine/root'), { recursive: true }),
    ],
  ])('%s', async (_, code, tamper) => {
    const other = await newImage();
    tamper((path) => join(other.manifest, '..', path));
    const gramine = fakeGramine(fresh());
    await expect(launch(gramine.prefix, { manifest: other.manifest })).rejects.toMatchObject({ code });
    expect(gramine.started()).toEqual([]);
  });

  test('what the caller does not accept', async () => {
    const gramine = fakeGramine(fresh());
    const accept = (found: { measurement: unknown }) => {
      expect(found.measurement).toEqual(image.measurement);
      throw new AtomaError('negative', 'ERR_IMAGE_OWNER', 'another owner');
    };
    await expect(launch(gramine.prefix, { accept })).rejects.toMatchObject({ code: 'ERR_IMAGE_OWNER' });
    expect(gramine.started()).toEqual([]);
  });

  test('an installed gramine-sgx whose libpal.so is not the measured one', async () => {
    const gramine = fakeGramine(fresh());
    writeFileSync(join(gramine.prefix, 'libpal.so'), 'another');
    const launched = launch(gramine.prefix, { sgxDevice: '/dev/null' });
    await expect(launched).rejects.toMatchObject({ code: 'ERR_GRAMINE', hint: expect.stringMatching(/gramine\.from/) });
    expect(gramine.started()).toEqual([]);
  });
});

describe('Gramine that is not there', () => {
  test('is named, with how to get it', () => {
    const empty = fresh();
    mkdirSync(empty);
    const missing = { code: 'ERR_GRAMINE_MISSING', exitCode: 5, hint: expect.stringMatching(/install Gramine/) };
    const find = (options: object) => () => findGramine({ sgxDevice: NO_DEVICE, ...options });
    expect(find({ gramine: empty })).toThrow(expect.objectContaining(missing));
    vi.stubEnv('PATH', empty);
    vi.stubEnv('ATOMA_TEE_GRAMINE', '');
    expect(find({})).toThrow(expect.objectContaining(missing));
    const installed = fakeGramine(fresh()).prefix;
    vi.stubEnv('ATOMA_TEE_GRAMINE', installed);
    expect(find({})()).toMatchObject({
      mode: 'direct',
      program: join(installed, 'bin/gramine-direct'),
      version: '1.9',
    });
    vi.unstubAllEnvs();
  });

  test('gramine-direct alone does not stand in for gramine-sgx on a machine with SGX', () => {
    const { prefix } = fakeGramine(fresh(), RUNS, ['gramine-direct']);
    expect(() => findGramine({ gramine: prefix, sgxDevice: '/dev/null' })).toThrow(
      expect.objectContaining({ code: 'ERR_GRAMINE_MISSING', message: expect.stringMatching(/gramine-sgx .*SGX/) }),
    );
  });
});

describe('Gramine that fails', () => {
  test('ends before the program: its words, and what they mean', async () => {
    const behaviour = "echo 'error: Cannot open /dev/sgx_enclave (Permission denied (EACCES)).' >&2; exit 1";
    const gramine = fakeGramine(fresh(), behaviour);
    await expect(launch(gramine.prefix)).rejects.toMatchObject({
      code: 'ERR_GRAMINE_SGX',
      exitCode: 5,
      details: { status: 1, console: [expect.stringMatching(/EACCES/)] },
    });
  });

  test('says nothing and does nothing: it is ended', async () => {
    const gramine = fakeGramine(fresh(), 'exec sleep 600');
    await expect(launch(gramine.prefix, { bootTimeoutMs: 300 })).rejects.toMatchObject({ code: 'ERR_ENCLAVE_SILENT' });
    expect(alive(gramine.started()[0]?.[0])).toBe(false);
  });

  // As Gramine 1.9 words them (pal/src/host/linux-sgx, libos/src/fs/chroot).
  test.each([
    ["warning: Disallowing access to file 'libfoo.so.1'; file is not allowed.", 'ERR_GRAMINE', /build the image again/],
    [
      "[P1:T1:node] warning: Hash of trusted file 'x' does not match with the reference hash in manifest",
      'ERR_GRAMINE',
      /measured/,
    ],
    [
      'error: Cannot connect to AESM service (tried /var/run/aesmd/aesm.socket and abstract UNIX sockets).',
      'ERR_GRAMINE_AESM',
      /aesmd/,
    ],
    ['error: Enclave initialization IOCTL failed: Invalid measurement', 'ERR_GRAMINE', /libpal/],
    ['error: Cannot open sigstruct file echo.sig', 'ERR_GRAMINE', /signed/],
    [
      'FATAL ERROR: Committing semi space failed. Allocation failed - JavaScript heap out of memory',
      'ERR_ENCLAVE_MEMORY',
      /enclave_size/,
    ],
    ['error: libos_init() failed in init_fs: Invalid argument (EINVAL)', 'ERR_GRAMINE', undefined],
    [
      '/usr/bin/node: error while loading shared libraries: libstdc++.so.6: cannot open shared object file: No such file or directory',
      'ERR_GRAMINE',
      /trusted_files/,
    ],
    ["  path: '/app/program.mjs'", 'ERR_GRAMINE', /trusted_files/],
    ['something else', 'ERR_ENCLAVE_ENDED', undefined],
  ])('%s', (line, code, hint) => {
    const tail = [
      'Gramine is starting. Parsing TOML manifest file, this may take some time...',
      line,
      'Emulating a raw syscall.',
    ];
    const error = gramineBootError({ stage: 'nothing', status: 1, tail, modules: [] }, 'the enclave ended');
    expect(error).toMatchObject({ code, message: expect.stringContaining(line) });
    expect(error.hint ?? '').toMatch(hint ?? /^$/);
  });

  test('the program’s own words count more', () => {
    const tail = ['error: libos_init() failed', 'atoma-tee: ERR_SEAL_OWNER: expected ...'];
    const facts = { stage: 'program' as const, status: 3, tail, modules: [], error: 'ERR_SEAL_OWNER: expected ...' };
    expect(gramineBootError(facts, 'the enclave ended')).toMatchObject({
      code: 'ERR_ENCLAVE_ENDED',
      message: expect.stringMatching(/ERR_SEAL_OWNER/),
    });
  });
});

describe('the port', () => {
  const late = () => new Error('late');

  test('takes one connection of this user’s', async () => {
    const listener = await listenOnLoopback();
    const [, port] = listener.address.split(':');
    const client = connect({ host: '127.0.0.1', port: Number(port) });
    const socket = await listener.connection(10_000, late);
    client.end('hello');
    const heard: Buffer[] = [];
    for await (const chunk of socket) heard.push(chunk as Buffer);
    expect(Buffer.concat(heard).toString()).toBe('hello');
    const second = spawnSync(process.execPath, [
      '-e',
      `require('node:net').connect(${port}, '127.0.0.1').on('error', () => process.exit(7))`,
    ]);
    expect(second.status).toBe(7);
  });

  test.skipIf(!isRoot)('another user of the machine cannot pass for the enclave', async () => {
    const listener = await listenOnLoopback();
    const [, port] = listener.address.split(':');
    const script = `const s = require('node:net').connect(${port}, '127.0.0.1'); s.on('connect', () => console.log('in')); s.on('close', () => process.exit(6)); s.on('error', () => {}); s.write('I am the enclave');`;
    const [file = '', ...args] = asOrdinaryUser([process.execPath, '-e', script]);
    const stranger = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const status = await new Promise((resolve) => stranger.once('exit', resolve));
    expect(status).toBe(6);
    const client = connect({ host: '127.0.0.1', port: Number(port) });
    const socket = await listener.connection(10_000, late);
    expect(socket.remotePort).toBe(client.localPort);
    client.destroy();
    socket.destroy();
  });
});
