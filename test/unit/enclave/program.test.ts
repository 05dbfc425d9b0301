import { createPrivateKey } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeOnnx } from '../../../bench/onnx-writer.ts';
import { parseEvidenceFile } from '../../../src/attest/evidence-file.ts';
import { checkIdentity } from '../../../src/attest/identity.ts';
import { verifyReceipt } from '../../../src/attest/receipt.ts';
import { verifySimulated } from '../../../src/attest/simulated.ts';
import { createSimulatedAttester } from '../../../src/attest/simulated-attester.ts';
import { createSimulatedRoot, type SimulatedRoot } from '../../../src/attest/simulated-root.ts';
import { Broker, handleBrokerRequest } from '../../../src/broker/index.ts';
import { sha256 } from '../../../src/core/bytes.ts';
import { allPass } from '../../../src/core/check.ts';
import { encodeMeasuredConfig } from '../../../src/core/measured-config.ts';
import type { NitroMeasurement } from '../../../src/core/measurement.ts';
import { call } from '../../../src/enclave/http2.ts';
import { runEnclave } from '../../../src/enclave/program.ts';
import { generateKey, readOwnerPrivateKey, readXWingPrivateKey } from '../../../src/keys/index.ts';
import { type HostServices, serveEnclave } from '../../../src/launch/host.ts';
import { digestModel } from '../../../src/model/digest-files.ts';
import { sealModel } from '../../../src/seal/seal.ts';

// The enclave program against its host, both in this process: no image, no namespaces, the same code and bytes.

const pcr = (byte: string) => byte.repeat(48);
const IMAGE: NitroMeasurement = { tee: 'nitro', pcr0: pcr('01'), pcr1: pcr('02'), pcr2: pcr('03') };
const OTHER: NitroMeasurement = { ...IMAGE, pcr0: pcr('04'), pcr2: pcr('05') };
const pem = (type: 'owner' | 'broker') => Buffer.from(generateKey(type).privatePem);
const owner = readOwnerPrivateKey(pem('owner'));
const broker = readXWingPrivateKey(pem('broker'));
const INPUT = Buffer.from('{"inputs":[{"name":"x","datatype":"INT64","shape":[1],"data":[9007199254740993]}]}');

let simulated: SimulatedRoot;
let directory: string;
let digest: string;
const cleanUp: (() => unknown)[] = [];

beforeAll(async () => {
  simulated = await createSimulatedRoot();
});
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
  const value = (name: string) => ({ name, type: 'INT64' as const, shape: [1] });
  const node = { op: 'Identity', inputs: ['x'], outputs: ['y'] };
  writeFileSync(
    join(directory, 'model.onnx'),
    writeOnnx({ inputs: [value('x')], outputs: [value('y')], nodes: [node] }),
  );
  ({ digest } = await digestModel(join(directory, 'model.onnx')));
});
afterEach(async () => {
  for (const step of cleanUp.splice(0)) await step();
  rmSync(directory, { recursive: true, force: true });
});

const sealed = () => join(directory, 'model.sealed');

/** Seals the model to `image`, as the owner. */
const seal = (image: NitroMeasurement, ownerKey = owner.key, project = 'echo') =>
  sealModel({
    model: join(directory, 'model.onnx'),
    policy: { any: [{ tee: 'simulated', root: simulated.fingerprint, of: image }], project, model: digest },
    ownerKey,
    brokers: [broker.publicRaw],
    threshold: 1,
    out: sealed(),
    created: 1,
    expectDigest: digest,
  });

interface Launch {
  measured?: NitroMeasurement;
  brokerKey?: typeof broker;
  allowSimulated?: string[];
  model?: string;
  modelDigest?: string;
}

