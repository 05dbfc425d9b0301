import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/project/config.ts';
import { loadProject } from '../../../src/project/load.ts';
import { REPO, temporaryDirectory } from '../image/fixtures.ts';

const MINIMAL = `name = "digits"
version = "1.0.0"

[model]
path = "model"
owner = "owner.pub"
`;

const refusal = (text: string) => {
  try {
    parseConfig(text, 'enclave.toml');
  } catch (error) {
    return error;
  }
  throw new Error('accepted');
};

describe('enclave.toml', () => {
  test('a minimal one gets the documented defaults', () => {
    expect(parseConfig(MINIMAL, 'enclave.toml')).toEqual({
      name: 'digits',
      version: '1.0.0',
      targets: ['nitro'],
      model: { path: 'model', owner: 'owner.pub' },
      runtime: { kind: 'onnx' },
      nitro: { cpus: 2, memory_mib: 1024, kernel: 'debian' },
    });
  });

  test('everything that the command line contract documents is accepted', () => {
    const full = `${MINIMAL}
[runtime]
kind = "command"
command = ["/app/server", "--model", "/model"]
include = [{ from = "app/", to = "/app" }]
[base]
image = "docker-archive:app.tar"
[nitro]
cpus = 2
memory_mib = 1024
kernel = { file = "bzImage", cmdline = "quiet" }
sign = { cert = "cert.pem", key = "key.pem" }
[gramine]
enclave_size = "4G"
max_threads = 32
debug = false
sign = { key = "sgx.pem" }
`;
    expect(parseConfig(`policy_version = "7"\ntargets = ["nitro", "gramine"]\n${full}`, 'f').policy_version).toBe('7');
  });

  test.each([
    ['nmae = "x"\n', 'enclave.toml:1', 'nmae', 'at the top level', 'name'],
    [`${MINIMAL}pth = "x"\n`, 'enclave.toml:7', 'pth', 'in [model]', 'path'],
    [`${MINIMAL}\n[nitro]\ncpus = 5\nmemroy_mb = 4\n`, 'enclave.toml:10', 'memroy_mb', 'in [nitro]', 'memory_mib'],
    [`${MINIMAL}\n[nitro]\nsign = { crt = "x", key = "y" }\n`, 'enclave.toml:9', 'crt', 'in [nitro.sign]', 'cert'],
    [`[modell]\npath = "x"\n${MINIMAL}`, 'enclave.toml:1', 'modell', 'at the top level', 'model'],
  ])('a misspelt key is named with its place and the nearest one: %j', (text, place, key, table, nearest) => {
    const error = refusal(text);
    expect(error).toMatchObject({ code: 'ERR_CONFIG_UNKNOWN_KEY', exitCode: 2, hint: `did you mean "${nearest}"?` });
    expect((error as Error).message).toBe(`${place}: unknown key "${key}" ${table}`);
  });

  test('a key that is like no other: the known ones are listed too', () => {
    expect(refusal(`${MINIMAL}zzzzzzzzzz = 1\n`)).toMatchObject({
      hint: 'the nearest known key is "path"; known there: path, owner',
    });
  });

  test.each([
    [MINIMAL.replace('name = "digits"\n', ''), /the key "name" is missing/],
    [MINIMAL.replace('path = "model"\n', ''), /the key "model.path" is missing/],
    [MINIMAL.replace('"digits"', '"Digits!"'), /enclave\.toml:1: "name": expected lower-case/],
    [MINIMAL.replace('version = "1.0.0"', 'version = 1'), /enclave\.toml:2: "version"/],
    [`targets = ["sgx"]\n${MINIMAL}`, /enclave\.toml:1: "targets/],
    [`targets = ["nitro", "nitro"]\n${MINIMAL}`, /names a target twice/],
    [`${MINIMAL}[nitro]\ncpus = 0\n`, /enclave\.toml:8: "nitro.cpus"/],
    [
      `${MINIMAL}[runtime]\nkind = "onnx"\nport = 80\n`,
      /enclave\.toml:9: "runtime.port": expected with kind = "command" only/,
    ],
    [
      `${MINIMAL}[base]\nimage = "dir:root"\n`,
      /enclave\.toml:8: "base.image": expected with runtime.kind = "command" only/,
    ],
    [`${MINIMAL}[runtime]\nkind = "command"\n`, /"runtime.command": expected a command, or a base.image that has one/],
    [
      `${MINIMAL}[runtime]\nkind = "command"\ncommand = ["x"]\nmodel = "/"\n`,
      /"runtime.model": expected a directory below/,
    ],
    [`${MINIMAL}[runtime]\nkind = "command"\ncommand = ["x"]\nenv = { "A=B" = "c" }\n`, /"runtime.env/],
  ])('a missing or wrong value is named with its place: %#', (text, message) => {
    const error = refusal(text);
    expect(error).toMatchObject({ code: 'ERR_CONFIG_VALUE', exitCode: 2 });
    expect((error as Error).message).toMatch(message);
  });

  test('a syntax error has line and column', () => {
    const error = refusal('name = "x"\nversion = \n');
    expect(error).toMatchObject({ code: 'ERR_CONFIG_SYNTAX', exitCode: 2 });
    expect((error as Error).message).toMatch(/^enclave\.toml:2:\d+: not TOML/);
  });
});

describe('loading a project', () => {
  const example = () => {
    const dir = join(temporaryDirectory(), 'digits');
    cpSync(join(REPO, 'examples/digits'), dir, { recursive: true });
    return dir;
  };

  test('the example loads; its owner is the raw key', async () => {
    const project = await loadProject(example());
    expect(project).toMatchObject({ name: 'digits', policyVersion: '1.0.0' });
    expect(project.model.owner).toHaveLength(32);
  });

  test('a directory without enclave.toml', async () => {
    await expect(loadProject(temporaryDirectory())).rejects.toMatchObject({
      code: 'ERR_CONFIG_NOT_FOUND',
      exitCode: 2,
    });
  });

  test('a missing owner key, and a file that is no key', async () => {
    const dir = example();
    writeFileSync(join(dir, 'demo-owner.pub'), 'not a key');
    await expect(loadProject(dir)).rejects.toMatchObject({ exitCode: 2 });
    rmSync(join(dir, 'demo-owner.pub'));
    await expect(loadProject(dir)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND', exitCode: 2 });
  });

  test('text that is not UTF-8', async () => {
    const dir = example();
    writeFileSync(join(dir, 'enclave.toml'), Buffer.from([0xff, 0xfe, 0x00]));
    await expect(loadProject(dir)).rejects.toMatchObject({ code: 'ERR_CONFIG_SYNTAX' });
  });
});

describe('[gramine]', () => {
  const gramine = (table: string) => parseConfig(`${MINIMAL}\n[gramine]\n${table}`, 'enclave.toml').gramine;

  test('the documented defaults: no debug enclave, an installed Gramine', () => {
    expect(gramine('')).toEqual({
      ...{ from: 'installed', enclave_size: '4G', max_threads: 32, debug: false, edmm: false },
      ...{ isvprodid: 0, isvsvn: 0 },
    });
  });

  test('signs with a key, a key with a passphrase, or a command and its public key', () => {
    for (const sign of [
      { key: 'sgx.pem' },
      { key: 'sgx.pem', passphrase: 'pass.txt' },
      { signer: 'hsm', public_key: 'sgx.pub' },
    ]) {
      const text = Object.entries(sign).map(([key, value]) => `${key} = "${value}"`);
      expect(gramine(`sign = { ${text.join(', ')} }`)?.sign).toEqual(sign);
    }
  });

  test.each([
    ['a size that is no power of two', 'enclave_size = "3G"'],
    ['a size without a unit', 'enclave_size = "4294967296"'],
    ['no threads', 'max_threads = 0'],
    ['a version beyond 16 bits', 'isvsvn = 65536'],
    ['a negative product', 'isvprodid = -1'],
    ['a signer without its public key', 'sign = { signer = "hsm" }'],
    ['a key and a signer', 'sign = { key = "a", signer = "b", public_key = "c" }'],
    ['a passphrase without a key', 'sign = { passphrase = "a" }'],
    ['nothing to sign with', 'sign = {}'],
    ['debug as text', 'debug = "false"'],
  ])('refuses %s', (_, table) => {
    expect(refusal(`${MINIMAL}\n[gramine]\n${table}`)).toMatchObject({ code: 'ERR_CONFIG_VALUE', exitCode: 2 });
  });

  test('a misspelt key of a signer is named with the nearest one', () => {
    expect(refusal(`${MINIMAL}\n[gramine]\nsign = { sginer = "hsm", public_key = "x" }`)).toMatchObject({
      code: 'ERR_CONFIG_UNKNOWN_KEY',
      hint: 'did you mean "signer"?',
    });
  });
});
