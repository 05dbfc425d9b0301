import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestModel } from '../../../src/model/index.ts';
import { inspectSealed, type SealOptions, sealModel, unsealFile, verifySealed } from '../../../src/seal/index.ts';
import { newOwner, policy, xwing } from './fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-seal-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const at = (...names: string[]) => join(dir, ...names);
const owner = newOwner();
const broker = xwing();
const recovery = xwing();
const files: Record<string, Buffer> = {
  'big.bin': randomBytes(12 * 2 ** 20 + 12_345), // more segments than one thread does
  empty: Buffer.alloc(0),
  'sub/a': Buffer.from('a'),
  'sub/exact': randomBytes(2 ** 20),
};
let digest: string;

beforeAll(async () => {
  mkdirSync(at('model', 'sub'), { recursive: true });
  for (const [name, bytes] of Object.entries(files)) writeFileSync(at('model', name), bytes, { mode: 0o640 });
  digest = (await digestModel(at('model'))).digest;
});

const options = (out: string, more: Partial<SealOptions> = {}): SealOptions => ({
  model: at('model'),
  policy: { ...policy, model: digest },
  ownerKey: owner.key,
  brokers: [broker.publicRaw],
  threshold: 1,
  recovery: recovery.publicRaw,
  out: at(out),
  created: 1_800_000_000,
  expectDigest: digest,
  ...more,
});
const leftovers = (name: string) => readdirSync(dir).filter((entry) => entry.includes(name));

describe('seal and unseal', () => {
  test('round trip: contents, modes, digest; by recovery key and, with threshold 1, by the broker', async () => {
    const phases = new Set<string>();
    const sealed = await sealModel(options('m.sealed', { onProgress: (e) => phases.add(e.phase) }));
    expect(sealed).toMatchObject({
      digest,
      epoch: 1,
      files: 4,
      owner: owner.publicRaw.toString('hex'),
      size: statSync(at('m.sealed')).size,
    });
    expect(phases).toEqual(new Set(['sealing']));
    expect(leftovers('.partial')).toEqual([]);
    for (const key of [recovery, broker]) {
      const opened = await unsealFile({ sealed: at('m.sealed'), key, owner: owner.publicRaw, out: at('opened') });
      expect(opened).toMatchObject({ digest, files: 4, sealId: sealed.sealId, owner: sealed.owner });
      for (const [name, bytes] of Object.entries(files))
        expect(readFileSync(at('opened', name)).equals(bytes)).toBe(true);
      expect(statSync(at('opened', 'sub', 'a')).mode & 0o777).toBe(0o640);
      expect(leftovers('.partial')).toEqual([]);
      rmSync(at('opened'), { recursive: true });
    }
  });

  test('a single file, an only-empty file', async () => {
    for (const name of ['a', 'empty']) {
      const model = name === 'a' ? at('model', 'sub', 'a') : at('model', 'empty');
      const expectDigest = (await digestModel(model)).digest;
      await sealModel(options('one.sealed', { model, expectDigest }));
      const opened = await unsealFile({ sealed: at('one.sealed'), key: recovery, out: at('one') });
      expect(opened.digest).toBe(expectDigest);
      expect(readdirSync(at('one'))).toEqual([name]);
      rmSync(at('one'), { recursive: true });
    }
  });

  test('many small files, more than a segment of them', async () => {
    mkdirSync(at('many'));
    for (let i = 0; i < 400; i++) writeFileSync(at('many', `f${i}`), Buffer.alloc(4096 + i, i));
    const expectDigest = (await digestModel(at('many'))).digest;
    await sealModel(options('many.sealed', { model: at('many'), expectDigest }));
    expect((await unsealFile({ sealed: at('many.sealed'), key: recovery, out: at('many2') })).digest).toBe(
      expectDigest,
    );
    expect(() => execFileSync('diff', ['-r', at('many'), at('many2')])).not.toThrow();
  });

  test('large files in parts of their own, on several threads', async () => {
    mkdirSync(at('large'));
    for (const [name, size] of [
      ['a', 64 * 2 ** 20 + 1],
      ['b', 10],
      ['c', 65 * 2 ** 20],
    ] as const) {
      writeFileSync(at('large', name), name);
      truncateSync(at('large', name), size);
    }
    const expectDigest = (await digestModel(at('large'))).digest;
    await sealModel(options('large.sealed', { model: at('large'), expectDigest }));
    expect(await inspectSealed(at('large.sealed'))).toMatchObject({ parts: [{}, {}, {}] });
    await unsealFile({ sealed: at('large.sealed'), key: recovery, out: at('large2') });
    expect(() => execFileSync('diff', ['-r', at('large'), at('large2')])).not.toThrow();
  });

  test('two seals of one model share no byte of payload', async () => {
    const [a, b] = ['a.sealed', 'b.sealed'].map((name) => options(name, { model: at('model', 'sub', 'exact') }));
    const expectDigest = (await digestModel(at('model', 'sub', 'exact'))).digest;
    if (a && b) for (const o of [a, b]) await sealModel({ ...o, expectDigest });
    const [x, y] = ['a.sealed', 'b.sealed'].map((name) => readFileSync(at(name)));
    let equal = 0;
    for (let i = 8192; i < 8192 + 2 ** 20; i += 16)
      if (x?.subarray(i, i + 16).equals(y?.subarray(i, i + 16) ?? Buffer.alloc(0))) equal++;
    expect(equal).toBe(0);
  });

  test('inspect: everything public, file names only with a key', async () => {
    const plain = JSON.stringify(await inspectSealed(at('m.sealed')));
    expect(JSON.parse(plain)).toMatchObject({
      kind: 'sealed',
      epoch: 1,
      verified: false,
      policy: { project: 'digits' },
      parts: [{}],
    });
    expect(plain).not.toContain('big.bin');
    const opened = (await inspectSealed(at('m.sealed'), recovery)) as { files: { path: string }[] };
    expect(opened.files.map((f) => f.path)).toEqual(['big.bin', 'empty', 'sub/a', 'sub/exact']);
  });

  test('verify: by owner alone, and with a key to the last byte', async () => {
    const status = async (o: Parameters<typeof verifySealed>[1]) => {
      const { checks } = await verifySealed(at('m.sealed'), o);
      return Object.fromEntries(checks.map((c) => [c.id.slice(5), c.status]));
    };
    expect(await status({ owner: owner.publicRaw })).toEqual({
      owner: 'pass',
      'owner-signature': 'pass',
      index: 'pass',
      contents: 'skipped',
    });
    expect(await status({ owner: newOwner().publicRaw, key: recovery })).toEqual({
      owner: 'fail',
      'owner-signature': 'pass',
      index: 'pass',
      'content-key': 'pass',
      contents: 'pass',
      model: 'pass',
    });
    expect(await status({ key: xwing() })).toMatchObject({ 'content-key': 'fail', contents: 'skipped' });
  });
});