/** Starts the program on a root of its own, and its host; `ended` is how the program ends. */
async function launch({
  measured = IMAGE,
  brokerKey = broker,
  allowSimulated,
  model = sealed(),
  modelDigest = digest,
}: Launch = {}) {
  const root = join(directory, 'root');
  mkdirSync(join(root, 'etc/atoma-tee'), { recursive: true });
  mkdirSync(join(root, 'run/atoma'), { recursive: true });
  const config = encodeMeasuredConfig({
    version: 1,
    project: 'echo',
    projectVersion: '1.0.0',
    policyVersion: '7',
    model: { digest: modelDigest, owner: owner.publicRaw.toString('hex') },
    runtime: { kind: 'onnx' },
  });
  writeFileSync(join(root, 'etc/atoma-tee/enclave.json'), config);
  const released = new Broker({ ...brokerKey, allowSimulated: allowSimulated ?? [simulated.fingerprint] });
  const services: HostServices = {
    model,
    brokers: [(path, body) => handleBrokerRequest(released, 'POST', path, body)],
  };
  const attester = createSimulatedAttester(simulated, measured);
  const connected = Promise.withResolvers<Awaited<ReturnType<typeof serveEnclave>>>();
  const server = createServer((socket) => connected.resolve(serveEnclave(socket, services, attester)));
  await new Promise<void>((resolve) => server.listen(join(root, 'run/atoma/host.sock'), resolve));
  const ended = runEnclave(root);
  ended.catch(() => {});
  const channel = await connected.promise;
  cleanUp.push(
    () => channel.close(),
    () => server.close(),
  );
  return { root, ended, ready: channel.ready, attester };
}

describe('a run', () => {
  test('answers, exact integers included; its receipt and evidence verify and bind each other', async () => {
    await seal(IMAGE);
    const { root, ready, attester } = await launch();
    const { session, timings } = await ready;
    expect(Object.keys(timings)).toEqual(['attestation and release', 'model open', 'session']);
    const reply = await call(session, {
      method: 'POST',
      path: '/v2/models/echo/infer',
      headers: { 'atoma-nonce': '0011223344556677' },
      body: INPUT,
    });
    expect(reply.status).toBe(200);
    expect(reply.body.toString()).toContain('"data":[9007199254740993]');

    const evidence = await call(session, { method: 'GET', path: '/.well-known/attestation' });
    const file = parseEvidenceFile(evidence.body);
    const receipt = Buffer.from(String(reply.headers['atoma-receipt']).slice(1, -1), 'base64');
    const verdict = verifyReceipt(receipt, { publicKey: file.ed25519 });
    expect(verdict.failure).toBeUndefined();
    expect(verdict.claims).toMatchObject({
      modelId: 'echo',
      modelVersion: '1.0.0',
      policyVersion: '7',
      sequenceNumber: 1,
      securityMode: 'evaluation',
      modelHashScheme: 'sha256-manifest',
    });
    const bytes = (value: Uint8Array | undefined) => Buffer.from(value ?? []).toString('hex');
    expect(bytes(verdict.claims?.requestHash)).toBe(bytes(sha256(INPUT)));
    expect(bytes(verdict.claims?.responseHash)).toBe(bytes(sha256(reply.body)));
    expect(bytes(verdict.claims?.attestationDocHash)).toBe(bytes(sha256(file.evidence)));
    expect(bytes(verdict.claims?.modelHash)).toBe(digest);
    expect(verdict.claims?.measurements).toMatchObject({ pcr0: new Uint8Array(Buffer.from(IMAGE.pcr0, 'hex')) });
    expect(bytes(verdict.claims?.nonce)).toBe('0011223344556677');

    const nonce = Buffer.alloc(32, 7);
    const fresh = await call(session, {
      method: 'GET',
      path: `/.well-known/attestation?nonce=${nonce.toString('hex')}`,
    });
    const freshFile = parseEvidenceFile(fresh.body);
    const verified = verifySimulated(freshFile.evidence, { allowSimulated: [simulated.fingerprint], now: new Date() });
    expect(allPass([...verified.checks, ...checkIdentity(freshFile, verified.claims, nonce)])).toBe(true);
    expect(freshFile.ed25519).toEqual(file.ed25519);

    // The plaintext was in the enclave's memory only, and is gone; and no further release is possible.
    expect(existsSync(join(root, 'run/model'))).toBe(false);
    expect(readFileSync(sealed()).includes('Identity')).toBe(false);
    expect(await attester.attest({})).toBeDefined();
  });

  test('ends when its host hangs up', async () => {
    await seal(IMAGE);
    const { ready, ended } = await launch();
    const { session } = await ready;
    expect((await call(session, { method: 'GET', path: '/v2/health/live' })).status).toBe(200);
    for (const step of cleanUp.splice(0)) await step();
    await ended;
  });

  test('a body that is too large is a 413, and the next request is served', async () => {
    await seal(IMAGE);
    const { session } = await (await launch()).ready;
    const huge = call(session, { method: 'POST', path: '/v2/models/echo/infer', body: Buffer.alloc(17 << 20, 0x20) });
    expect((await huge).status).toBe(413);
    const reply = await call(session, { method: 'POST', path: '/v2/models/echo/infer', body: INPUT });
    expect(reply.status).toBe(200);
  });
});

