/** A sealed model handed to unmodified programs: protected files by the command line, read by Gramine itself where it is installed. */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readXWingPublicKey } from '../../src/keys/keys.ts';
import { digestModel } from '../../src/model/index.ts';
import { sealModel } from '../../src/seal/index.ts';
import { newOwner, policy, xwing } from '../unit/seal/fixture.ts';
import { atomaTee, ok, scratch } from './cli.ts';

/** The prefix of an installed Gramine 1.9, with its Python tools. */
const prefix = process.env.ATOMA_TEE_GRAMINE || '/usr';
const gramine = (name: string) => join(prefix, 'bin', name);
const haveGramine = existsSync(gramine('gramine-sgx-pf-crypt')) && existsSync(gramine('gramine-direct'));
if (!haveGramine) console.warn(`no Gramine under ${prefix}: its programs read none of our files (ATOMA_TEE_GRAMINE)`);

const { dir, remove } = scratch();
afterAll(remove);
const at = (...path: string[]) => join(dir, ...path);
const files: Record<string, Buffer> = {
  'config.json': Buffer.from('{}'),
  empty: Buffer.alloc(0),
  'weights/two-levels.bin': randomBytes(3072 + 4096 * 97),
  'weights/three-levels.bin': randomBytes(27_000_001),
};
const sums = Object.fromEntries(
  Object.entries(files).map(([name, bytes]) => [name, createHash('sha256').update(bytes).digest('hex')]),
);
const unsealArgs = (out: string, ...more: string[]) => [
  ...['unseal', 'model.sealed', '--key', 'recovery.key', '--out', out],
  ...['--format', 'gramine-pf', '--wrap-key', 'wrap.key', '--json', ...more],
];

beforeAll(async () => {
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(dirname(at('plain', name)), { recursive: true });
    writeFileSync(at('plain', name), bytes);
  }
  writeFileSync(at('wrap.key'), randomBytes(16), { mode: 0o600 });
  ok(atomaTee(['keygen', '--type', 'recovery', '--out', at('recovery.key')]));
  const { digest } = await digestModel(at('plain'));
  await sealModel({
    model: at('plain'),
    policy: { ...policy, model: digest },
    ownerKey: newOwner().key,
    brokers: [xwing().publicRaw],
    threshold: 1,
    recovery: readXWingPublicKey(readFileSync(at('recovery.key.pub'))).raw,
    out: at('model.sealed'),
    created: 1_800_000_000,
    expectDigest: digest,
  });
});

describe('unseal --format gramine-pf', () => {
  test('writes a directory of protected files and says where Gramine opens them', () => {
    const result = ok(atomaTee(unsealArgs('model'), { cwd: dir })).json;
    expect(result).toMatchObject({ out: 'model', files: 4, protectedFiles: { path: 'model', version: 1 } });
    for (const name of Object.keys(files)) {
      expect(readFileSync(at('model', name)).toString('latin1', 0, 9)).toBe('GRAFS_PF\x01');
    }
    ok(atomaTee(unsealArgs('model2', '--pf-version', '2'), { cwd: dir }));
  });

  test('without a wrap key: exit 2, and nothing appears', () => {
    const args = ['unseal', 'model.sealed', '--key', 'recovery.key', '--out', 'none', '--format', 'gramine-pf'];
    expect(atomaTee(args, { cwd: dir })).toMatchObject({ code: 2, stderr: expect.stringContaining('ERR_USAGE') });
    expect(existsSync(at('none'))).toBe(false);
  });
});

describe.skipIf(!haveGramine)("Gramine's own programs", () => {
  test.each(['model', 'model2'])('gramine-sgx-pf-crypt decrypts %s, paths checked', (model) => {
    const args = ['decrypt', '--verify', '-w', 'wrap.key', '-i', model, '-o', `${model}.back`];
    const { status, stdout, stderr } = spawnSync(gramine('gramine-sgx-pf-crypt'), args, { cwd: dir, encoding: 'utf8' });
    expect({ status, output: status === 0 ? '' : stdout + stderr }).toEqual({ status: 0, output: '' });
    for (const [name, bytes] of Object.entries(files)) {
      expect(readFileSync(at(`${model}.back`, name)).equals(bytes)).toBe(true);
    }
  });

  // The shell is no part of the contract: it stands for whatever provisions the key before the program opens its model.
  function readInGramine(model: string, key: Uint8Array) {
    const octal = [...key].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
    const names = Object.keys(files).map((name) => `/model/${name}`);
    const script = `printf '${octal}' > /dev/attestation/keys/model && exec sha256sum ${names.join(' ')}`;
    const libos = ['lib/x86_64-linux-gnu', 'lib']
      .map((lib) => join(prefix, lib, 'gramine/libsysdb.so'))
      .find(existsSync);
    writeFileSync(
      at('reader.manifest'),
      [
        `loader.entrypoint.uri = "file:${libos}"`,
        'libos.entrypoint = "/bin/sh"',
        `loader.argv = ["sh", "-c", ${JSON.stringify(script)}]`,
        'loader.log_level = "error"',
        'loader.env.LD_LIBRARY_PATH = "/lib/x86_64-linux-gnu:/lib64"',
        'loader.env.PATH = "/usr/bin:/bin"',
        'fs.root = { type = "chroot", uri = "file:/" }',
        `fs.mounts = [{ type = "encrypted", path = "/model", uri = "file:${model}", key_name = "model" }]`,
        'sgx.file_check_policy = "allow_all_but_log"',
        '',
      ].join('\n'),
    );
    const { status, stdout } = spawnSync(gramine('gramine-direct'), ['reader'], { cwd: dir, encoding: 'utf8' });
    // Gramine sends what the program says on standard error to standard output.
    return { status, output: stdout };
  }

  test.each(['model', 'model2'])('an unmodified program reads %s through an encrypted mount', (model) => {
    const { status, output } = readInGramine(model, readFileSync(at('wrap.key')));
    const expected = Object.entries(sums).map(([name, sum]) => `${sum}  /model/${name}`);
    expect({ status, read: output.trim().split('\n') }).toEqual({ status: 0, read: expected });
  });

  test('with another key, or at another place than they were made for, it reads nothing', () => {
    renameSync(at('model2'), at('elsewhere'));
    for (const [model, key] of [
      ['model', Buffer.alloc(16, 'x')],
      ['elsewhere', readFileSync(at('wrap.key'))],
    ] as const) {
      const { status, output } = readInGramine(model, key);
      expect(status).not.toBe(0);
      expect(output.trim().split('\n')).toEqual(
        Object.keys(files).map((name) => expect.stringMatching(`${name}: Permission denied$`)),
      );
    }
  });
});
