import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readXWingPublicKey } from '../../src/keys/keys.ts';
import { digestModel } from '../../src/model/index.ts';
import { sealModel } from '../../src/seal/index.ts';
import { buildFiles, fragile, newPart, sealedOf, statement } from '../unit/artifact/fixture.ts';
import { digestOf } from '../unit/oci/images.ts';
import { haveRegistry, startRegistry, type TestRegistry } from '../unit/oci/registries.ts';
import { newOwner, policy, xwing } from '../unit/seal/fixture.ts';
import { atomaTee, ok, root, scratch } from './cli.ts';

const MIB = 1 << 20;
const digestOfFile = (path: string): string => digestOf(readFileSync(path));

/** Of the files in a directory, holes aside. */
const bytesOnDisk = (dir: string): number =>
  readdirSync(dir).reduce((sum, name) => sum + statSync(join(dir, name)).blocks * 512, 0);

/** The command line, beside servers of this process. */
function start(args: string[]) {
  const child = spawn(join(root, 'bin/atoma-tee'), [...args, '--json'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  const ended = new Promise<{ code: number | null; signal: string | null; text: string }>((resolve) =>
    child.on('close', (code, signal) => resolve({ code, signal, text })),
  );
  return { child, ended };
}

describe.skipIf(!haveRegistry)("push and pull, with Debian's docker-registry", () => {
  const { dir, remove } = scratch();
  let registry: TestRegistry;
  beforeAll(async () => {
    mkdirSync(join(dir, 'registry'));
    registry = await startRegistry(join(dir, 'registry'));
  });
  afterAll(async () => {
    await registry?.stop();
    remove();
  });
  const file = (name: string) => join(dir, name);

  test('of the next version of a model only the part that changed moves, both ways', async () => {
    const model = file('versions');
    mkdirSync(model);
    const large = 66 * MIB;
    writeFileSync(join(model, 'weights'), randomBytes(large));
    const key = xwing();
    const owner = newOwner();
    const seal = async (name: string, text: string) => {
      writeFileSync(join(model, 'labels'), text);
      const { digest } = await digestModel(model);
      return sealModel({
        model,
        policy: { ...policy, model: digest },
        ownerKey: owner.key,
        brokers: [xwing().publicRaw],
        threshold: 1,
        recovery: key.publicRaw,
        out: file(name),
        created: 1_800_000_000,
        expectDigest: digest,
        ...(name === 'v1' ? {} : { reuse: { sealed: file('v1'), key } }),
      });
    };
    await seal('v1', 'one');
    await seal('v2', 'two');
    const push = (name: string) =>
      ok(atomaTee(['push', file(name), `${registry.host}/models/versions:${name}`, '--json'])).json;
    expect(push('v1').moved).toBeGreaterThan(large);
    const second = push('v2');
    expect(second.moved).toBeLessThan(MIB);
    expect(second.skipped).toBeGreaterThan(large);
    const pulled = ok(
      atomaTee([
        ...['pull', `${registry.host}/models/versions:v2`, '--out', file('v2.pulled'), '--reuse', file('v1'), '--json'],
      ]),
    ).json;
    expect(pulled.moved).toBeLessThan(MIB);
    expect(digestOfFile(file('v2.pulled'))).toBe(digestOfFile(file('v2')));
  });

  test('a sealed model goes there and back, and opens; its build manifest too', async () => {
    const model = file('model');
    mkdirSync(model);
    for (const name of ['a', 'b']) writeFileSync(join(model, name), Buffer.alloc(3 * MIB, name));
    ok(atomaTee(['keygen', '--type', 'recovery', '--out', file('recovery.key')]));
    const owner = newOwner();
    const digest = (await digestModel(model)).digest;
    await sealModel({
      model,
      policy: { ...policy, model: digest },
      ownerKey: owner.key,
      brokers: [xwing().publicRaw],
      threshold: 1,
      recovery: readXWingPublicKey(readFileSync(file('recovery.key.pub'))).raw,
      out: file('model.sealed'),
      created: 1_800_000_000,
      expectDigest: digest,
    });
    const manifest = file('build.intoto.json');
    writeFileSync(manifest, statement({ modelDigest: digest, owner: owner.publicRaw.toString('hex') }));
    const reference = `${registry.host}/models/whole:1`;
    const pushed = ok(atomaTee(['push', file('model.sealed'), reference, '--manifest', manifest, '--json'])).json;
    expect(pushed).toMatchObject({ reference, parts: 1, skipped: 0, manifest: { signed: false } });
    const human = ok(atomaTee(['push', file('model.sealed'), reference]));
    expect(human.stdout).toMatch(/pushed .*models\/whole:1[\s\S]*moved +0 B/);

    const out = file('pulled.sealed');
    const args = [
      'pull',
      `${registry.host}/models/whole@${pushed.digest}`,
      '--out',
      out,
      '--manifest',
      file('got.json'),
    ];
    expect(ok(atomaTee([...args, '--json'])).json).toMatchObject({
      digest: pushed.digest,
      // The build manifest and the empty configuration beside it count where they are pushed.
      moved: pushed.moved - readFileSync(manifest).length - 2,
      ownerChecked: false,
      manifest: { verified: false },
    });
    expect(digestOfFile(out)).toBe(digestOfFile(file('model.sealed')));
    expect(digestOfFile(file('got.json'))).toBe(digestOfFile(manifest));
    ok(atomaTee(['unseal', out, '--key', file('recovery.key'), '--out', file('opened')]));
    expect(digestOfFile(file('opened/b'))).toBe(digestOfFile(file('model/b')));
  });

  test('a pull that is killed, or interrupted, goes on where it was', async () => {
    const sealed = sealedOf([newPart(6 * MIB), newPart(5 * MIB)]);
    const path = file('big.sealed');
    writeFileSync(path, sealed.bytes);
    ok(atomaTee(['push', path, `${registry.host}/models/big:1`]));
    const here = file('here');
    mkdirSync(here);
    const out = join(here, 'x.sealed');
    // Two transfers hold up to a megabyte each that is not in the file yet.
    for (const [signal, allowance] of [
      ['SIGKILL', 6 * MIB],
      ['SIGINT', 2 * MIB],
    ] as const) {
      const line = await fragile(registry.host, 'down');
      line.stalls = true;
      line.allowance = allowance;
      const { child, ended } = start(['pull', `${line.host}/models/big:1`, '--out', out]);
      await expect.poll(() => line.breaks, { timeout: 60_000 }).toBeGreaterThan(0);
      await expect.poll(() => bytesOnDisk(here), { timeout: 60_000 }).toBeGreaterThan(3 * MIB);
      child.kill(signal);
      const { text } = await ended;
      const [left, ...others] = readdirSync(here);
      expect(others).toEqual([]);
      if (signal === 'SIGKILL') expect(left).toMatch(/^\.x\.sealed\.\d+-[0-9a-f]{12}\.pull\.partial$/);
      else expect([left, JSON.parse(text).error.code]).toEqual(['x.sealed.pull.partial', 'ERR_INTERRUPTED']);
    }
    const pulled = ok(atomaTee(['pull', `${registry.host}/models/big:1`, '--out', out, '--json'])).json;
    expect(pulled.kept).toBeGreaterThan(2 * MIB);
    expect(digestOfFile(out)).toBe(digestOf(sealed.bytes));
    expect(readdirSync(here)).toEqual(['x.sealed']);
  });

  test('a push that is killed is repeated without what has arrived', async () => {
    const parts = [newPart(2 * MIB), newPart(2 * MIB), newPart(6 * MIB)];
    const sealed = sealedOf(parts);
    const path = file('pushed.sealed');
    writeFileSync(path, sealed.bytes);
    const line = await fragile(registry.host, 'up');
    line.stalls = true;
    line.allowance = 7 * MIB;
    const { child, ended } = start(['push', path, `${line.host}/models/killed:1`]);
    await expect.poll(() => line.breaks, { timeout: 60_000 }).toBeGreaterThan(0);
    child.kill('SIGKILL');
    await ended;
    expect(atomaTee(['pull', `${registry.host}/models/killed:1`, '--out', file('none'), '--json'])).toMatchObject({
      code: 2,
      json: { error: { code: 'ERR_OCI_NOT_FOUND' } },
    });
    const again = ok(atomaTee(['push', path, `${registry.host}/models/killed:1`, '--json'])).json;
    // The third part is begun when one of the first two has arrived.
    expect(again.skipped).toBeGreaterThan(2 * MIB);
    expect(again.moved + again.skipped).toBe(
      parts.reduce((sum, { bytes }) => sum + bytes.length, sealed.header.length + sealed.index.length),
    );
  });

  test('bad usage: exit 2, and why', () => {
    const reference = `${registry.host}/models/x:1`;
    expect(atomaTee(['pull', reference, '--json']).json.error.code).toBe('ERR_USAGE');
    expect(atomaTee(['push', file('none'), reference, '--json']).json.error.code).toBe('ERR_FILE_NOT_FOUND');
    expect(atomaTee(['push', buildFiles(), reference, '--json']).json.error.code).toBe('ERR_SEAL_MAGIC');
    expect(atomaTee(['pull', 'models/x', '--out', 'x', '--json']).json.error.code).toBe('ERR_OCI_REFERENCE');
  });
});