describe('seal refuses', () => {
  test('a model other than the one the image measured', async () => {
    const wrong = sealModel(options('x.sealed', { expectDigest: '00'.repeat(32) }));
    await expect(wrong).rejects.toMatchObject({ code: 'ERR_SEAL_MODEL_MISMATCH', exitCode: 3 });
    expect(leftovers('x.sealed')).toEqual([]);
  });

  test('thresholds, no broker, the same key twice', async () => {
    await expect(sealModel(options('x.sealed', { threshold: 2 }))).rejects.toMatchObject({
      code: 'ERR_SEAL_THRESHOLD',
      exitCode: 2,
    });
    for (const brokers of [[], [recovery.publicRaw], [broker.publicRaw, broker.publicRaw]]) {
      await expect(sealModel(options('x.sealed', { brokers }))).rejects.toMatchObject({
        code: 'ERR_SEAL_RECIPIENTS',
        exitCode: 2,
      });
    }
  });

  test('source changed during sealing: grown, rewritten, replaced, removed', async () => {
    const model = at('moving');
    const changes: (() => void)[] = [
      () => appendFileSync(join(model, 'b'), 'x'),
      () => writeFileSync(join(model, 'b'), Buffer.alloc(9 * 2 ** 20, 2)),
      () => {
        rmSync(join(model, 'b'));
        writeFileSync(join(model, 'b'), Buffer.alloc(9 * 2 ** 20, 1));
      },
      () => rmSync(join(model, 'b')),
      () => {
        rmSync(join(model, 'b'));
        symlinkSync('a', join(model, 'b'));
      },
    ];
    for (const change of changes) {
      rmSync(model, { recursive: true, force: true });
      mkdirSync(model);
      writeFileSync(join(model, 'a'), 'a');
      writeFileSync(join(model, 'b'), Buffer.alloc(9 * 2 ** 20, 1));
      const expectDigest = (await digestModel(model)).digest;
      const sealing = sealModel(options('x.sealed', { model, expectDigest }));
      // The files are listed and the output is there before the first of them is read.
      while (!existsSync(at('x.sealed.partial'))) await setTimeout(1);
      change();
      await expect(sealing).rejects.toMatchObject({ code: 'ERR_SEAL_SOURCE_CHANGED', exitCode: 2 });
      expect(leftovers('x.sealed')).toEqual([]);
    }
  });
});