describe('refused, and the host hears why', () => {
  async function refusedWith(options: Launch, expected: object) {
    const { ready, ended, root } = await launch(options);
    await expect(ready).rejects.toMatchObject(expected);
    await expect(ended).rejects.toMatchObject(expected);
    expect(existsSync(join(root, 'run/model'))).toBe(false);
  }

  test('another image than the one sealed to', async () => {
    await seal(OTHER);
    await refusedWith({}, { exitCode: 4, code: expect.stringMatching(/^ERR_RELEASE_/) });
  });

  test('simulated evidence at a production broker', async () => {
    await seal(IMAGE);
    await refusedWith({ allowSimulated: [] }, { exitCode: 4, code: expect.stringMatching(/^ERR_RELEASE_/) });
  });

  test('the wrong broker', async () => {
    await seal(IMAGE);
    await refusedWith(
      { brokerKey: readXWingPrivateKey(pem('broker')) },
      { exitCode: 4, code: 'ERR_RELEASE_RECIPIENT' },
    );
  });

  test("another owner's signature", async () => {
    await seal(IMAGE, createPrivateKey(pem('owner')));
    await refusedWith({}, { exitCode: 3, code: 'ERR_SEAL_OWNER' });
  });

  test('a model other than the one that the image measured', async () => {
    await seal(IMAGE);
    await refusedWith({ modelDigest: 'ab'.repeat(32) }, { exitCode: 3 });
  });

  test('another project', async () => {
    await seal(IMAGE, owner.key, 'other');
    await refusedWith({}, { exitCode: 3 });
  });

  test.each([
    ['in its header', 100],
    ['in its payload', -4000],
  ])('a sealed model with a flipped byte %s', async (_, at) => {
    await seal(IMAGE);
    const bytes = readFileSync(sealed());
    const index = at < 0 ? bytes.length + at : at;
    bytes.writeUInt8(bytes.readUInt8(index) ^ 1, index);
    writeFileSync(sealed(), bytes);
    await refusedWith({}, { code: expect.stringMatching(/^ERR_(SEAL|CBOR|COSE|POLICY)_/) });
  });

  test('a truncated sealed model', async () => {
    await seal(IMAGE);
    writeFileSync(sealed(), readFileSync(sealed()).subarray(0, -1));
    await refusedWith({}, { exitCode: 2, code: 'ERR_SEAL_TRUNCATED' });
  });
});

test('without a host there is no enclave', async () => {
  const root = join(directory, 'alone');
  mkdirSync(join(root, 'etc/atoma-tee'), { recursive: true });
  await expect(runEnclave(root)).rejects.toThrow();
});