describe('interrupted', () => {
  test('an aborted seal or unseal leaves nothing', async () => {
    const abort = new AbortController();
    const sealing = sealModel(options('x.sealed', { signal: abort.signal, onProgress: () => abort.abort() }));
    await expect(sealing).rejects.toMatchObject({ code: 'ERR_INTERRUPTED', exitCode: 1 });
    expect(leftovers('x.sealed')).toEqual([]);
    const opening = unsealFile({
      sealed: at('m.sealed'),
      key: recovery,
      out: at('x.out'),
      signal: AbortSignal.abort(),
    });
    await expect(opening).rejects.toMatchObject({ code: 'ERR_INTERRUPTED', exitCode: 1 });
    expect(leftovers('x.out')).toEqual([]);
  });

  test('a disk that fills up (a small tmpfs): ERR_DISK_FULL, nothing left', async (context) => {
    mkdirSync(at('disk'));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', at('disk')], { stdio: 'ignore' });
    } catch {
      return context.skip('mounting needs root');
    }
    try {
      await expect(sealModel(options('disk/x.sealed'))).rejects.toMatchObject({ code: 'ERR_DISK_FULL', exitCode: 1 });
      expect(readdirSync(at('disk'))).toEqual([]);
      const opening = unsealFile({ sealed: at('m.sealed'), key: recovery, out: at('disk', 'out') });
      await expect(opening).rejects.toMatchObject({ code: 'ERR_DISK_FULL', exitCode: 1 });
      expect(readdirSync(at('disk'))).toEqual([]);
    } finally {
      execFileSync('umount', [at('disk')]);
    }
  });

  test('SIGKILL in the middle of seal and of unseal: at most a partial, which the next run replaces', async () => {
    const script = (call: string) => `
      import { createPrivateKey } from 'node:crypto';
      import { sealModel, unsealFile } from ${JSON.stringify(join(import.meta.dirname, '../../../src/seal/index.ts'))};
      const onProgress = (e) => { if (e.done > 0) { process.stdout.write('x'); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); } };
      const hex = (text) => Buffer.from(text, 'hex');
      await ${call};`;
    const seal = (
      progress: string,
    ) => `sealModel({ model: ${JSON.stringify(at('model'))}, policy: ${JSON.stringify({ ...policy, model: digest })},
      ownerKey: createPrivateKey(${JSON.stringify(owner.key.export({ format: 'pem', type: 'pkcs8' }))}), brokers: [hex('${broker.publicRaw.toString('hex')}')],
      threshold: 1, out: ${JSON.stringify(at('k.sealed'))}, created: 1, expectDigest: '${digest}', ${progress} })`;
    const unseal = `unsealFile({ sealed: ${JSON.stringify(at('m.sealed'))}, key: { seed: hex('${recovery.seed.toString('hex')}'),
      publicRaw: hex('${recovery.publicRaw.toString('hex')}') }, out: ${JSON.stringify(at('k.out'))}, onProgress })`;
    for (const call of [seal('onProgress'), unseal]) await killed(script(call));
    expect(leftovers('k.')).toEqual([expect.stringMatching(/^\.k\.out\.\d+-[0-9a-f]+\.partial$/), 'k.sealed.partial']);
    // In a process that has nothing else to do, and must still end by itself.
    writeFileSync(at('script.mjs'), script(seal(`recovery: hex('${recovery.publicRaw.toString('hex')}')`)));
    execFileSync(process.execPath, [at('script.mjs')]);
    await unsealFile({ sealed: at('k.sealed'), key: recovery, out: at('k.out') });
    expect(leftovers('k.')).toEqual(['k.out', 'k.sealed']);
  });

  /** Runs a script until it writes something, then kills it. */
  async function killed(source: string): Promise<void> {
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', source],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    await new Promise((done, fail) => {
      child.stdout.once('data', done);
      child.once('exit', () => fail(new Error('it ended before it could be killed')));
    });
    child.kill('SIGKILL');
    await new Promise((done) => child.once('close', done));
  }
});

describe('unseal refuses', () => {
  const refuse = async (code: string, exitCode: number, more: object) => {
    const opening = unsealFile({ sealed: at('m.sealed'), key: recovery, out: at('y'), ...more });
    await expect(opening).rejects.toMatchObject({ code, exitCode });
    expect(leftovers('y').filter((name) => name.includes('.y.') || name === 'y')).toEqual([]);
  };

  test("a wrong key, another owner's model, a missing file, a directory", async () => {
    await refuse('ERR_SEAL_RECIPIENT', 3, { key: xwing() });
    await refuse('ERR_SEAL_SHARE', 3, { key: { seed: xwing().seed, publicRaw: recovery.publicRaw } });
    await refuse('ERR_SEAL_OWNER', 3, { owner: newOwner().publicRaw });
    await refuse('ERR_FILE_NOT_FOUND', 2, { sealed: at('none') });
    await refuse('ERR_FILE_KIND', 2, { sealed: at('model') });
    await refuse('ERR_SEAL_MAGIC', 2, { sealed: at('model', 'big.bin') });
    await refuse('ERR_SEAL_MAGIC', 2, { sealed: at('model', 'empty') });
  });

  test('an output that exists', async () => {
    mkdirSync(at('z'));
    await refuse('ERR_UNSEAL_EXISTS', 2, { out: at('z') });
  });
});
